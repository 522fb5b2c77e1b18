//! Whose addresses are probed in the name of a node: its own ones alone (DESIGN I14). Pure.

use std::net::Ipv6Addr;

use sextant_proto::NodeName;

use crate::cluster::View;

/// The target is not the node's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{target} is in no prefix that node {node} holds; it is not probed")]
pub(crate) struct Elsewhere {
    node: NodeName,
    target: Ipv6Addr,
}

/// Whether `target` is known to be of `node`. Of a node that the agent does not know yet, nothing is.
pub(super) fn is_of(node: &NodeName, target: Ipv6Addr, view: &View) -> Result<bool, Elsewhere> {
    match view.peer(node) {
        None => Ok(false),
        Some(peer) if peer.claims.iter().any(|claim| claim.prefix.contains(target)) => Ok(true),
        Some(_) => Err(Elsewhere { node: node.clone(), target }),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sextant_proto::{NodeState, Peer, PeerClaim, Revision};

    use super::*;
    use crate::routes::fixture::{pool, view};

    fn peer(number: u8) -> Peer {
        let prefix = format!("2001:db8:8000:{number}::/64").parse().unwrap();
        Peer {
            name: format!("h{number}").parse().unwrap(),
            claims: vec![PeerClaim::current(prefix, pool().name, Revision(1), NodeState::Ready)],
            next_hops: vec![],
            session: true,
            drain_timeout: Duration::ZERO,
        }
    }

    #[test]
    fn i14_only_addresses_of_the_node_are_probed() {
        let (known, other) = (peer(2), peer(3));
        let [own, of_other] = [&known, &other].map(|peer| peer.claims[0].prefix.first_host());
        let (name, view) = (known.name.clone(), view(vec![pool()], vec![known, other]));
        assert_eq!(is_of(&name, own, &view), Ok(true));
        for target in [of_other, "2001:db8::1".parse().unwrap(), "::1".parse().unwrap()] {
            let error = is_of(&name, target, &view).unwrap_err();
            assert!(error.to_string().contains("in no prefix that node"), "{error}");
        }
        let unknown = "h77".parse().unwrap();
        assert_eq!(is_of(&unknown, own, &view), Ok(false));
    }
}
