//! Maintains this host's routes, bridge and sysctls.
//!
//! One task, [`Engine::run`], owns all of it. It waits for the session's view of the cluster ([`Input`]), for verdicts on hosts
//! without agents, for the kernel's events, and for its timers. Then it makes one pass: it reads stale state from the kernel,
//! computes the desired routes, applies the difference, and publishes the result ([`Report`]). It ends only if the kernel's
//! events end.

mod basis;
mod brake_file;
mod meters;
mod news;
mod pass;
mod preview;
mod text;
mod towards;

use std::{sync::Arc, time::Duration};

use sextant_daemon::systemd::Heartbeat;
use sextant_proto::{Conflict, Epoch, FailedRoute, Incarnation, Prefix, Revision, Uplink, Verdict};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use crate::{
    cluster::{Input, Verdicts},
    deadline,
    host::HostSetup,
    kernel::{Event, Kernel, KernelError, Link, Route, RouteProtocol},
    log_limiter::{Line, LogLimiter},
    problems::{Finding, Problems},
    routes::{Actual, Desired, Imports, Memory},
    settings::Settings,
    state::StateDir,
    uplinks::LocalUplink,
};

use basis::Basis;
use brake_file::BrakeFile;
pub use meters::Meters;
pub use preview::{Asker, Pending, Preview};
pub(crate) use text::leads;
pub use towards::Towards;

/// The delay before a retry after the kernel stopped answering.
const RETRY: Duration = Duration::from_millis(200);
/// How long to gather events before a pass, so that a burst makes one pass.
const GATHER: Duration = Duration::from_millis(2);

/// Every which resync reads others' routes too: events report them, and a dump may silently miss some.
const FOREIGN_EVERY: u32 = 10;

/// What peers need to know of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// Its interfaces towards them.
    pub uplinks: Vec<Uplink>,
    /// What of its host prefix is on its bridge.
    pub container_prefix: Prefix,
}

/// The result of the last pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The claim that the host is set up for.
    pub holding: Option<Epoch>,
    /// The revision of the view that is in the kernel, except for failed and held routes.
    pub applied: Option<(Incarnation, Revision)>,
    /// Routes that the kernel refused.
    pub failed: Vec<FailedRoute>,
    /// Routes that another process changes again and again.
    pub flapping: Vec<FailedRoute>,
    /// Others' routes for the same destinations.
    pub conflicts: Vec<Conflict>,
    /// Verdicts on hosts without agents.
    pub verdicts: Vec<Verdict>,
    /// The host is set up, or the router is.
    pub set_up: bool,
    /// Set once the host is set up: peers may route to it. A router has none.
    pub announcement: Option<Announcement>,
    /// The routes to peers are removed, because this host is drained.
    pub withdrawn: bool,
    /// The number of routes to absent peers that the brake keeps until a resume.
    pub held: u32,
    /// No change is made until a resume.
    pub paused: bool,
}

/// State that must be read from the kernel before the next pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stale {
    links: bool,
    ours: bool,
    foreign: bool,
}

impl Stale {
    const ALL: Stale = Stale { links: true, ours: true, foreign: true };
    const NOTHING: Stale = Stale { links: false, ours: false, foreign: false };
}

/// The owner of this host's routes, bridge and sysctls.
pub struct Engine {
    kernel: Arc<dyn Kernel>,
    settings: Settings,
    host: HostSetup,
    input: watch::Receiver<Input>,
    verdicts: watch::Receiver<Arc<Verdicts>>,
    imports: watch::Receiver<Arc<Imports>>,
    report: watch::Sender<Report>,
    problems: Problems,
    heartbeat: Heartbeat,
    stale: Stale,
    actual: Actual,
    uplinks: Vec<LocalUplink>,
    uplink_findings: Vec<Finding>,
    basis: Basis,
    memory: Memory,
    brake_file: BrakeFile,
    meters: Meters,
    /// Since when events wait for a pass, and since when not all is right.
    events_since: Option<Instant>,
    wrong_since: Option<Instant>,
    log: LogLimiter,
    retry_at: Option<Instant>,
    asker: Asker,
    asks: mpsc::Receiver<preview::Ask>,
}

impl Engine {
    /// The engine of this host.
    pub fn new(
        kernel: Arc<dyn Kernel>,
        settings: Settings,
        host: HostSetup,
        input: watch::Receiver<Input>,
        verdicts: watch::Receiver<Arc<Verdicts>>,
        report: watch::Sender<Report>,
        heartbeat: Heartbeat,
    ) -> Self {
        let (asker, asks) = mpsc::channel(1);
        Self {
            kernel,
            settings,
            host,
            input,
            verdicts,
            imports: watch::channel(Arc::default()).1,
            report,
            problems: Problems::default(),
            heartbeat,
            stale: Stale::ALL,
            actual: Actual::default(),
            uplinks: Vec::new(),
            uplink_findings: Vec::new(),
            basis: Basis::default(),
            memory: Memory::new(Instant::now()),
            brake_file: BrakeFile::default(),
            meters: Meters::default(),
            events_since: None,
            wrong_since: Some(Instant::now()),
            log: LogLimiter::default(),
            retry_at: None,
            asker: Asker(asker),
            asks,
        }
    }

    /// With the routes that routers announce.
    #[must_use]
    pub fn importing(mut self, imports: watch::Receiver<Arc<Imports>>) -> Self {
        self.imports = imports;
        self
    }

    /// Sets the list of problems that all modules share.
    #[must_use]
    pub fn with_problems(mut self, problems: Problems) -> Self {
        self.problems = problems;
        self
    }

    /// With a brake that continues from the state directory, and is saved there.
    #[must_use]
    pub fn keeping(mut self, state: Arc<StateDir>) -> Self {
        (self.brake_file, self.memory.brake) = BrakeFile::open(state, Instant::now());
        self
    }

    /// What it counts.
    pub fn meters(&self) -> Meters {
        self.meters.clone()
    }

    /// Keeps the host as it should be, for as long as there is a session.
    ///
    /// # Errors
    /// If the kernel cannot be listened to.
    pub async fn run(mut self) -> Result<(), KernelError> {
        let mut events = self.kernel.events().await?;
        let resync = Duration::from_secs(self.settings.routes.resync_secs.into());
        let (mut resync_at, mut resyncs) = (Instant::now() + resync, 0u32);
        loop {
            self.try_pass().await;
            let due = self.due();
            tokio::select! {
                // Without a session there is nothing more to learn, and nothing to change.
                changed = self.input.changed() => match changed {
                    Ok(()) => self.is_wrong(),
                    Err(_) => return Ok(()),
                },
                Ok(()) = self.verdicts.changed() => self.is_wrong(),
                Ok(()) = self.imports.changed() => self.is_wrong(),
                event = events.recv() => self.take_events(event, &mut events).await?,
                () = deadline::reached(due) => {}
                () = tokio::time::sleep_until(resync_at) => {
                    resync_at = Instant::now() + resync;
                    resyncs = resyncs.wrapping_add(1);
                    self.host.request_check();
                    self.stale.ours = true;
                    self.stale.foreign |= resyncs % FOREIGN_EVERY == 0;
                }
                Some(ask) = self.asks.recv() => self.answer(ask).await,
                never = beat(&self.heartbeat) => match never {},
            }
        }
    }

    /// When something that is held back is due.
    fn due(&self) -> Option<Instant> {
        self.retry_at.into_iter().chain(self.memory.next_due(Instant::now())).min()
    }

    /// An input or event has come: the kernel may differ from the desired routes.
    fn is_wrong(&mut self) {
        self.wrong_since.get_or_insert_with(Instant::now);
    }

    async fn try_pass(&mut self) {
        self.retry_at = None;
        let passed = self.pass().await;
        if let Some(since) = self.events_since.take() {
            self.meters.caught_up(since);
        }
        if let Err(error) = passed {
            self.meters.broken.inc();
            tracing::warn!(%error, "the kernel's answer broke off; reading everything anew");
            self.stale = Stale::ALL;
            self.retry_at = Some(Instant::now() + RETRY);
        }
    }

    async fn take_events(
        &mut self,
        first: Option<Event>,
        events: &mut mpsc::Receiver<Event>,
    ) -> Result<(), KernelError> {
        let ended = || KernelError::Broken("the kernel's events ended".into());
        let first = first.ok_or_else(ended)?;
        self.events_since = Some(Instant::now());
        self.is_wrong();
        self.take(&first);
        tokio::time::sleep(GATHER).await;
        while let Ok(event) = events.try_recv() {
            self.take(&event);
        }
        Ok(())
    }

    fn take(&mut self, event: &Event) {
        match event {
            Event::Overrun => {
                if let Some(withheld) = self.log.admit(Line::Overrun, Instant::now()) {
                    tracing::info!(withheld, "events of the kernel were lost; reading everything anew");
                }
                self.meters.overruns.inc();
                self.stale = Stale::ALL;
            }
            Event::RouteChanged(route) | Event::RouteGone(route) => {
                let gone = matches!(event, Event::RouteGone(_));
                self.note_undone(route, gone);
                // A replace removes the previous route without an event, whichever process made it.
                self.stale.foreign |= !gone && self.actual.is_anothers(route);
                if route.protocol != RouteProtocol::OURS {
                    if gone { self.actual.lost(route) } else { self.actual.saw(route) }
                }
                self.stale.ours |=
                    route.protocol == RouteProtocol::OURS || self.memory.wanted.knows(&route.key);
            }
            Event::LinkChanged(link) | Event::LinkGone(link) => {
                if self.carries_routes(link) {
                    self.memory.damping.forget_all();
                }
                // The kernel drops the routes of a link that goes.
                self.stale.links = true;
                self.stale.ours = true;
                // What failed for want of the link is worth another try.
                self.memory.failures.forget_all();
            }
            Event::AddressChanged(_) | Event::AddressGone(_) => self.stale.links = true,
        }
    }
}

impl Engine {
    /// Somebody else has changed a route, or taken it away; if that was one of ours, or looks like one, it is noted.
    fn note_undone(&mut self, route: &Route, gone: bool) {
        let ours = route.protocol == RouteProtocol::OURS;
        let undoes = if gone { ours } else { ours || self.actual.ours.contains_key(&route.key) };
        if !undoes {
            return;
        }
        let by = (!gone).then_some(route.protocol);
        let unreachable = self.memory.wanted.refuses(&route.key);
        if let Some(news) = self.memory.damping.undone(route.key, unreachable, by, Instant::now()) {
            tracing::warn!(
                destination = %news.key.destination, by = news.by, times = news.times,
                "route repeatedly changed by another process; backing off, except for unreachable routes; find and stop \
                 that process"
            );
        }
    }

    /// Whether the kernel drops routes of ours with the link.
    fn carries_routes(&self, link: &Link) -> bool {
        let uplink = self.settings.uplinks.contains(&link.name);
        uplink || link.name == "lo" || self.uplinks.iter().any(|local| local.link == link.index)
    }
}

/// Beats now, and for as long as the engine waits: it could do something if there were something to do.
async fn beat(heartbeat: &Heartbeat) -> std::convert::Infallible {
    loop {
        heartbeat.beat();
        heartbeat.due().await;
    }
}

#[cfg(test)]
mod tests;
