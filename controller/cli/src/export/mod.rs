//! The routes that a router without an agent needs, as its own configuration. Pure.

mod changes;
mod format;

use std::{collections::BTreeMap, net::Ipv6Addr};

use sextant_proto::Prefix;

pub(crate) use self::{changes::Changes, format::Format};
use crate::{answer::Cluster, failure::Failure};

/// Where a router sends the packets of a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Towards {
    /// To this address of a host.
    Host(Ipv6Addr),
    /// Nowhere: no host holds the prefix.
    Discard,
}

/// The routes of a router, by destination.
pub(crate) type Routes = BTreeMap<Prefix, Towards>;

/// What is wanted of the routes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wanted {
    /// Only next hops in this prefix, a network of the router.
    pub(crate) via: Option<Prefix>,
    /// A route for each pool that discards what no host holds.
    pub(crate) discard_pools: bool,
}

/// The routes to all hosts that are in service, and the nodes that have no next hop there, with the reason.
///
/// # Errors
/// If the queried controller does not know all routes: a router that took them for all would lose the others.
pub(crate) fn routes(cluster: &Cluster, wanted: Wanted) -> Result<(Routes, Vec<String>), Failure> {
    is_complete(cluster)?;
    let (mut routes, mut left_out) = (Routes::new(), Vec::new());
    if wanted.discard_pools {
        routes.extend(cluster.pools.iter().map(|used| (used.pool.prefix, Towards::Discard)));
    }
    for node in &cluster.nodes {
        let mut claims = node.peer.ready_claims().peekable();
        if claims.peek().is_none() {
            continue;
        }
        let mut hops = node.peer.next_hops.iter().filter(|hop| !hop.is_unicast_link_local());
        let Some(hop) = hops.find(|hop| wanted.via.is_none_or(|via| via.contains(**hop))) else {
            let network = wanted.via.map(|via| format!(" in {via}")).unwrap_or_default();
            left_out.push(format!("node {} is left out: it has no address{network}", node.name()));
            continue;
        };
        routes.extend(claims.map(|claim| (claim.prefix, Towards::Host(*hop))));
    }
    Ok((routes, left_out))
}

fn is_complete(cluster: &Cluster) -> Result<(), Failure> {
    if cluster.stale {
        let why =
            "the controller does not know the present store: the routes may be old; see `sextant status`";
        return Err(Failure::Unavailable(why.into()));
    }
    if let Some(line) = cluster.unreadable.first() {
        return Err(Failure::Failed(format!("a route would be missing: {line}")));
    }
    let why = match (cluster.restoring, &cluster.silent[..]) {
        (true, _) => "a restore is in progress: routes would be missing; see `sextant status`".to_owned(),
        (false, [node, ..]) => {
            format!(
                "the store has replaced a lost one, and node {node} has not registered yet: its route would be missing; wait until the \
                 recovery window closes, or forget the node"
            )
        }
        (false, []) => return Ok(()),
    };
    Err(Failure::Conflict(why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::sample;

    fn lines(routes: &Routes) -> Vec<String> {
        let line = |(prefix, towards): (&Prefix, &Towards)| format!("{prefix} {towards:?}");
        routes.iter().map(line).collect()
    }

    #[test]
    fn each_claim_in_service_has_a_route_by_its_hosts_first_address() {
        let mut cluster = sample::healthy();
        let (all, left_out) = routes(&cluster, Wanted::default()).unwrap();
        let expected: Vec<_> = cluster
            .nodes
            .iter()
            .flat_map(|node| {
                let hop = node.peer.next_hops[0];
                node.peer.ready_claims().map(move |claim| format!("{} Host({hop})", claim.prefix))
            })
            .collect();
        assert!(!expected.is_empty() && left_out.is_empty(), "{left_out:?}");
        assert_eq!(lines(&all), expected);

        let drained = sextant_proto::NodeState::Drained;
        let node = cluster.nodes.first_mut().unwrap();
        node.peer = node.peer.clone().in_state(drained);
        let (fewer, _) = routes(&cluster, Wanted::default()).unwrap();
        assert_eq!(lines(&fewer), expected[1..]);
    }

    #[test]
    fn a_network_of_the_router_chooses_the_address() {
        let mut cluster = sample::healthy();
        let node = cluster.nodes.first_mut().unwrap();
        node.peer.next_hops =
            ["2001:db8::7", "fe80::7", "2001:db8:5::7"].iter().map(|it| it.parse().unwrap()).collect();
        let (name, prefix) = (node.name().clone(), node.peer.claims[0].prefix);
        let via = Some("2001:db8:5::/64".parse().unwrap());
        let (all, left_out) = routes(&cluster, Wanted { via, discard_pools: true }).unwrap();
        assert_eq!(all[&prefix], Towards::Host("2001:db8:5::7".parse().unwrap()));
        assert!(cluster.pools.iter().all(|used| all[&used.pool.prefix] == Towards::Discard));
        assert!(
            !left_out.is_empty() && left_out.iter().all(|line| !line.contains(&name.to_string())),
            "{left_out:?}"
        );
        assert!(left_out[0].ends_with("is left out: it has no address in 2001:db8:5::/64"), "{left_out:?}");
    }

    #[test]
    fn what_is_not_complete_is_refused() {
        let refused = |change: fn(&mut Cluster)| {
            let mut cluster = sample::healthy();
            change(&mut cluster);
            routes(&cluster, Wanted::default()).unwrap_err().to_string()
        };
        assert!(refused(|it| it.stale = true).contains("present store"));
        assert!(refused(|it| it.restoring = true).contains("restore"));
        assert!(refused(|it| it.unreadable = vec!["node x: bad".into()]).contains("node x: bad"));
        assert!(refused(|it| it.silent = vec!["h9".parse().unwrap()]).contains("node h9 has not registered"));
    }
}
