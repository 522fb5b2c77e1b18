//! The use of an address, for people.

use sextant_proto::Revision;

use super::{age, ndp, some_names, table};
use crate::answer::{Explained, Place, RouteState};

/// The use of an address.
pub(crate) fn show(it: &Explained, now_unix_ms: u64) -> String {
    let mut rows: Vec<(&str, Vec<String>)> = Vec::new();
    rows.extend(it.pool.as_ref().map(|pool| ("pool", vec![format!("{} {}", pool.name, pool.prefix)])));
    rows.extend(it.reservation.map(|prefix| ("reservation", vec![prefix.to_string()])));
    let given = |text: &String| (!text.is_empty()).then(|| vec![text.clone()]);
    rows.extend(given(&it.reserved_for).map(|node| ("reserved for", node)));
    rows.extend(given(&it.reason).map(|reason| ("reason", reason)));
    rows.extend(it.freed.as_ref().map(|(node, since)| {
        ("quarantined", vec![format!("freed by {node} {} ago", age(now_unix_ms, *since))])
    }));
    if let Some(node) = &it.node {
        let hops = node.peer.next_hops.iter().map(ToString::to_string).collect();
        rows.push(("node", vec![format!("{} ({})", node.name(), node.state())]));
        let claim = node.claim_of(it.address);
        if let Some((claim, details)) = claim {
            let containers = details.container_prefixes.iter().map(ToString::to_string).collect();
            let state = (claim.state != node.state()).then(|| format!(" ({})", claim.state));
            rows.push(("host prefix", vec![format!("{}{}", claim.prefix, state.unwrap_or_default())]));
            rows.push(("container prefix", containers));
        }
        rows.push(("next hop", hops));
        rows.extend(claim.map(|(claim, details)| {
            let since = age(now_unix_ms, details.claimed_unix_ms);
            let revision = match claim.claimed {
                Revision::ZERO => String::new(),
                revision => format!(", revision {revision}"),
            };
            ("claimed", vec![format!("{since} ago{revision}")])
        }));
    }
    if let Some((ndp, uplinks)) = &it.ndp {
        let node = it.node.as_ref().map(|node| node.name().to_string()).unwrap_or_default();
        rows.push(("answered by", ndp::explained(&node, ndp, uplinks, now_unix_ms)));
    }
    let of_containers = matches!(it.place, Place::ContainerPrefix | Place::HostPrefix);
    if it.node.as_ref().is_some_and(|node| of_containers && !node.peer.session && !node.unknown) {
        rows.push((
            "not asked",
            vec!["its agent is not connected: whether a container has the address is not known".into()],
        ));
    }
    for (key, state) in [
        ("routed by", RouteState::Applied),
        ("pending on", RouteState::Pending),
        ("unknown on", RouteState::Unknown),
    ] {
        let nodes = it.at(state);
        if !nodes.is_empty() {
            rows.push((key, vec![some_names(&nodes)]));
        }
    }
    let failed = it.failed();
    if !failed.is_empty() {
        rows.push(("failed on", failed));
    }
    format!("{}\n{}", sentence(it), table::keys(&rows))
}

fn sentence(it: &Explained) -> String {
    let address = it.address;
    let node = it.node.as_ref().map(|node| node.name().to_string()).unwrap_or_default();
    match it.place {
        Place::ContainerPrefix | Place::HostPrefix if it.container.is_some() => {
            let (container, network) = it.container.clone().unwrap_or_default();
            format!("{address} is container {container} on {node} (network {network})")
        }
        Place::ContainerPrefix => format!("{address} is a container address on {node}"),
        Place::HostPrefix => {
            format!("{address} is in the host prefix of {node}, but outside its container prefix")
        }
        Place::Uplink => format!("{address} is an uplink address of {node}"),
        Place::Reserved => format!("{address} is reserved and unassigned"),
        Place::Unclaimed => format!("{address} is in a pool and unassigned: packets to it are rejected"),
        Place::Nowhere => format!("{address} does not belong to the cluster"),
    }
}

#[cfg(test)]
mod tests {
    use sextant_proto::{NodeState, PeerClaim};

    use super::*;
    use crate::answer::sample;

    #[test]
    fn a_container_address() {
        assert_eq!(
            show(&sample::explained(), sample::NOW),
            "2001:db8:1:1::5 is a container address on host2\n\
             pool              main 2001:db8:1::/48\n\
             node              host2 (ready)\n\
             host prefix       2001:db8:1:1::/64\n\
             container prefix  2001:db8:1:1::/80\n\
             next hop          2001:db8::2\n\
             claimed           2h ago, revision 12\n\
             routed by         host1\n\
             failed on         host3: File exists\n"
        );
    }

    #[test]
    fn a_claim_is_shown_with_its_own_state() {
        let mut it = sample::explained();
        let peer = &mut it.node.as_mut().unwrap().peer;
        let first = peer.claims[0].clone();
        peer.claims[0].state = NodeState::Joining;
        let other = PeerClaim { prefix: "fd00:1::/64".parse().unwrap(), ..first };
        peer.claims.push(other);
        it.node.as_mut().unwrap().details.push(crate::answer::ClaimDetails::default());
        let text = show(&it, sample::NOW);
        assert!(
            text.contains("node              host2 (ready)\nhost prefix       2001:db8:1:1::/64 (joining)\n"),
            "{text}"
        );
        it.address = "fd00:1::5".parse().unwrap();
        let text = show(&it, sample::NOW);
        assert!(text.contains("host prefix       fd00:1::/64\n"), "{text}");
    }

    #[test]
    fn the_container_is_named_where_its_agent_knows_it() {
        let mut it = sample::explained();
        it.container = Some(("web".into(), "sextant".into()));
        let text = show(&it, sample::NOW);
        assert!(text.starts_with("2001:db8:1:1::5 is container web on host2 (network sextant)\n"), "{text}");
    }

    #[test]
    fn an_agent_that_cannot_be_asked_is_named() {
        let mut it = sample::explained();
        it.node.as_mut().unwrap().peer.session = false;
        let text = show(&it, sample::NOW);
        let line = "not asked         its agent is not connected: whether a container has the address is not known\n";
        assert!(text.contains(line), "{text}");
        it.place = Place::Uplink;
        assert!(!show(&it, sample::NOW).contains("not asked"));
    }

    #[test]
    fn the_host_that_answers_on_the_link_is_named() {
        let mut it = sample::explained();
        let ndp = sample::ndp();
        it.ndp = Some((ndp.addresses[1].clone(), ndp.uplinks));
        let text = show(&it, sample::NOW);
        let line = "answered by       host2 on eth0 (02:00:00:00:00:02), by the kernel's proxy entry, in use for 2m\n";
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn an_unassigned_address() {
        let mut it = sample::explained();
        (it.place, it.node, it.routes) = (Place::Reserved, None, Vec::new());
        it.reservation = Some("2001:db8:1:1::/64".parse().unwrap());
        (it.reserved_for, it.reason) = ("host7".into(), "moves in on Monday".into());
        it.freed = Some(("host2".into(), sample::NOW - 60_000));
        assert_eq!(
            show(&it, sample::NOW),
            "2001:db8:1:1::5 is reserved and unassigned\n\
             pool          main 2001:db8:1::/48\n\
             reservation   2001:db8:1:1::/64\n\
             reserved for  host7\n\
             reason        moves in on Monday\n\
             quarantined   freed by host2 1m ago\n"
        );
    }
}
