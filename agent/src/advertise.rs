//! Router advertisements on the bridge that the agent has made: containers and virtual machines there need no configuration.

use std::{net::Ipv6Addr, sync::Arc, time::Duration};

use sextant_advertise::{
    advertiser::{Advertiser, Wanted},
    former::{Remembered, Store},
    message::Content,
};
use sextant_proto::{Claim, Prefix, unix_ms};
use tokio::{sync::watch, time::timeout};

use crate::{
    cluster::Input,
    engine::Report,
    kernel::{Address, Kernel, Link},
    problems::{Component, Finding, Problems},
    state::StateDir,
};

/// How often the bridge is looked at: it may be made again, or get another MTU.
const LOOK: Duration = Duration::from_secs(10);
/// The same while it is not ready: duplicate address detection takes one or two seconds.
const LOOK_SOON: Duration = Duration::from_secs(1);

/// Advertises the container prefixes on the containers' bridge.
pub struct BridgeAdvertiser {
    /// The kernel, whose bridge it is.
    pub kernel: Arc<dyn Kernel>,
    /// The record of what the agent has made.
    pub state: Arc<StateDir>,
    /// The bridge's name.
    pub bridge: String,
    /// The claims.
    pub input: watch::Receiver<Input>,
    /// What the host was last set up for.
    pub report: watch::Receiver<Report>,
    /// Where trouble is reported.
    pub problems: Problems,
}

/// Stores what was advertised in the state directory.
#[derive(Debug)]
struct Stored(Arc<StateDir>);

impl Store for Stored {
    fn keep(&self, remembered: &Remembered) -> Result<(), String> {
        self.0.keep_advertised(remembered, unix_ms()).map_err(|error| error.to_string())
    }
}

/// The bridge, as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Bridge {
    /// It does not exist, or is down.
    Absent,
    /// It is another program's.
    Foreign,
    /// The agent has made it.
    Own {
        link: Box<Link>,
        content: Content,
        /// Its link-local address, once it is usable: not before the first container.
        source: Option<Ipv6Addr>,
    },
}

impl BridgeAdvertiser {
    /// Advertises. Ends with the session, whose claims it follows.
    ///
    /// # Errors
    /// If the session or the engine has ended.
    pub async fn run(mut self) -> Result<(), watch::error::RecvError> {
        let (wanted_tx, wanted_rx) = watch::channel(None);
        let (trouble_tx, mut trouble) = watch::channel(None);
        let remembered = self.state.advertised(unix_ms()).unwrap_or_else(|error| {
            tracing::warn!(%error, "advertised prefixes cannot be read; former ones are not withdrawn");
            Remembered::default()
        });
        let store = Box::new(Stored(self.state.clone()));
        let mut advertiser = std::pin::pin!(Advertiser::new(wanted_rx, trouble_tx, remembered, store).run());
        loop {
            let bridge = self.look().await;
            let error = trouble.borrow_and_update().clone();
            self.problems.report(Component::Advertise, findings(&self.bridge, &bridge, error.as_deref()));
            let is_foreign = bridge == Bridge::Foreign;
            let wanted = wanted(bridge);
            let look = if wanted.is_some() || is_foreign { LOOK } else { LOOK_SOON };
            wanted_tx.send_if_modified(|before| {
                let changed = *before != wanted;
                *before = wanted;
                changed
            });
            let changed = async {
                tokio::select! {
                    changed = self.input.changed() => changed,
                    changed = self.report.changed() => changed,
                    changed = trouble.changed() => changed,
                    () = &mut advertiser => Ok(()),
                }
            };
            if let Ok(changed) = timeout(look, changed).await {
                changed?;
            }
        }
    }

    async fn look(&mut self) -> Bridge {
        let claims = self.input.borrow_and_update().claims.clone();
        // The kernel's events have a reader that reports what fails.
        let (Ok(links), Ok(addresses)) = (self.kernel.links().await, self.kernel.addresses().await) else {
            return Bridge::Absent;
        };
        let Some(link) = links.iter().find(|link| link.name == self.bridge && link.up) else {
            return Bridge::Absent;
        };
        let ledger = self.state.ledger().unwrap_or_default();
        if !ledger.made_bridges().any(|made| made.name == link.name && made.mac == Some(link.mac_text())) {
            return Bridge::Foreign;
        }
        own(link, &addresses, &claims)
    }
}

/// A bridge of the agent: the container prefixes are those that the host has an address of there.
fn own(link: &Link, addresses: &[Address], claims: &[Claim]) -> Bridge {
    let usable = |it: &&Address| it.link == link.index && !it.tentative && !it.dad_failed;
    let here: Vec<_> = addresses.iter().filter(usable).map(|it| it.addr).collect();
    let source = here.iter().copied().find(Ipv6Addr::is_unicast_link_local);
    let routed = |prefix: &Prefix| here.iter().any(|addr| prefix.contains(*addr));
    let prefixes = claims.iter().map(Claim::container_prefix).filter(routed).collect();
    let content = Content { mac: link.mac.clone(), mtu: link.mtu, prefixes, former: Vec::new() };
    Bridge::Own { link: Box::new(link.clone()), content, source }
}

/// What is to be advertised there.
fn wanted(bridge: Bridge) -> Option<Wanted> {
    let Bridge::Own { link, content, source } = bridge else { return None };
    source.map(|source| Wanted { interface: link.name, index: link.index, source, content })
}

fn findings(name: &str, bridge: &Bridge, error: Option<&str>) -> Vec<Finding> {
    let kind = "not-advertised";
    let content = match bridge {
        Bridge::Absent => return Vec::new(),
        Bridge::Foreign => {
            let saw = format!(
                "[bridge] advertise is set, and another program has made {name}: the agent advertises only on its own bridge"
            );
            let fix = "remove advertise, or name a bridge in [bridge] interface that the agent is to make";
            return vec![Finding::new(kind, saw, fix)];
        }
        Bridge::Own { content, .. } => content,
    };
    let too_long: Vec<_> = content.without_slaac().map(|prefix| prefix.to_string()).collect();
    let too_long = (!too_long.is_empty()).then(|| {
        let saw = format!(
            "containers on {name} get no addresses by router advertisements: {} is no /64",
            too_long.join(", ")
        );
        let fix = "give the containers static addresses and remove [bridge] advertise, or let the pool have --container-len 64";
        Finding::new("no-slaac", saw, fix)
    });
    let error = error.map(|error| {
        let saw = format!("router advertisements on {name} cannot be sent: {error}");
        let fix =
            "let the agent have CAP_NET_RAW (AmbientCapabilities and CapabilityBoundingSet of its unit)";
        Finding::new(kind, saw, fix)
    });
    too_long.into_iter().chain(error).collect()
}

#[cfg(test)]
mod tests {
    use sextant_proto::{Epoch, Incarnation, Pool, Revision};

    use super::*;
    use crate::kernel::fake::permanent;

    fn bridge() -> Link {
        let mac = vec![2, 0, 0, 0, 0, 7];
        Link { index: 7, name: "br0".into(), up: true, bridge: true, mac, mtu: 1400, ..Link::default() }
    }

    fn address(link: u32, addr: &str) -> Address {
        permanent(link, addr.parse().unwrap(), 64)
    }

    fn claim(container_len: u32) -> Claim {
        let pool =
            Pool::new("main".parse().unwrap(), "2001:db8:8000::/40".parse().unwrap(), 64, container_len);
        let epoch = Epoch { incarnation: Incarnation::random(), revision: Revision(1) };
        Claim { prefix: "2001:db8:8000:1::/64".parse().unwrap(), epoch, pool: pool.unwrap() }
    }

    fn advertised(addresses: &[Address]) -> Option<Wanted> {
        wanted(own(&bridge(), addresses, &[claim(64)]))
    }

    #[test]
    fn prefixes_with_an_address_on_the_bridge_are_advertised() {
        let here = [address(7, "fe80::7"), address(7, "2001:db8:8000:1::1")];
        let ready = advertised(&here).unwrap();
        assert_eq!(ready.source, here[0].addr);
        assert_eq!(ready.content.prefixes, [claim(64).prefix]);
        assert_eq!((ready.content.mtu, ready.content.mac.len()), (1400, 6));
        let elsewhere = [here[0].clone(), address(8, "2001:db8:8000:1::1")];
        assert_eq!(advertised(&elsewhere).unwrap().content.prefixes, []);
        assert_eq!(advertised(&here[1..]), None, "there is no source");
        let tentative = [Address { tentative: true, ..here[0].clone() }, here[1].clone()];
        assert_eq!(advertised(&tentative), None);
    }

    #[test]
    fn what_prevents_addresses_is_found() {
        // Without a container, the bridge has no usable link-local address.
        let here = [address(7, "2001:db8:8000:1::1")];
        let own = |len| own(&bridge(), &here, &[claim(len)]);
        let what = |bridge: &Bridge, error| -> Vec<_> {
            findings("br0", bridge, error).into_iter().map(|it| (it.what, it.saw)).collect()
        };
        assert_eq!(what(&own(64), None), []);
        let (kind, saw) = &what(&own(80), None)[0];
        assert_eq!((*kind, saw.contains("2001:db8:8000:1::/80 is no /64")), ("no-slaac", true), "{saw}");
        assert_eq!(what(&own(64), Some("Operation not permitted"))[0].0, "not-advertised");
        assert_eq!(what(&Bridge::Foreign, None)[0].0, "not-advertised");
        assert_eq!(what(&Bridge::Absent, Some("it is gone")), []);
    }
}
