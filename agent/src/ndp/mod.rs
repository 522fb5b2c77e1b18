//! Answers to neighbour solicitations for containers, where nobody routes their prefix to this host (DESIGN §2).
//!
//! One task, [`NdpProxy::run`], follows the host's links ([`facts`]), its claims, and the engine's containers. It says where and what for
//! the responder answers ([`place`]), and gives the addresses in use to the kernel as proxy entries ([`entries`]): so they are answered
//! for while the agent is dead, and by the kernel alone while it lives. There may be thousands of addresses, and a thousand ports of
//! bridges: a change costs what has changed; all of them are compared only after the kernel's entries were changed by others.

mod entries;
mod facts;
mod findings;
mod giving;
mod keeping;
mod lasting_faults;
mod place;
mod reach;
mod reading;
mod view;

use std::{collections::BTreeSet, convert::Infallible, sync::Arc, time::Duration};

use prometheus_client::metrics::gauge::Gauge;
use sextant_daemon::OncePerMinute;
use sextant_ndp::responder::{Given, Known, Responder};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, MissedTickBehavior},
};

use crate::{
    cluster::Input,
    containers,
    engine::Report,
    kernel::{Event, Kernel, KernelError},
    problems::Problems,
    settings::NdpSettings,
    uplinks::LocalUplink,
};

use facts::Facts;
use giving::Engine;
use keeping::Kept;
use lasting_faults::Faults;
use place::{Moved, Prefixes};
use reach::Reach;
use view::Standing;

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
    facts: Facts,
    /// The links and addresses must be read: events were lost, or there were none yet.
    facts_are_stale: bool,
    moved: Moved,
    prefixes: Prefixes,
    reach: Reach,
    kept: Kept,
    engine: Engine,
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
            facts: Facts::default(),
            facts_are_stale: true,
            kept: Kept::default(),
            engine: Engine::default(),
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
        let ours = running.kept.entries().iter().filter(|it| it.is_ours());
        let adopted: BTreeSet<_> = ours.map(|it| it.addr).collect();
        let responder = Responder::new(given_rx, known_tx, details, adopted).start()?;
        tokio::select! {
            () = responder => anyhow::bail!("the responder has ended"),
            ended = running.follow(&mut events, &mut standing) => match ended? {},
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
    /// Follows all that decides on the answers.
    async fn follow(
        &mut self,
        events: &mut mpsc::Receiver<Event>,
        standing: &mut mpsc::Receiver<oneshot::Sender<Standing>>,
    ) -> anyhow::Result<Infallible> {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                changed = self.proxy.input.changed() => changed?,
                changed = self.proxy.report.changed() => {
                    changed?;
                    self.look_at_settings();
                }
                changed = self.proxy.uplinks.changed() => {
                    changed?;
                    self.look_at_settings();
                }
                changed = changed(&mut self.proxy.containers) => changed?,
                changed = self.known.changed() => changed?,
                Some(ask) = standing.recv() => {
                    // Whoever has asked may have given up.
                    let _ = ask.send(self.standing());
                    continue;
                }
                event = events.recv() => self.take_events(event, events).await?,
                _ = look.tick() => drop(self.look().await),
            }
            self.follow_uplinks();
            self.keep_entries().await;
            self.give();
        }
    }

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
                    self.facts_are_stale = true;
                    stale = true;
                }
                event => {
                    stale |= self.is_of_uplink(&event);
                    self.facts.take(event);
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
        if self.facts_are_stale {
            self.facts.read(kernel.links().await?, kernel.addresses().await?);
            self.facts_are_stale = false;
        }
        self.kept.read(&kernel.proxy_entries().await?);
        self.look_at_settings();
        self.look_at_faults()
    }

    fn warn(&mut self, error: &KernelError) {
        if let Some(suppressed) = self.lines.admit(&error.to_string(), Instant::now()) {
            tracing::warn!(%error, suppressed, "cannot keep the kernel's proxy entries; trying again");
        }
    }
}
