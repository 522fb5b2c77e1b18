//! The routes that this host should have.

use std::{collections::BTreeSet, sync::Arc};

use sextant_proto::{Claim, NodeState, Peer, PeerClaim, Prefix};

use super::{
    Assessment, Entry, Known, PeerState, ReceivedPath, RouteMap, Unreached,
    aggregates::refused_pools,
    imported::{Reserved, import},
    known::own_state,
    subjects::{Subject, Subjects},
};
use crate::{
    kernel::{RouteKey, RouteTarget},
    settings::RouteSettings,
};

/// The routes that should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desired {
    /// All of them.
    pub routes: RouteMap,
    /// Imported prefixes without a route: their next hop is on none of the uplinks.
    pub unresolved: usize,
    /// Peers without a path.
    pub unreached: Unreached,
}

/// The input of the routes to one destination that lies beyond that destination. It is computed once for all of them.
#[derive(Debug, Clone)]
pub struct Context {
    /// The pools that are refused.
    refused: Vec<Prefix>,
    reserved: Reserved,
}

/// The routes that this host should have (DESIGN §2, I11): one to each announced peer that is on-link, and is not dead;
/// unreachable routes for the dead, for the host's own prefixes and for the pools; and imported ones.
///
/// It is the sum of [`desired_at`] over all destinations, and assesses each peer once.
pub fn desired(known: &Known<'_>) -> Desired {
    let refused: Vec<_> = refused_pools(known).collect();
    let mut routes: Vec<Entry> = known.claims.iter().flat_map(|claim| own(known, claim)).collect();
    routes.reserve(known.view.peers().size_hint().0);
    let (mut off_link, mut unreached) = (BTreeSet::new(), Unreached::default());
    for peer in known.view.peers() {
        let assessment = Assessment::of(known, peer);
        off_link.extend(left_out(&assessment, peer));
        unreached.assessed(known, peer, &assessment);
        for claim in &peer.claims {
            let state = assessment.of_claim(known, claim);
            unreached.claim_assessed(peer, claim, state);
            routes.extend(to_claim(known, &refused, claim, state, &assessment));
        }
    }
    let context = Context::with(known, refused, off_link);
    routes.extend(context.refused.iter().map(|prefix| unreachable(known, *prefix)));
    let imported =
        known.imports.routes.iter().filter_map(|(prefix, path)| context.import(known, *prefix, path));
    let mut unresolved = 0;
    for route in imported {
        unresolved += usize::from(route.is_none());
        routes.extend(route);
    }
    Desired { routes: routes.into(), unresolved, unreached }
}

/// The routes to `destination` that this host should have.
pub fn desired_at(
    known: &Known<'_>,
    context: &Context,
    subjects: &Subjects<'_>,
    destination: Prefix,
) -> Vec<Entry> {
    let of = |subject: &Subject<'_>| -> Vec<Entry> {
        match subject {
            Subject::Own(claim) => own(known, claim).collect(),
            Subject::Peer(peer, claim) => {
                let assessment = Assessment::of(known, peer);
                let state = assessment.of_claim(known, claim);
                to_claim(known, &context.refused, claim, state, &assessment).into_iter().collect()
            }
            Subject::Pool(pool) => {
                let refused = context.refused.contains(&pool.prefix);
                refused.then(|| unreachable(known, pool.prefix)).into_iter().collect()
            }
            Subject::Import(path) => context.import(known, destination, path).flatten().into_iter().collect(),
        }
    };
    subjects.at(destination).iter().flat_map(of).collect()
}

impl Context {
    /// The context of this state; counts all peers.
    pub fn of(known: &Known<'_>) -> Self {
        let off_link = known.view.peers().flat_map(|peer| left_out(&Assessment::of(known, peer), peer));
        Self::with(known, refused_pools(known).collect(), off_link.collect())
    }

    fn with(known: &Known<'_>, refused: Vec<Prefix>, off_link: BTreeSet<Prefix>) -> Self {
        Self { reserved: Reserved::of(known, &refused, off_link), refused }
    }

    /// The route to an imported prefix; `None` if it must not be imported, `Some(None)` if it has no usable next hop.
    fn import(&self, known: &Known<'_>, prefix: Prefix, path: &Arc<ReceivedPath>) -> Option<Option<Entry>> {
        (!self.reserved.covers(prefix)).then(|| import(known, prefix, path))
    }
}

/// The prefixes of a peer to which only a router may have a route.
fn left_out<'a>(assessment: &Assessment, peer: &'a Peer) -> impl Iterator<Item = Prefix> + use<'a> {
    let off_link = assessment.state == PeerState::OffLink;
    peer.ready_claims().filter(move |_| off_link).map(|claim| claim.prefix)
}

/// The addresses of the own prefix that no bridge has are refused; and the prefix is marked while it may be exported.
fn own(known: &Known<'_>, claim: &Claim) -> impl Iterator<Item = Entry> + use<> {
    let usable = known.infrastructure.inside_own(claim.prefix).is_none();
    let ready = own_state(known.node, claim, known.view) == Some(NodeState::Ready);
    let mark = known.settings.mark.filter(|_| ready && !known.withdrawn).map(|mark| {
        let key = RouteKey { table: mark.table, destination: claim.prefix, metric: mark.metric };
        (key, RouteTarget::Unreachable)
    });
    std::iter::once(unreachable(known, claim.prefix)).chain(mark).filter(move |_| usable)
}

fn unreachable(known: &Known<'_>, destination: Prefix) -> Entry {
    let RouteSettings { table, unreachable_metric, .. } = *known.settings;
    (RouteKey { table, destination, metric: unreachable_metric }, RouteTarget::Unreachable)
}

fn to_claim(
    known: &Known<'_>,
    refused: &[Prefix],
    claim: &PeerClaim,
    state: PeerState,
    assessment: &Assessment,
) -> Option<Entry> {
    let RouteSettings { table, metric, .. } = *known.settings;
    // The same key for both, so that one takes the other's place in one step.
    let target = match state {
        PeerState::Direct | PeerState::ThroughGateway => assessment.hops.clone().map(RouteTarget::Via),
        PeerState::Dead => Some(RouteTarget::Unreachable),
        // Neither its pool is refused, nor does a router announce it: it alone is.
        PeerState::OffLink => {
            let left = refused.iter().any(|pool| pool.covers(claim.prefix))
                || known.imports.routes.contains_key(&claim.prefix);
            (!left).then_some(RouteTarget::Unreachable)
        }
        _ => None,
    };
    target.map(|target| (RouteKey { table, destination: claim.prefix, metric }, target))
}

#[cfg(test)]
mod one_node;
#[cfg(test)]
mod tests;
