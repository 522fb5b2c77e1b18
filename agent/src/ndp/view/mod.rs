//! What operators see of the answers: asked for when somebody wants to know, since it changes all the time.
//!
//! [`Asker`] asks the two tasks that know; [`View`] makes one report of that, and is pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
    sync::Arc,
};

use sextant_docker::live::Live;
use sextant_ndp::{
    message::Mac,
    proxy::{Answer, Form, LinkCounts, Place, Source},
    responder::{self, Details},
    targets::{self, InUse},
    tracked::Tracked,
};
use sextant_proto::{
    convert::MOST_NDP_ADDRESSES,
    ndp::{By, Learnt, NdpAddress, NdpProxy, NdpUplink, mac_text},
    unix_ms,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use crate::{
    containers,
    settings::{NdpMode, NdpSettings},
    uplinks::LocalUplink,
};

/// So many questions wait; the next ones wait for these.
const WAITING: usize = 4;

/// Which addresses are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// None.
    Counts,
    /// All in use.
    All,
    /// This one, whether or not it is in use.
    One(Ipv6Addr),
}

/// Asks what is answered for.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    standing: mpsc::Sender<oneshot::Sender<Standing>>,
    details: mpsc::Sender<responder::Ask>,
    containers: Option<containers::Known>,
}

/// The questions, at those who answer them.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(super) standing: mpsc::Receiver<oneshot::Sender<Standing>>,
    pub(super) details: mpsc::Receiver<responder::Ask>,
}

impl Default for Asked {
    /// Nobody asks.
    fn default() -> Self {
        Self { standing: mpsc::channel(1).1, details: mpsc::channel(1).1 }
    }
}

/// Where the host stands.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    pub(super) settings: NdpSettings,
    /// The host is drained.
    pub(super) withdrawn: bool,
    pub(super) place: Place,
    /// The addresses that the kernel answers for.
    pub(super) kernel: Tracked<Ipv6Addr>,
    /// The number of the kernel's entries on each uplink.
    pub(super) entries: BTreeMap<u32, usize>,
    pub(super) uplinks: Vec<LocalUplink>,
    /// What the responder cannot do.
    pub(super) trouble: Option<String>,
    /// Addresses that others on the uplinks have advertised, with their link-layer addresses.
    pub(super) others: BTreeMap<Ipv6Addr, Mac>,
}

/// The two ends of questions; the engine's containers name addresses.
pub(crate) fn questions(containers: Option<containers::Known>) -> (Asker, Asked) {
    let (standing_tx, standing) = mpsc::channel(WAITING);
    let (details_tx, details) = mpsc::channel(WAITING);
    let asker = Asker { standing: standing_tx, details: details_tx, containers };
    (asker, Asked { standing, details })
}

impl Asker {
    /// The answer; `None` while nobody answers for containers yet, or no longer.
    pub(crate) async fn ask(&self, wanted: Wanted) -> Option<NdpProxy> {
        let (standing_tx, standing) = oneshot::channel();
        let (details_tx, details) = oneshot::channel();
        self.standing.send(standing_tx).await.ok()?;
        self.details.send(details_tx).await.ok()?;
        let live = self.containers.as_ref().and_then(|known| known.borrow().clone());
        let view = View {
            standing: standing.await.ok()?,
            details: details.await.ok()?,
            names: names(live.as_ref()),
            now: Instant::now(),
            now_unix_ms: unix_ms(),
        };
        Some(view.report(wanted))
    }
}

/// The names of the engine's containers, by their addresses.
fn names(live: Option<&Arc<Live>>) -> BTreeMap<Ipv6Addr, String> {
    let containers = live.into_iter().flat_map(|live| live.containers.values());
    let named = containers.flat_map(|it| it.addresses.iter().map(|(_, addr)| (*addr, it.name.clone())));
    named.collect()
}

/// What is known at one moment.
#[derive(Debug)]
struct View {
    standing: Standing,
    details: Details,
    names: BTreeMap<Ipv6Addr, String>,
    now: Instant,
    now_unix_ms: u64,
}

impl View {
    fn report(&self, wanted: Wanted) -> NdpProxy {
        let NdpSettings { mode, answer, overrides, source } = self.standing.settings;
        let all: Vec<_> = match wanted {
            Wanted::Counts => Vec::new(),
            Wanted::All => {
                self.details.in_use.iter().take(MOST_NDP_ADDRESSES).map(|(addr, _)| *addr).collect()
            }
            Wanted::One(addr) => vec![addr],
        };
        let more = match wanted {
            Wanted::All => self.details.in_use.len() - all.len(),
            Wanted::Counts | Wanted::One(_) => 0,
        };
        NdpProxy {
            mode: mode_text(mode).to_owned(),
            answer: answer_text(answer).to_owned(),
            source: source_text(source).to_owned(),
            overrides,
            uplinks: self.standing.uplinks.iter().map(|uplink| self.uplink(uplink)).collect(),
            in_use: self.details.in_use.len() as u64,
            addresses: all.into_iter().map(|addr| self.address(addr)).collect(),
            more: more as u64,
        }
    }

    fn uplink(&self, uplink: &LocalUplink) -> NdpUplink {
        let Details { counts, groups, heard, .. } = &self.details;
        let none = LinkCounts::default();
        let counts = counts.links.get(&uplink.link).unwrap_or(&none);
        let answered = |form| counts.answered.get(&form).copied().unwrap_or_default();
        let mac = self.standing.place.uplinks.iter().find(|it| it.link == uplink.link).map(|it| it.mac);
        NdpUplink {
            interface: uplink.uplink.interface.clone(),
            mac,
            up: uplink.works,
            heard: heard.contains(&uplink.link),
            entries: self.standing.entries.get(&uplink.link).map_or(0, |count| *count as u64),
            groups: groups.get(&uplink.link).copied().unwrap_or_default(),
            multicast: answered(Form::Multicast),
            unicast: answered(Form::Unicast),
            detection: answered(Form::Detection),
            refused: counts.unanswered.iter().map(|(why, count)| (why.text().to_owned(), *count)).collect(),
            advertised: counts.advertised,
        }
    }

    fn address(&self, address: Ipv6Addr) -> NdpAddress {
        let found = self.details.in_use.iter().find(|(addr, _)| *addr == address);
        let in_use = found.and_then(|(_, in_use)| *in_use);
        let container = self.names.get(&address).cloned();
        let learnt = found.map(|_| learnt(in_use, container.is_some()));
        let (by, why, fix) = self.answered_by(address, found.is_some());
        let since = in_use.map(|it| self.now.saturating_duration_since(it.since).as_millis());
        let since = since.and_then(|ago| Some(self.now_unix_ms.saturating_sub(u64::try_from(ago).ok()?)));
        NdpAddress {
            address,
            learnt,
            container,
            mac: in_use.and_then(|it| it.seat).map(|(_, mac)| mac),
            since_unix_ms: since.unwrap_or_default(),
            by,
            why,
            fix,
        }
    }

    /// Who answers for it, or why nobody does, and the fix.
    fn answered_by(&self, address: Ipv6Addr, in_use: bool) -> (By, String, String) {
        let Standing { place, kernel, settings, trouble, .. } = &self.standing;
        let nobody = |why: String, fix: &str| (By::Nobody, why, fix.to_owned());
        let is_own = place.own_targets().any(|own| own == address);
        if !is_own && place.prefixes.iter().any(|prefix| prefix.addr() == address) {
            return nobody("it is the first address of a container prefix, which all routers of the prefix have (RFC 4291)".into(), "");
        }
        if !is_own && !place.is_containers(address) {
            return nobody("it is in no container prefix of this host".into(), "");
        }
        if self.standing.withdrawn {
            return nobody("the host is drained".to_owned(), "`sextant node undrain` returns it to service");
        }
        let down = self.down();
        if down.len() == self.standing.uplinks.len() {
            let why = match down.is_empty() {
                true => "the host has no uplink".to_owned(),
                false => format!("{} is down", down.join(", ")),
            };
            return nobody(why, "repair the link");
        }
        let other = self.standing.others.get(&address);
        let other =
            other.map(|mac| format!("the host with MAC address {} advertises it too", mac_text(*mac)));
        let partly = (!down.is_empty()).then(|| format!("{} is down", down.join(", ")));
        let partly = partly.into_iter().chain(other).collect::<Vec<_>>().join("; ");
        if kernel.contains(address) {
            return (By::Kernel, partly, String::new());
        }
        if !in_use && settings.answer == Answer::Live {
            return nobody("not in use here: no container has it".into(), "");
        }
        if let Some(trouble) = trouble {
            return nobody(trouble.clone(), "see `sextant status`");
        }
        match settings.mode {
            NdpMode::Prefix => (By::Agent, partly, String::new()),
            NdpMode::Address => {
                let why = "the kernel has no proxy entry of it on each uplink, and with mode \"address\" the agent does not answer";
                nobody(why.into(), "see `sextant status`; the agent adds the entries, unless it is paused")
            }
        }
    }

    fn down(&self) -> Vec<String> {
        let usable: BTreeSet<u32> = self.standing.place.uplinks.iter().map(|it| it.link).collect();
        let down = self.standing.uplinks.iter().filter(|it| !it.works || !usable.contains(&it.link));
        down.map(|it| it.uplink.interface.clone()).collect()
    }
}

// As in the settings.

fn mode_text(mode: NdpMode) -> &'static str {
    match mode {
        NdpMode::Prefix => "prefix",
        NdpMode::Address => "address",
    }
}

fn answer_text(answer: Answer) -> &'static str {
    match answer {
        Answer::Live => "live",
        Answer::All => "all",
    }
}

fn source_text(source: Source) -> &'static str {
    match source {
        Source::LinkLocal => "link-local",
        Source::Target => "target",
    }
}

/// Those of bridges have no details.
fn learnt(in_use: Option<InUse>, has_name: bool) -> Learnt {
    match in_use.map(|it| it.learnt) {
        _ if has_name => Learnt::Engine,
        None => Learnt::Bridge,
        Some(targets::Learnt::Heard) => Learnt::Neighbour,
        Some(targets::Learnt::Asked) => Learnt::Probe,
        Some(targets::Learnt::Adopted) => Learnt::Kept,
    }
}

#[cfg(test)]
mod tests;
