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
    pub(super) uplinks: Vec<LocalUplink>,
    pub(super) gateways: Arc<Gateways>,
    /// Of those and the controllers.
    pub(super) infrastructure: Infrastructure,
}

impl Basis {
    pub(super) fn new(latest: &Latest, uplinks: Vec<LocalUplink>, gateways: Arc<Gateways>) -> Self {
        let input = &latest.input;
        let infrastructure = Infrastructure::of(&uplinks, &gateways, &input.controllers);
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
            && self.uplinks == other.uplinks
            && (Arc::ptr_eq(&self.gateways, &other.gateways) || self.gateways == other.gateways)
    }
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
