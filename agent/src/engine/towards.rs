//! What the engine has in mind for one node's prefix: `sextant trace`.

use sextant_proto::{NodeName, NodeState, Peer, Prefix, Revision};

use super::{Engine, Pending};
use crate::{
    cluster::Verdicts,
    kernel::{KernelError, RouteTarget},
    settings::Direct,
    uplinks::{self, LocalUplink, ways},
};

/// What should lead to a node, by what this agent knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Towards {
    /// Why it does, or does not.
    pub stance: Stance,
    /// The node's host prefix, if it is known.
    pub prefix: Option<Prefix>,
    /// What the agent's route to it should do, if it should have one.
    pub wanted: Option<RouteTarget>,
    /// What is to be changed about that route and is not.
    pub pending: Vec<Pending>,
    /// Nothing is changed until a resume.
    pub paused: bool,
    /// What the agent knows.
    pub revision: Revision,
}

/// How the agent stands to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stance {
    /// It has a route of its own to it.
    Direct,
    /// It is not on-link, or direct routes are off: the router has the route.
    Router,
    /// Its agent is gone, and its host does not answer.
    Dead,
    /// It has not announced itself, or takes no traffic any more.
    NotReady(NodeState),
    /// This node itself is drained, or about to be.
    Withdrawn,
    /// No node of this name is known.
    Unknown,
}

impl Engine {
    pub(super) async fn towards(&self, node: &NodeName) -> Result<Towards, KernelError> {
        let (input, verdicts) = (self.input.borrow().clone(), self.verdicts.borrow().clone());
        let (links, addresses) = (self.kernel.links().await?, self.kernel.addresses().await?);
        let uplinks = uplinks::local_uplinks(&self.settings.uplinks, &links, &addresses);
        let (paused, revision) = (input.view.control().paused, input.view.revision());
        let Some(peer) = input.view.peer(node) else {
            let (stance, wanted) = (Stance::Unknown, None);
            return Ok(Towards { stance, prefix: None, wanted, pending: vec![], paused, revision });
        };
        let desired = self.desired_over(&uplinks, &input, &verdicts);
        let metric = self.settings.routes.metric;
        let to_it = desired
            .routes
            .iter()
            .find(|(key, _)| (key.destination, key.metric) == (peer.prefix, metric))
            .map(|(_, target)| target.clone());
        Ok(Towards {
            stance: stance(peer, input.withdrawn, self.settings.routes.direct, &uplinks, &verdicts),
            prefix: Some(peer.prefix),
            wanted: to_it,
            pending: self.preview(Some(peer.prefix)).await?.changes,
            paused,
            revision,
        })
    }
}

fn stance(
    peer: &Peer,
    withdrawn: bool,
    direct: Direct,
    uplinks: &[LocalUplink],
    verdicts: &Verdicts,
) -> Stance {
    if withdrawn {
        Stance::Withdrawn
    } else if peer.state != NodeState::Ready {
        Stance::NotReady(peer.state)
    } else if direct == Direct::Never || ways(uplinks, peer).next().is_none() {
        Stance::Router
    } else if verdicts.is_dead(peer) {
        Stance::Dead
    } else {
        Stance::Direct
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sextant_proto::{InterfaceAddress, Uplink};

    use super::*;
    use crate::cluster::Verdict;

    fn peer() -> Peer {
        Peer {
            name: "host2".parse().unwrap(),
            prefix: "2001:db8:1:2::/64".parse().unwrap(),
            claimed: Revision(2),
            pool: "main".parse().unwrap(),
            state: NodeState::Ready,
            next_hops: vec!["2001:db8::2".parse().unwrap()],
            session: false,
            drain_timeout: Duration::ZERO,
        }
    }

    fn uplinks(on_link: &str) -> Vec<LocalUplink> {
        let on_link: Prefix = on_link.parse().unwrap();
        let addresses = vec![InterfaceAddress { addr: on_link.first_host(), on_link }];
        let uplink = Uplink { interface: "eth0".into(), addresses };
        vec![LocalUplink { link: 2, works: true, uplink, link_local: None }]
    }

    #[test]
    fn each_stance_has_its_reason() {
        let dead = Verdicts::from([("host2".parse().unwrap(), Verdict::Dead)]);
        let draining = Peer { state: NodeState::Draining, ..peer() };
        let back = Peer { session: true, ..peer() };
        let (here, elsewhere) = (uplinks("2001:db8::/64"), uplinks("2001:db8:f::/64"));
        let (on_link, none) = (Direct::OnLink, Verdicts::default());
        for (expected, seen) in [
            (Stance::Direct, stance(&peer(), false, on_link, &here, &none)),
            (Stance::Direct, stance(&back, false, on_link, &here, &dead)),
            (Stance::Dead, stance(&peer(), false, on_link, &here, &dead)),
            (Stance::Router, stance(&peer(), false, on_link, &elsewhere, &dead)),
            (Stance::Router, stance(&peer(), false, Direct::Never, &here, &none)),
            (Stance::NotReady(NodeState::Draining), stance(&draining, false, on_link, &here, &none)),
            (Stance::Withdrawn, stance(&draining, true, on_link, &here, &none)),
        ] {
            assert_eq!(seen, expected);
        }
    }
}
