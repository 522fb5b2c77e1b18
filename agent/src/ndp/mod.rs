//! Answers to neighbour solicitations for containers, where nobody routes their prefix to this host (DESIGN §2).
//!
//! One task, [`NdpProxy::run`], follows the host's links ([`facts`]), its claims, and the engine's containers. It says where and what for
//! the responder answers ([`place`]), and gives the addresses in use to the kernel as proxy entries ([`entries`]): so they are answered
//! for while the agent is dead, and by the kernel alone while it lives.

mod entries;
mod facts;
mod findings;
mod lasting_faults;
mod place;
mod reach;
mod reading;
mod view;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use prometheus_client::metrics::gauge::Gauge;
use sextant_daemon::OncePerMinute;
use sextant_ndp::responder::{Given, Known, Responder};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior},
};

use crate::{
    cluster::Input,
    containers,
    engine::Report,
    kernel::{Event, Kernel, KernelError, ProxyEntry},
    problems::{Component, Problems},
    settings::NdpSettings,
    uplinks::LocalUplink,
};

use facts::Facts;
use findings::Seen;
use lasting_faults::Faults;
use place::{Moved, Prefixes};
use reach::Reach;

pub(crate) use view::{Asked, Asker, Wanted, questions};

/// How often the kernel's entries are read: they have no events.
const LOOK: Duration = Duration::from_secs(2);

/// Answers for the containers of this host.
pub struct NdpProxy {
    /// The kernel.
    pub kernel: Arc<dyn Kernel>,
    /// How it answers.
    pub settings: NdpSettings,
    /// The claims.
    pub input: watch::Receiver<Input>,
    /// What the host was last set up for.
    pub report: watch::Receiver<Report>,
    /// The uplinks.
    pub uplinks: watch::Receiver<Vec<LocalUplink>>,
    /// The engine's containers, if it is watched.
    pub containers: Option<containers::Known>,
    /// Where trouble is reported.
    pub problems: Problems,
    /// What the responder knows.
    pub known: watch::Sender<Known>,
    /// The number of the kernel's entries on the uplinks.
    pub entries: Gauge,
    /// Operators' questions.
    pub(crate) asked: Asked,
}

/// What metrics show.
#[derive(Debug, Clone)]
pub struct Meters {
    /// What is answered for, and what was answered.
    pub known: watch::Receiver<Known>,
    /// The number of the kernel's entries on the uplinks.
    pub entries: Gauge,
}

/// What the task knows while it runs.
struct Running {
    proxy: NdpProxy,
    /// The links and addresses; `None` if they must be read again.
    facts: Option<Facts>,
    moved: Moved,
    prefixes: Prefixes,
    reach: Reach,
    /// The kernel's entries, as they were read last.
    entries: Vec<ProxyEntry>,
    faults: Faults,
    given: watch::Sender<Given>,
    known: watch::Receiver<Known>,
    lines: OncePerMinute,
}

impl NdpProxy {
    /// What is answered for, what was answered, and the number of the kernel's entries.
    pub fn meters(&self) -> Meters {
        Meters { known: self.known.subscribe(), entries: self.entries.clone() }
    }

    /// Answers. Ends with the session, whose claims it follows.
    ///
    /// # Errors
    /// If the session has ended, or the kernel cannot be listened to. A request that fails is tried again.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let mut events = self.kernel.events().await?;
        let (given, given_rx) = watch::channel(Given::default());
        let (known_tx, known) = (self.known.clone(), self.known.subscribe());
        let Asked { mut standing, details } = std::mem::take(&mut self.asked);
        let mut running = Running {
            moved: Moved::default(),
            prefixes: Prefixes::default(),
            reach: Reach::default(),
            facts: None,
            entries: Vec::new(),
            faults: Faults::default(),
            given,
            known,
            lines: OncePerMinute::default(),
            proxy: self,
        };
        while !running.look().await {
            tokio::time::sleep(LOOK).await;
        }
        running.follow_uplinks();
        running.give();
        let ours = running.entries.iter().filter(|it| it.is_ours());
        let adopted: BTreeSet<_> = ours.map(|it| it.addr).collect();
        let mut responder = std::pin::pin!(Responder::new(given_rx, known_tx, details, adopted).run());
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = &mut responder => anyhow::bail!("the responder has ended"),
                changed = running.proxy.input.changed() => changed?,
                changed = running.proxy.report.changed() => changed?,
                changed = running.proxy.uplinks.changed() => changed?,
                changed = changed(&mut running.proxy.containers) => changed?,
                changed = running.known.changed() => changed?,
                Some(ask) = standing.recv() => {
                    // Whoever has asked may have given up.
                    let _ = ask.send(running.standing());
                    continue;
                }
                event = events.recv() => running.take_events(event, &mut events).await?,
                _ = look.tick() => drop(running.look().await),
            }
            running.follow_uplinks();
            running.keep_entries().await;
            running.give();
        }
    }
}

/// Waits for a change; forever without an engine.
async fn changed(containers: &mut Option<containers::Known>) -> Result<(), watch::error::RecvError> {
    match containers {
        Some(containers) => containers.changed().await,
        None => std::future::pending().await,
    }
}

impl Running {
    async fn take_events(
        &mut self,
        first: Option<Event>,
        more: &mut mpsc::Receiver<Event>,
    ) -> anyhow::Result<()> {
        let mut stale = false;
        let mut next = Some(first.ok_or_else(|| anyhow::anyhow!("the kernel's notifications have ended"))?);
        while let Some(event) = next {
            match event {
                Event::Overrun => {
                    self.facts = None;
                    stale = true;
                }
                event => {
                    stale |= self.is_of_uplink(&event);
                    if let Some(facts) = &mut self.facts {
                        facts.take(event);
                    }
                }
            }
            next = more.try_recv().ok();
        }
        if stale {
            // The kernel drops the entries of a link that goes down.
            let _tried_again = self.look().await;
        }
        Ok(())
    }

    fn is_of_uplink(&self, event: &Event) -> bool {
        let uplinks = self.proxy.uplinks.borrow();
        match event {
            Event::LinkChanged(link) | Event::LinkGone(link) => {
                uplinks.iter().any(|it| it.link == link.index)
            }
            _ => false,
        }
    }

    /// Reads the kernel's entries, and the links and addresses if events were lost. Returns whether that was possible.
    async fn look(&mut self) -> bool {
        let read = self.read().await;
        if let Err(error) = &read {
            self.warn(error);
        }
        read.is_ok()
    }

    async fn read(&mut self) -> Result<(), KernelError> {
        let kernel = &self.proxy.kernel;
        if self.facts.is_none() {
            self.facts = Some(Facts::new(kernel.links().await?, kernel.addresses().await?));
        }
        self.entries = kernel.proxy_entries().await?;
        self.look_at_faults()
    }

    /// Tells the responder where it stands; while that is not known, it stays where it was.
    fn give(&mut self) {
        let Some(facts) = &self.facts else { return };
        let claims = self.proxy.input.borrow_and_update().claims.clone();
        self.prefixes.follow(&claims, self.proxy.report.borrow_and_update().announcement.as_ref());
        let uplinks = self.proxy.uplinks.borrow_and_update().clone();
        self.moved.follow(&claims, Instant::now());
        let stand = place::Stand {
            settings: &self.proxy.settings,
            facts,
            prefixes: &self.prefixes,
            moved: self.moved.prefixes(),
            uplinks: &uplinks,
            reach: &self.reach,
            kernel: self.answered_by_kernel(&uplinks),
        };
        let on_uplinks = |it: &&ProxyEntry| uplinks.iter().any(|uplink| uplink.link == it.link);
        let entries = self.entries.iter().filter(on_uplinks).count();
        self.proxy.entries.set(i64::try_from(entries).unwrap_or(i64::MAX));
        let expected = self.expected(self.prefixes.now());
        let findings = findings::all(&Seen {
            settings: &self.proxy.settings,
            facts,
            claims: &claims,
            uplinks: &uplinks,
            known: &self.known.borrow(),
            entries: &self.entries,
            faults: &self.faults,
            now: Instant::now(),
        });
        self.proxy.problems.report(Component::Ndp, findings);
        let given = Given { place: stand.place(), expected, ports: facts.ports() };
        self.given.send_if_modified(|before| {
            let is_new = *before != given;
            if is_new {
                *before = given;
            }
            is_new
        });
    }

    /// Where the claims are answered for.
    fn follow_uplinks(&mut self) {
        let claims = self.proxy.input.borrow().claims.clone();
        self.reach.follow(&claims, &self.proxy.uplinks.borrow(), &self.entries);
    }

    /// Changes the kernel's entries to the addresses in use.
    async fn keep_entries(&mut self) {
        let Some(alive) = self.known.borrow_and_update().alive.clone() else { return };
        let is_known = !self.proxy.input.borrow().claims.is_empty()
            || self.proxy.report.borrow().infrastructure.is_some();
        if !is_known || self.proxy.report.borrow().paused {
            return;
        }
        if self.proxy.uplinks.borrow().is_empty() {
            return;
        }
        let plan = entries::plan(&alive, &self.reach, &self.entries);
        for (link, addr) in &plan.add {
            match self.proxy.kernel.add_proxy_entry(*link, *addr).await {
                Ok(()) => {
                    self.entries.retain(|it| (it.link, it.addr) != (*link, *addr));
                    self.entries.push(ProxyEntry::ours(*link, *addr));
                }
                Err(error) => self.warn(&error),
            }
        }
        for (link, addr) in &plan.remove {
            match self.proxy.kernel.remove_proxy_entry(*link, *addr).await {
                Ok(()) => self.entries.retain(|it| (it.link, it.addr) != (*link, *addr)),
                Err(error) => self.warn(&error),
            }
        }
    }

    fn warn(&mut self, error: &KernelError) {
        if let Some(suppressed) = self.lines.admit(&error.to_string(), Instant::now()) {
            tracing::warn!(%error, suppressed, "cannot keep the kernel's proxy entries; trying again");
        }
    }
}
