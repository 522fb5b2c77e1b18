//! Routes of other processes that take packets from an agent's.

use std::fmt;

use sextant_proto::{Conflict, NodeName, PoolName};

use super::Trouble;
use crate::answer::{Cluster, Node};

/// The owner of the packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Loser {
    Node(NodeName),
    /// The node that has the route, with its containers.
    Itself,
    /// Its unassigned addresses.
    Pool(PoolName),
    Unknown,
}

/// The trouble of a conflict at `node`; a route to a reserved prefix is none.
pub(super) fn trouble(cluster: &Cluster, node: &NodeName, conflict: &Conflict) -> Option<Trouble> {
    let loser = loser(cluster, node, conflict);
    let to = conflict.destination;
    let is_reserved = || cluster.reserved.iter().any(|reserved| reserved.covers(to));
    let intended = matches!(loser, Loser::Pool(_)) && is_reserved();
    (!intended).then(|| Trouble::Conflict { node: node.clone(), conflict: conflict.clone(), loser })
}

fn loser(cluster: &Cluster, at: &NodeName, conflict: &Conflict) -> Loser {
    let ours = conflict.ours.unwrap_or(conflict.destination);
    let holds = |node: &&Node| node.peer.claims.iter().any(|claim| claim.prefix.covers(ours));
    let node = cluster.nodes.iter().find(holds).map(|node| match node.name() {
        name if name == at => Loser::Itself,
        name => Loser::Node(name.clone()),
    });
    let pool = || cluster.pools.iter().find(|it| it.pool.prefix == ours);
    node.or_else(|| pool().map(|it| Loser::Pool(it.pool.name.clone()))).unwrap_or(Loser::Unknown)
}

/// What follows from a route to this destination, and the fix.
pub(super) fn fix(f: &mut fmt::Formatter<'_>, conflict: &Conflict, loser: &Loser) -> fmt::Result {
    let to = conflict.destination;
    match loser {
        Loser::Node(node) => write!(f, ", so packets to node {node} take it")?,
        Loser::Itself => write!(f, ", so packets to containers of this node take it")?,
        Loser::Pool(pool) => write!(f, ", so packets to unassigned addresses of pool {pool} take it")?,
        Loser::Unknown => {}
    }
    write!(
        f,
        "; unless this is intended, see on that host: ip -6 route show table all {to}; if the route leads to an interface of that \
         host, keep it and give the containers or hosts there another prefix; otherwise remove it where it is configured"
    )?;
    // All of the pool, or more, is not for a reservation.
    let is_part = conflict.ours.is_some_and(|pool| pool != to && pool.covers(to));
    match loser {
        Loser::Pool(_) if is_part => {
            write!(f, "; if it is intended, keep the prefix from nodes: sextant reserve {to}")
        }
        Loser::Pool(_) | Loser::Node(_) | Loser::Itself | Loser::Unknown => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{answer::sample, troubles::troubles};

    /// The text of the trouble with a route to `to` that takes packets from ours to `ours`.
    fn text(to: &str, ours: &str, reserved: &[&str]) -> Option<String> {
        let mut cluster = sample::healthy();
        cluster.reserved = reserved.iter().map(|it| it.parse().unwrap()).collect();
        let conflict = Conflict {
            destination: to.parse().unwrap(),
            protocol: "kernel".into(),
            metric: 256,
            ours_wins: false,
            ours: Some(ours.parse().unwrap()),
            leads: "dev br-old".into(),
        };
        cluster.nodes[2].applied.as_mut().unwrap().ack.conflicts.push(conflict);
        troubles(&cluster).first().map(ToString::to_string)
    }

    #[test]
    fn a_conflict_names_the_node_that_loses_packets() {
        let text = text("2001:db8:1:1:5::/80", "2001:db8:1:1::/64", &["2001:db8:1:1::/64"]).unwrap();
        let expected = "node host3: conflict with 2001:db8:1:1:5::/80 proto kernel metric 256 dev br-old: theirs wins over \
                        2001:db8:1:1::/64, so packets to node host2 take it; unless this is intended, see on that host: ip -6 route \
                        show table all 2001:db8:1:1:5::/80; if";
        assert!(text.starts_with(expected), "{text}");
    }

    #[test]
    fn a_route_inside_of_the_nodes_own_prefix_takes_packets_of_its_containers() {
        let text = text("2001:db8:1:2::/112", "2001:db8:1:2::/80", &[]).unwrap();
        assert!(
            text.contains("theirs wins over 2001:db8:1:2::/80, so packets to containers of this node"),
            "{text}"
        );
    }

    #[test]
    fn a_route_to_unassigned_addresses_is_intended_if_they_are_reserved() {
        let (to, pool) = ("2001:db8:1:fe::/64", "2001:db8:1::/48");
        let unreserved = text(to, pool, &["2001:db8:1:ff::/64"]).unwrap();
        assert!(unreserved.contains("unassigned addresses of pool main take it"), "{unreserved}");
        assert!(unreserved.ends_with("sextant reserve 2001:db8:1:fe::/64"), "{unreserved}");
        assert_eq!(text(to, pool, &[to]), None);
    }

    #[test]
    fn no_reservation_of_a_whole_pool_is_proposed() {
        for to in ["::/0", "2001:db8::/32", "2001:db8:1::/48"] {
            let text = text(to, "2001:db8:1::/48", &[]).unwrap();
            assert!(
                text.contains("unassigned addresses of pool main") && !text.contains("sextant reserve"),
                "{text}"
            );
        }
    }
}
