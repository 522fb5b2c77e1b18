//! All that the desired routes depend on, as it was when they were computed. Pure.

use std::{net::Ipv6Addr, sync::Arc};

use sextant_proto::Claim;

use super::inputs::Latest;
use crate::{
    cluster::{Verdicts, View},
    routes::{Imports, Infrastructure, Known},
    settings::Settings,
    uplinks::{Gateways, LocalUplink},
};

/// All that the desired routes depend on, but for the settings.
#[derive(Debug, Clone, Default)]
pub(super) struct Basis {
    pub(super) claims: Vec<Claim>,
    pub(super) view: Arc<View>,
    pub(super) withdrawn: bool,
    pub(super) controllers: Vec<Ipv6Addr>,
    pub(super) verdicts: Arc<Verdicts>,
    pub(super) imports: Arc<Imports>,
    pub(super) uplinks: Arc<Vec<LocalUplink>>,
    pub(super) gateways: Arc<Gateways>,
    /// Of those and the controllers.
    pub(super) infrastructure: Arc<Infrastructure>,
}

impl Basis {
    /// What `before` has already is taken from there.
    pub(super) fn new(
        latest: &Latest,
        uplinks: Arc<Vec<LocalUplink>>,
        gateways: Arc<Gateways>,
        before: &Self,
    ) -> Self {
        let input = &latest.input;
        let is_same = before.controllers == input.controllers
            && is_one(&before.uplinks, &uplinks)
            && is_one(&before.gateways, &gateways);
        let infrastructure = match is_same {
            true => before.infrastructure.clone(),
            false => Arc::new(Infrastructure::of(&uplinks, &gateways, &input.controllers)),
        };
        Self {
            claims: input.claims.clone(),
            view: input.view.clone(),
            withdrawn: input.withdrawn,
            controllers: input.controllers.clone(),
            verdicts: latest.verdicts.clone(),
            imports: latest.imports.clone(),
            uplinks,
            gateways,
            infrastructure,
        }
    }

    /// It, with the settings.
    pub(super) fn known<'a>(&'a self, settings: &'a Settings) -> Known<'a> {
        Known {
            node: &settings.node,
            claims: &self.claims,
            view: &self.view,
            uplinks: &self.uplinks,
            gateways: &self.gateways,
            infrastructure: &self.infrastructure,
            controllers: &self.controllers,
            withdrawn: self.withdrawn,
            verdicts: &self.verdicts,
            imports: &self.imports,
            settings: &settings.routes,
        }
    }

    /// Whether both are the same for sure.
    pub(super) fn is(&self, other: &Self) -> bool {
        // What is one in memory is the same; to compare all of it would take as long as to compute the routes again.
        Arc::ptr_eq(&self.view, &other.view)
            && Arc::ptr_eq(&self.verdicts, &other.verdicts)
            && Arc::ptr_eq(&self.imports, &other.imports)
            && self.claims == other.claims
            && self.withdrawn == other.withdrawn
            && self.controllers == other.controllers
            && is_one(&self.uplinks, &other.uplinks)
            && is_one(&self.gateways, &other.gateways)
    }
}

/// Whether both are equal; what is one in memory is.
fn is_one<T: PartialEq>(one: &Arc<T>, other: &Arc<T>) -> bool {
    Arc::ptr_eq(one, other) || one == other
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_change_makes_another_basis() {
        let basis = Basis::default();
        assert!(basis.is(&basis.clone()));
        for changed in [
            Basis { withdrawn: true, ..basis.clone() },
            Basis { controllers: vec![Ipv6Addr::LOCALHOST], ..basis.clone() },
            Basis { view: Arc::default(), ..basis.clone() },
            Basis { verdicts: Arc::default(), ..basis.clone() },
            Basis { imports: Arc::default(), ..basis.clone() },
        ] {
            assert!(!changed.is(&basis), "{changed:?}");
        }
    }
}
