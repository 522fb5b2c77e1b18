//! Links that another process has given another name.
//!
//! A name is not an identity: a link is the same one while it has its index, and a bridge that the agent created has its MAC address
//! for ever. The record of changes follows a link to its new name. The bridge of the settings gets its name back if the agent created
//! it: a second bridge beside it would have the same prefix, and take the packets of its containers.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::{HostSetup, SetupError};
use crate::{
    damping::Change,
    kernel::Link,
    state::{Ledger, MadeBridge},
};

impl HostSetup {
    /// Gives the bridge of the settings its name back, if the agent created it. Where the kernel refuses that, it stays in use, and
    /// [`elsewhere`](super::elsewhere) reports it.
    pub(super) async fn restore_bridge_name(&mut self, links: &mut [Link]) -> Result<(), SetupError> {
        let name = self.settings.bridge.clone();
        let Some(at) = self.own_bridge().and_then(|name| position(name, &self.ledger, links)) else {
            return Ok(());
        };
        let what = format!("name of bridge {name}");
        if self.drift.holds(&what, Instant::now()) {
            return Ok(());
        }
        let found = links[at].name.clone();
        match self.kernel.rename_link(links[at].index, &name).await.map_err(SetupError::from) {
            Ok(()) => {
                links[at].name.clone_from(&name);
                self.restored(&what, &found, &name, Change::Forwarding);
                Ok(())
            }
            Err(error) if error.is_broken() => Err(error),
            Err(error) => {
                tracing::debug!(%error, bridge = name, found, "bridge keeps another name");
                Ok(())
            }
        }
    }

    /// The record follows the links that have another name since the last check; but that of the settings' bridge, which is to have
    /// its name again. The first check of a process follows those that were renamed before.
    pub(super) fn follow_renamed(&mut self, links: &[Link]) -> Result<(), SetupError> {
        if self.links.is_empty() {
            let bridge = self.settings.bridge.clone();
            self.record(|ledger| *ledger = followed(ledger, links, Some(&bridge)))?;
        }
        let names: BTreeMap<u32, &str> = links.iter().map(|link| (link.index, link.name.as_str())).collect();
        let has_other_name = |(name, index): (&String, &u32)| {
            let now = names.get(index).filter(|now| *now != name)?;
            (*name != self.settings.bridge).then(|| (name.clone(), (*now).to_owned()))
        };
        let renamed: Vec<_> = self.links.iter().filter_map(has_other_name).collect();
        for (before, now) in renamed {
            tracing::info!(before, now, "interface has another name");
            self.record(|ledger| ledger.renamed(&before, &now))?;
        }
        Ok(())
    }
}

/// The record with the present names of its links, but for the bridge of the settings: those that the agent created are known by
/// their MAC addresses, others by their indices while nothing else has the name.
pub(super) fn followed(ledger: &Ledger, links: &[Link], settings: Option<&str>) -> Ledger {
    let mut followed = ledger.clone();
    for (before, now) in others_renamed(ledger, links) {
        if Some(before) != settings {
            followed.renamed(before, now);
        }
    }
    for made in ledger.made_bridges().filter(|made| Some(made.name.as_str()) != settings) {
        if let Some(link) = under_another_name(&made, links) {
            followed.renamed(&made.name, &link.name);
        }
    }
    followed
}

/// The former and the present names of links that the agent did not create. Their indices are of another network namespace if
/// another link has the name.
fn others_renamed<'a>(ledger: &'a Ledger, links: &'a [Link]) -> impl Iterator<Item = (&'a str, &'a str)> {
    let known = ledger.links.iter().flat_map(|known| &known.by_name).filter(|(name, _)| !ledger.made(name));
    known.filter_map(|(name, index)| {
        let link = links.iter().find(|link| link.index == *index)?;
        let is_left = links.iter().all(|link| link.name != *name);
        is_left.then_some((name.as_str(), link.name.as_str()))
    })
}

/// Where the bridge `name` is among the links, if the agent created it and it has another name.
fn position(name: &str, ledger: &Ledger, links: &[Link]) -> Option<usize> {
    if links.iter().any(|link| link.name == name) {
        return None;
    }
    let made = ledger.made_bridges().find(|made| made.name == name)?;
    let index = under_another_name(&made, links)?.index;
    links.iter().position(|link| link.index == index)
}

fn under_another_name<'a>(made: &MadeBridge, links: &'a [Link]) -> Option<&'a Link> {
    let mac = made.mac.as_deref()?;
    let mut same = links.iter().filter(|link| link.bridge && link.mac_text() == mac);
    // Of two with one address, none is certainly the one.
    let only = same.next().filter(|_| same.next().is_none())?;
    (only.name != made.name).then_some(only)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::BridgeAddress;

    fn bridge(index: u32, name: &str, mac: u8) -> Link {
        let mac = vec![2, 0, 0, 0, 0, mac];
        Link { index, name: name.into(), bridge: true, kind: "bridge".into(), mac, ..Link::default() }
    }

    fn ledger() -> Ledger {
        let address =
            BridgeAddress { interface: "sextant0".into(), addr: "2001:db8:1::1".parse().unwrap(), len: 80 };
        let sysctls = ["conf/sextant0/accept_ra", "neigh/sextant0/retrans_time_ms", "conf/eth0/accept_ra"];
        Ledger {
            bridge: Some("sextant0".into()),
            bridge_mac: Some("02:00:00:00:00:07".into()),
            addresses: vec![address],
            sysctls: sysctls.map(|path| (format!("net/ipv6/{path}"), "1".to_owned())).into(),
            switched_off: ["net/ipv6/conf/sextant0/accept_ra".to_owned()].into(),
            stood: Some("sextant0".into()),
            ..Ledger::default()
        }
    }

    #[test]
    fn the_record_follows_a_bridge_by_its_mac_address() {
        let links = [bridge(3, "brx", 7), bridge(4, "other", 8)];
        let now = followed(&ledger(), &links, None);
        assert_eq!((now.bridge.as_deref(), now.stood.as_deref()), (Some("brx"), Some("brx")));
        assert_eq!(now.addresses[0].interface, "brx");
        let paths: Vec<_> = now.sysctls.keys().map(String::as_str).collect();
        assert_eq!(
            paths,
            [
                "net/ipv6/conf/brx/accept_ra",
                "net/ipv6/conf/eth0/accept_ra",
                "net/ipv6/neigh/brx/retrans_time_ms"
            ]
        );
        assert!(now.switched_off.contains("net/ipv6/conf/brx/accept_ra"));
        let kept = ledger();
        assert_eq!(followed(&kept, &links, Some("sextant0")), kept, "it gets its name back");
        for others in [
            vec![bridge(3, "sextant0", 7)],
            vec![bridge(3, "brx", 9)],
            vec![Link { bridge: false, ..bridge(3, "brx", 7) }],
            vec![bridge(3, "brx", 7), bridge(4, "copy", 7)],
        ] {
            assert_eq!(followed(&kept, &others, None), kept, "{others:?}");
        }
    }

    #[test]
    fn the_record_follows_another_link_by_its_index_unless_its_name_is_used() {
        let link = |index, name: &str| Link { index, name: name.into(), ..Link::default() };
        let mut before = ledger();
        before.know(
            "boot",
            &[("eth0".to_owned(), 2), ("sextant0".to_owned(), 3), ("eth9".to_owned(), 9)].into(),
        );
        let known = before.links.clone().unwrap().by_name;
        assert_eq!(known, [("eth0".to_owned(), 2), ("sextant0".to_owned(), 3)].into(), "those that it names");
        let now = followed(&before, &[link(2, "lan0")], None);
        assert!(now.sysctls.contains_key("net/ipv6/conf/lan0/accept_ra"), "{now:?}");
        assert_eq!(now.links.clone().unwrap().by_name["lan0"], 2);
        assert_eq!(followed(&now, &[link(2, "lan0")], None), now);
        for (links, settings) in [
            (vec![link(2, "lan0"), link(7, "eth0")], None),
            (vec![link(5, "lan0")], None),
            (vec![link(2, "lan0")], Some("eth0")),
            (vec![link(3, "brx")], None),
        ] {
            assert_eq!(followed(&before, &links, settings), before, "{links:?}");
        }
        assert_eq!(
            followed(&before.clone().in_boot("another"), &[link(2, "lan0")], None).sysctls,
            before.sysctls
        );
    }

    #[test]
    fn only_a_bridge_that_the_agent_created_gets_its_name_back() {
        let at = |name, links: &[Link]| position(name, &ledger(), links);
        assert_eq!(at("sextant0", &[bridge(4, "other", 8), bridge(3, "brx", 7)]), Some(1));
        assert_eq!(at("docker0", &[bridge(3, "brx", 7)]), None);
        assert_eq!(
            at("sextant0", &[bridge(4, "sextant0", 8), bridge(3, "brx", 7)]),
            None,
            "a new one has it"
        );
    }
}
