//! Maintains this host's routes, bridge and sysctls.
//!
//! One task, [`Engine::run`], owns all of it. It waits for the session's view of the cluster ([`Input`]), for verdicts on hosts
//! without agents, for the kernel's events, and for its timers. Then it makes one pass: it reads stale state from the kernel,
//! computes the desired routes, applies the difference, and publishes the result ([`Report`]). It ends only if the kernel's
//! events end.
//!
//! Its parts know nothing of each other: [`Inputs`] has the other tasks' channels, [`KernelState`] what the kernel last said,
//! [`Planner`] the desired routes and the memory of earlier passes, [`Publisher`] the receivers of the result, [`Timing`] the
//! times that are measured. `events.rs` and `pass.rs` carry facts from one to the next.

mod announcement;
mod asks;
mod basis;
mod bgp_pools;
mod brake_file;
mod concern;
mod conflicts;
mod docker_routes;
mod events;
mod inputs;
mod kernel_state;
mod meters;
mod news;
mod outcome;
mod pass;
mod planner;
mod policy;
mod preview;
mod publisher;
mod report;
mod resync;
mod settling;
mod text;
mod timing;
mod towards;
mod uplink_names;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use sextant_daemon::{OncePerMinute, systemd::Heartbeat};
use sextant_proto::Prefix;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior},
};

use crate::{
    cluster::{Input, Verdicts},
    containers::{Bridges, OtherPrefixes},
    deadline,
    host::HostSetup,
    kernel::{Kernel, KernelError, Route},
    problems::Problems,
    routes::Imports,
    settings::Settings,
    state::StateDir,
    uplinks::LocalUplink,
};

pub use asks::Asker;
use asks::Asks;
use inputs::{Inputs, SessionEnded};
use kernel_state::KernelState;
pub use meters::Meters;
use planner::Planner;
pub(crate) use policy::{Arriving, TakenPackets};
pub use preview::{Pending, Preview};
use publisher::Publisher;
pub use report::{AnnouncedClaim, Announcement, Report};
use resync::Resync;
use settling::Settling;
use timing::Timing;
pub use towards::Towards;

/// How often state of the host without events is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// The delay before a retry after the kernel stopped answering.
const RETRY: Duration = Duration::from_millis(200);

/// The owner of this host's routes, bridge and sysctls.
pub struct Engine {
    kernel: Arc<dyn Kernel>,
    settings: Arc<Settings>,
    inputs: Inputs,
    state: KernelState,
    planner: Planner,
    host: HostSetup,
    publisher: Publisher,
    uplinks: watch::Sender<Vec<LocalUplink>>,
    path_mtu: watch::Sender<Option<u32>>,
    boot_routes: watch::Sender<Arc<Vec<Route>>>,
    settling: Settling,
    asks: Asks,
    timing: Timing,
    heartbeat: Heartbeat,
    retry_at: Option<Instant>,
    lines: OncePerMinute,
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
        let settings = Arc::new(settings);
        Self {
            inputs: Inputs::new(input, verdicts),
            state: KernelState::unread(kernel.clone(), settings.clone()),
            planner: Planner::new(settings.clone()),
            kernel,
            settings,
            host,
            publisher: Publisher::new(report),
            uplinks: watch::Sender::default(),
            path_mtu: watch::Sender::default(),
            boot_routes: watch::Sender::default(),
            settling: Settling::default(),
            asks: Asks::new(),
            timing: Timing::start(),
            heartbeat,
            retry_at: None,
            lines: OncePerMinute::default(),
        }
    }

    /// With the routes that routers announce.
    #[must_use]
    pub fn importing(mut self, imports: watch::Receiver<Arc<Imports>>) -> Self {
        self.inputs.import_from(imports);
        self
    }

    /// With the container prefixes of an engine's networks, besides those of the bridge.
    #[must_use]
    pub fn announcing(mut self, networks: watch::Receiver<OtherPrefixes>) -> Self {
        self.inputs.announce_too(networks);
        self
    }

    /// With the bridges of a container engine's networks: routes to them are judged by the checks of that engine. While it is `away`,
    /// changes of the containers' bridge are its own.
    #[must_use]
    pub fn beside(mut self, bridges: watch::Receiver<Bridges>, away: watch::Receiver<bool>) -> Self {
        self.inputs.engine_from(bridges, away);
        self
    }

    /// With the prefixes of former networks on the agent's bridge: routes that the engine has left there are removed.
    #[must_use]
    pub fn removing(mut self, left: watch::Receiver<BTreeSet<Prefix>>) -> Self {
        self.inputs.left_from(left);
        self
    }

    /// Sets the list of problems that all modules share.
    #[must_use]
    pub fn with_problems(mut self, problems: Problems) -> Self {
        self.publisher.list_problems_in(problems);
        self
    }

    /// With a brake that continues from the state directory, and is saved there.
    #[must_use]
    pub fn keeping(mut self, state: Arc<StateDir>) -> Self {
        self.planner.keep_brake_in(state);
        self
    }

    /// The uplinks, and their changes.
    pub fn uplinks(&self) -> watch::Receiver<Vec<LocalUplink>> {
        self.uplinks.subscribe()
    }

    /// The size of the largest packet that all uplinks carry, once known, and its changes.
    pub fn path_mtu(&self) -> watch::Receiver<Option<u32>> {
        self.path_mtu.subscribe()
    }

    /// The routes of `proto boot` in the main table that lead to a link without a gateway, and their changes, where a container
    /// engine is watched.
    pub fn boot_routes(&self) -> watch::Receiver<Arc<Vec<Route>>> {
        self.boot_routes.subscribe()
    }

    /// What it counts.
    pub fn meters(&self) -> Meters {
        self.timing.meters.clone()
    }

    /// Asks this engine, from wherever.
    pub fn asker(&self) -> Asker {
        self.asks.asker()
    }

    /// Sets the host up once. Returns what came of it.
    ///
    /// # Errors
    /// If the exchange with the kernel fails.
    pub async fn once(mut self) -> Result<Report, KernelError> {
        self.pass().await?;
        Ok(self.publisher.last().clone())
    }

    /// Keeps the host as it should be, for as long as there is a session.
    ///
    /// # Errors
    /// If the kernel cannot be listened to.
    pub async fn run(mut self) -> Result<(), KernelError> {
        let mut events = self.kernel.events().await?;
        let mut resync = Resync::every(Duration::from_secs(self.settings.routes.resync_secs.into()));
        let mut look = interval(LOOK);
        let mut concerned = true;
        loop {
            if std::mem::replace(&mut concerned, true) {
                self.try_pass().await;
            }
            let due = self.due();
            tokio::select! {
                changed = self.inputs.changed() => match changed {
                    Ok(()) => self.timing.news(),
                    Err(SessionEnded) => return Ok(()),
                },
                event = events.recv() => concerned = self.take_events(event, &mut events).await?,
                () = deadline::reached(due) => {}
                () = resync.due() => {
                    self.host.request_check();
                    let foreign = resync.made();
                    self.state.routes_are_stale(foreign);
                    if foreign {
                        self.host.advertised_changed();
                    }
                }
                _ = look.tick() => concerned = self.look_at_host(),
                Some(ask) = self.asks.next() => self.answer(ask).await,
                never = beat(&self.heartbeat) => match never {},
            }
        }
    }

    /// Looks at state of the host that has no events. Returns whether a pass is due.
    fn look_at_host(&mut self) -> bool {
        let table = self.settings.routes.table;
        self.timing.meters.stand(self.planner.desired(), self.state.actual(), table);
        let changed = self.host.look();
        self.state.look_at_containers() || changed
    }

    /// When something that is held back is due. During a pause, nothing is.
    fn due(&self) -> Option<Instant> {
        if self.publisher.last().paused {
            return None;
        }
        let due = [self.planner.next_due(), self.host.due(), self.settling.due()];
        self.retry_at.into_iter().chain(due.into_iter().flatten()).min()
    }

    async fn try_pass(&mut self) {
        self.retry_at = None;
        self.timing.meters.passes.inc();
        let passed = self.pass().await;
        self.timing.pass_ended();
        if let Err(error) = passed {
            self.timing.meters.broken.inc();
            if let Some(suppressed) = self.lines.admit(&error.to_string(), Instant::now()) {
                tracing::warn!(%error, suppressed, "the kernel's answer broke off; reading everything anew");
            }
            self.state.all_is_stale();
            self.host.advertised_changed();
            self.retry_at = Some(Instant::now() + RETRY);
        }
    }
}

fn interval(period: Duration) -> tokio::time::Interval {
    let mut interval = tokio::time::interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
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
