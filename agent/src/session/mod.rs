//! The agent's session with the controllers.
//!
//! One task, [`Session::run`], owns it: it connects, claims, follows the stream, and reconnects. It passes the view to the
//! engine as an [`Input`], and sends the engine's reports as announcements and acknowledgements. [`protocol`] decides which
//! messages to send; [`link`] is the edge to gRPC. The task never ends: it continues without a controller (DESIGN I5).

mod attempts;
mod backoff;
mod link;
mod loops;
mod protocol;
mod questions;
mod shutdown;
mod stream;

use std::{
    net::Ipv6Addr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sextant_daemon::{Failing, SharedDial, transition};
use sextant_proto::{BgpNeighbour, Claim, Epoch, InstanceId, NodeId};
use tokio::{sync::watch, time::Instant};

use crate::{
    cluster::{Input, View},
    engine::Report,
    problems::{Component, Finding, Found, Problems},
    settings::{Endpoint, Role, Settings},
    state::{StateDir, StateError},
};

use attempts::Attempts;
use backoff::Backoff;
use link::{ClaimOutcome, Link, LinkError};
use loops::Loops;
use shutdown::{ShutdownRequest, shutdown_notice};

pub(crate) use questions::{Answer, Answers, Question};
pub use shutdown::ShutdownNotice;

/// A stream that lasted this long was stable, and resets the back-off.
const STABLE_STREAM: Duration = Duration::from_secs(10);

/// The state of the session, for probes and metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Condition {
    /// A controller is connected, and has answered.
    pub connected: bool,
    /// The last error, while no controller is connected.
    pub error: Option<String>,
    /// The number of streams so far.
    pub streams: u64,
}

/// The session with the controllers.
pub struct Session {
    settings: Settings,
    dial: SharedDial,
    node_id: NodeId,
    instance: InstanceId,
    state: Arc<StateDir>,
    view: View,
    claim: Option<Claim>,
    input: watch::Sender<Input>,
    report: watch::Receiver<Report>,
    bgp: watch::Receiver<Vec<BgpNeighbour>>,
    problems: Problems,
    found: watch::Receiver<Found>,
    condition: watch::Sender<Condition>,
    controllers: Arc<Mutex<Vec<Ipv6Addr>>>,
    answers: Arc<dyn Answers>,
    shutdown: ShutdownRequest,
    loops: Loops,
    attempts: Attempts,
}

/// The reason why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("fenced: {0}")]
    Fenced(String),
    #[error("claim ended: {0}")]
    ClaimLost(protocol::Lost),
    #[error(transparent)]
    State(#[from] StateError),
}

impl Ended {
    /// Its kind, in the log of transitions.
    fn kind(&self) -> &'static str {
        match self {
            Self::Link(_) => "link",
            Self::Fenced(_) => "fenced",
            Self::ClaimLost(_) => "claim lost",
            Self::State(_) => "state directory",
        }
    }
}

impl Session {
    /// The session of this node, which continues with the claim in the state directory; and the sender of its shutdown notice.
    ///
    /// # Errors
    /// If the state cannot be read.
    #[allow(clippy::too_many_arguments)] // Each is one end of a channel to another component.
    pub(crate) fn new(
        settings: Settings,
        dial: SharedDial,
        state: Arc<StateDir>,
        input: watch::Sender<Input>,
        report: watch::Receiver<Report>,
        bgp: watch::Receiver<Vec<BgpNeighbour>>,
        condition: watch::Sender<Condition>,
        answers: Arc<dyn Answers>,
    ) -> Result<(Self, ShutdownNotice), StateError> {
        let (notice, shutdown) = shutdown_notice(condition.subscribe());
        let (node_id, claim) = (state.node_id()?, state.claim()?);
        let known = settings.controllers.iter().filter_map(Endpoint::literal_address).collect();
        let controllers = Arc::new(Mutex::new(known));
        let session = Self {
            settings,
            dial,
            node_id,
            instance: InstanceId::random(),
            state,
            view: View::default(),
            claim,
            input,
            report,
            bgp,
            found: Problems::default().watch(),
            problems: Problems::default(),
            condition,
            controllers,
            answers,
            shutdown,
            loops: Loops::default(),
            attempts: Attempts::default(),
        };
        session.publish(false);
        Ok((session, notice))
    }

    /// With the list of problems, which all components share.
    #[must_use]
    pub fn with_problems(self, problems: &Problems) -> Self {
        Self { found: problems.watch(), problems: problems.clone(), ..self }
    }

    /// Connects and reconnects forever.
    ///
    /// # Errors
    /// None: errors are logged, and tried again.
    pub async fn run(mut self) -> Result<(), StateError> {
        let mut backoff = Backoff::default();
        loop {
            for endpoint in self.settings.controllers.clone() {
                let started = Instant::now();
                let ended = self.connect_and_follow(&endpoint).await;
                if started.elapsed() >= STABLE_STREAM {
                    backoff.reset();
                    self.attempts.succeeded(&endpoint.to_string());
                }
                let (fenced, delay) = self.connection_ended(&endpoint, ended).await;
                let usual = if fenced { Duration::ZERO } else { backoff.next_delay() };
                tokio::time::sleep(usual.max(delay)).await;
            }
        }
    }

    /// One connection, from the claim to the end of the stream.
    async fn connect_and_follow(&mut self, endpoint: &Endpoint) -> Result<std::convert::Infallible, Ended> {
        let mut link = Link::connect(endpoint, self.dial.as_ref()).await?;
        self.remember_controller(&link);
        if self.settings.role == Role::Host {
            self.claim(&mut link).await?;
        }
        self.follow(&mut link).await
    }

    async fn claim(&mut self, link: &mut Link) -> Result<(), Ended> {
        let (node, pool) = (self.settings.node.clone(), self.settings.pool.clone());
        let (host_len, held) = (self.settings.host_len, self.claim.as_ref());
        let outcome = link.claim(&node, self.node_id, pool.as_ref(), host_len, held).await?;
        match outcome {
            ClaimOutcome::Fenced(reason) => Err(Ended::Fenced(reason)),
            ClaimOutcome::Granted(claim) => {
                if self.claim.as_ref() != Some(&claim) {
                    tracing::info!(prefix = %claim.prefix, epoch = %claim.epoch, pool = %claim.pool.name, "host prefix claimed");
                    if claim.container_prefix().len() > 80 {
                        tracing::warn!(
                            prefix = %claim.container_prefix(),
                            "container prefix longer than /80: addresses cannot contain a MAC address"
                        );
                    }
                    self.disown_newer_view(claim.epoch);
                    self.state.keep_claim(Some(&claim))?;
                    transition("claim", self.claim.as_ref().map_or("none", |_| "held"), "held", "granted");
                    self.claim = Some(claim);
                }
                // The borrow must end before `publish`.
                let withdrawn = self.input.borrow().withdrawn;
                self.publish(withdrawn);
                Ok(())
            }
        }
    }

    /// A new claim should be newer than the view. If the view has a later revision, the store was taken back to an earlier state;
    /// and if the earlier claim was refused, no second node has reported the lost history. A node that registers its prefix
    /// keeps the view: a second node may still report that history to the controllers.
    fn disown_newer_view(&mut self, epoch: Epoch) {
        if self.claim.is_none() && self.view.reaches(epoch) {
            let seen = self.view.revision();
            tracing::warn!(%epoch, %seen, "new claim older than the view: store taken back to an earlier state; waiting for a snapshot");
            self.view.disown();
        }
    }

    /// Handles the end of a connection: logs the reason, and ends a lost claim. Returns whether the claim was lost, and the
    /// least delay before the next connection, which is longer in a loop.
    async fn connection_ended(
        &mut self,
        endpoint: &Endpoint,
        ended: Result<std::convert::Infallible, Ended>,
    ) -> (bool, Duration) {
        let Err(ended) = ended;
        let connected = self.condition.borrow().connected;
        let delay = self.loops.connection_ended(&ended, connected, Instant::now());
        let fenced = matches!(ended, Ended::Fenced(_));
        if fenced {
            self.end_claim(&ended).await;
        }
        let (controller, why) = (endpoint.to_string(), ended.to_string());
        if !fenced && let Some(failing) = self.attempts.failed(&controller, &why, Instant::now()) {
            let Failing { failures, for_secs } = failing;
            tracing::warn!(
                controller,
                error = why,
                failures,
                for_secs,
                "not connected to a controller; routes unchanged"
            );
        }
        let error = Some(format!("controller {controller}: {why}"));
        self.report_problems(Some(&ended));
        self.condition.send_if_modified(|condition| {
            if condition.connected {
                transition("session", "connected", "disconnected", ended.kind());
            }
            let now = Condition { connected: false, error, streams: condition.streams };
            let changed = *condition != now;
            *condition = now;
            changed
        });
        (fenced, delay)
    }

    /// Reports the session's problems, after the connection has `ended` or while it lasts, since a loop may have ended.
    fn report_problems(&mut self, ended: Option<&Ended>) {
        let found = match ended {
            Some(Ended::Link(LinkError::Duplicate(why))) => {
                Some(Finding::unready("duplicate-agent", why.clone(), ""))
            }
            _ => self.loops.problem(Instant::now()),
        };
        self.problems.report(Component::Session, found.into_iter().collect());
    }

    /// Ends a lost claim: its routes and addresses are removed before the next connection claims again (DESIGN I3).
    async fn end_claim(&mut self, why: &Ended) {
        tracing::warn!(reason = %why, "claim lost; removing its routes and addresses");
        transition("claim", self.claim.as_ref().map_or("none", |_| "held"), "none", why.kind());
        self.claim = None;
        if let Err(error) = self.state.keep_claim(None) {
            tracing::error!(%error, "cannot remove the lost claim from the state directory");
        }
        self.publish(false);
        let _engine_gone = self.report.wait_for(|report| report.holding.is_none()).await;
    }

    fn publish(&self, withdrawn: bool) {
        let controllers = self.controllers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let view = Arc::new(self.view.clone());
        self.input.send_replace(Input { claim: self.claim.clone(), view, withdrawn, controllers });
    }

    fn remember_controller(&self, link: &Link) {
        let mut known = self.controllers.lock().unwrap_or_else(PoisonError::into_inner);
        for address in link.addresses() {
            if !known.contains(address) {
                known.push(*address);
            }
        }
    }
}
