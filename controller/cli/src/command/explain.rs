//! What an address is.

use std::net::Ipv6Addr;

use serde_json::{Value, json};

use crate::{
    answer::{Explained, Place, RouteState},
    args::Output,
    failure::Failure,
    json::texts,
    link::Link,
    show::{self, Show},
    text::{self, age},
};

/// `sextant explain`.
pub(crate) async fn explain(link: &mut Link, output: Output, address: Ipv6Addr) -> Result<(), Failure> {
    let explained = Explained::new(address, link.explain(address).await?)?;
    if explained.place == Place::Nowhere {
        let why =
            format!("{address} is in no pool and no reservation, and no node's; see `sextant pool list`");
        return Err(Failure::NotFound(why));
    }
    show::print(output, &explained)
}

fn sentence(it: &Explained) -> String {
    let address = it.address;
    let node = it.node.as_ref().map(|node| node.name().to_string()).unwrap_or_default();
    match it.place {
        Place::ContainerPrefix => format!("{address} is a container's address on {node}"),
        Place::HostPrefix => {
            format!("{address} is in the host prefix of {node}, but outside of its container prefix")
        }
        Place::Uplink => format!("{address} is {node}'s own address, on an uplink"),
        Place::Reserved => format!("{address} is in a reservation, and nobody's"),
        Place::Unclaimed => format!("{address} is in a pool, and nobody's: it is refused everywhere"),
        Place::Nowhere => format!("{address} is nothing of the cluster"),
    }
}

impl Show for Explained {
    fn text(&self, now_unix_ms: u64) -> String {
        let mut rows: Vec<(&str, Vec<String>)> = Vec::new();
        rows.extend(self.pool.as_ref().map(|pool| ("pool", vec![format!("{} {}", pool.name, pool.prefix)])));
        rows.extend(self.reservation.map(|prefix| ("reservation", vec![prefix.to_string()])));
        let said = |text: &String| (!text.is_empty()).then(|| vec![text.clone()]);
        rows.extend(said(&self.reserved_for).map(|node| ("reserved for", node)));
        rows.extend(said(&self.reason).map(|reason| ("reason", reason)));
        rows.extend(self.freed.as_ref().map(|(node, since)| {
            ("rests", vec![format!("{node} had it until {} ago", age(now_unix_ms, *since))])
        }));
        if let Some(node) = &self.node {
            let hops = node.peer.next_hops.iter().map(ToString::to_string).collect();
            let container = node.container_prefix.map(|prefix| prefix.to_string());
            rows.push(("node", vec![format!("{} ({})", node.name(), node.state())]));
            rows.push(("host prefix", vec![node.peer.prefix.to_string()]));
            rows.push(("container prefix", container.into_iter().collect()));
            rows.push(("next hop", hops));
            let since = age(now_unix_ms, node.claimed_unix_ms);
            rows.push(("held since", vec![format!("{since} ago, revision {}", node.peer.claimed)]));
        }
        for (key, state) in [
            ("routed by", RouteState::Applied),
            ("not yet by", RouteState::Pending),
            ("not known of", RouteState::Unknown),
        ] {
            let nodes = self.at(state);
            if !nodes.is_empty() {
                rows.push((key, vec![text::some_names(&nodes)]));
            }
        }
        let failed = self.failed();
        if !failed.is_empty() {
            rows.push(("failed at", failed));
        }
        format!("{}\n{}", sentence(self), text::keys(&rows))
    }

    fn json(&self) -> Value {
        let place = match self.place {
            Place::Nowhere => "nowhere",
            Place::Unclaimed => "unclaimed",
            Place::Reserved => "reserved",
            Place::HostPrefix => "host_prefix",
            Place::ContainerPrefix => "container_prefix",
            Place::Uplink => "uplink",
        };
        let node = self.node.as_ref();
        json!({
            "address": self.address.to_string(),
            "place": place,
            "pool": self.pool.as_ref().map(|pool| pool.name.as_str()),
            "pool_prefix": self.pool.as_ref().map(|pool| pool.prefix.to_string()),
            "reservation": self.reservation.map(|prefix| prefix.to_string()),
            "reserved_for": Some(&self.reserved_for).filter(|node| !node.is_empty()),
            "reason": Some(&self.reason).filter(|reason| !reason.is_empty()),
            "freed_by": self.freed.as_ref().map(|(node, _)| node),
            "freed_unix_ms": self.freed.as_ref().map(|(_, since)| since),
            "node": node.map(|node| node.name().as_str()),
            "state": node.map(|node| node.state().to_string()),
            "host_prefix": node.map(|node| node.peer.prefix.to_string()),
            "container_prefix": node.and_then(|node| node.container_prefix).map(|it| it.to_string()),
            "next_hops": node.map(|node| texts(&node.peer.next_hops)),
            "claimed_unix_ms": node.map(|node| node.claimed_unix_ms),
            "claimed": node.map(|node| node.peer.claimed.0),
            "applied": texts(&self.at(RouteState::Applied)),
            "pending": texts(&self.at(RouteState::Pending)),
            "unknown": texts(&self.at(RouteState::Unknown)),
            "failed": texts(&self.failed()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::sample;

    fn explained() -> Explained {
        let mut cluster = sample::well();
        Explained {
            address: "2001:db8:1:1::5".parse().unwrap(),
            place: Place::ContainerPrefix,
            pool: Some(cluster.pools.remove(0).pool),
            reservation: None,
            reserved_for: String::new(),
            reason: String::new(),
            freed: None,
            node: Some(cluster.nodes.remove(1)),
            routes: vec![
                ("host1".parse().unwrap(), RouteState::Applied, String::new()),
                ("host3".parse().unwrap(), RouteState::Failed, "File exists".into()),
            ],
        }
    }

    #[test]
    fn a_containers_address() {
        assert_eq!(
            explained().text(sample::NOW),
            "2001:db8:1:1::5 is a container's address on host2\n\
             pool              main 2001:db8:1::/48\n\
             node              host2 (ready)\n\
             host prefix       2001:db8:1:1::/64\n\
             container prefix  2001:db8:1:1::/80\n\
             next hop          2001:db8::2\n\
             held since        2h ago, revision 12\n\
             routed by         host1\n\
             failed at         host3: File exists\n"
        );
    }

    #[test]
    fn an_address_of_nobody() {
        let mut it = explained();
        (it.place, it.node, it.routes) = (Place::Reserved, None, Vec::new());
        it.reservation = Some("2001:db8:1:1::/64".parse().unwrap());
        (it.reserved_for, it.reason) = ("host7".into(), "moves in on Monday".into());
        it.freed = Some(("host2".into(), sample::NOW - 60_000));
        assert_eq!(
            it.text(sample::NOW),
            "2001:db8:1:1::5 is in a reservation, and nobody's\n\
             pool          main 2001:db8:1::/48\n\
             reservation   2001:db8:1:1::/64\n\
             reserved for  host7\n\
             reason        moves in on Monday\n\
             rests         host2 had it until 1m ago\n"
        );
        let value = it.json();
        assert_eq!((&value["place"], &value["node"]), (&json!("reserved"), &Value::Null));
        assert_eq!((&value["reserved_for"], &value["freed_by"]), (&json!("host7"), &json!("host2")));
    }
}
