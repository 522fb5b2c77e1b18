//! What an address is.

use std::net::Ipv6Addr;

use serde_json::Value;

use crate::{
    answer::{Explained, Place, RouteState},
    args::Output,
    failure::Failure,
    json,
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
        json::value(json::Explained::from(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::sample;
    use serde_json::json;

    #[test]
    fn a_containers_address() {
        assert_eq!(
            sample::explained().text(sample::NOW),
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
        let mut it = sample::explained();
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
