//! The agent's conversation with the controllers.
//!
//! One task, [`Session::run`], owns it: it connects, claims, follows the stream, and reconnects. What it learns goes to
//! the engine as an [`Input`], what the engine reports goes out as announcements and acks. [`dialogue`] decides what to
//! say; [`link`] is the edge that speaks gRPC. It never ends: no controller is no reason to stop (DESIGN I5).

mod attempts;
mod backoff;
mod dialogue;
mod farewell;
mod link;
mod loops;
mod questions;
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
use farewell::{Leaving, farewell};
use link::{ClaimOutcome, Link, LinkError};
use loops::Loops;

pub use farewell::Farewell;
pub(crate) use questions::{Answer, Answers, Question};

/// A stream that lasted this long was a good one: the next connection is not delayed by what failed before.
const GOOD_STREAM: Duration = Duration::from_secs(10);

/// What the session is doing, for probes and metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Condition {
    /// A controller is connected, and has been heard.
    pub connected: bool,
    /// What went wrong last, while nobody is connected.
    pub trouble: Option<String>,
    /// How many streams there have been.
    pub streams: u64,
}

/// The conversation with the controllers.
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
    leaving: Leaving,
    loops: Loops,
    attempts: Attempts,
}

/// Why a connection came to its end.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("fenced: {0}")]
    Fenced(String),
    #[error("claiming anew: {0}")]
    ClaimLost(dialogue::Lost),
    #[error(transparent)]
    State(#[from] StateError),
}

impl Ended {
    /// Its kind, as the log's transitions name it.
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
    /// The session of this node, going on from the claim in the state directory; and what says farewell for it.
    ///
    /// # Errors
    /// If the state cannot be read.
    #[allow(clippy::too_many_arguments)] // Each is an end of what another room holds the other end of.
    pub(crate) fn new(
        settings: Settings,
        dial: SharedDial,
        state: Arc<StateDir>,
        input: watch::Sender<Input>,
        report: watch::Receiver<Report>,
        bgp: watch::Receiver<Vec<BgpNeighbour>>,
        condition: watch::Sender<Condition>,
        answers: Arc<dyn Answers>,
    ) -> Result<(Self, Farewell), StateError> {
        let (farewell, leaving) = farewell(condition.subscribe());
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
            leaving,
            loops: Loops::default(),
            attempts: Attempts::default(),
        };
        session.publish(false);
        Ok((session, farewell))
    }

    /// With the list of problems that all rooms share.
    #[must_use]
    pub fn with_problems(self, problems: &Problems) -> Self {
        Self { found: problems.watch(), problems: problems.clone(), ..self }
    }

    /// Connects and reconnects, for ever.
    ///
    /// # Errors
    /// None: every trouble is told and tried again.
    pub async fn run(mut self) -> Result<(), StateError> {
        let mut backoff = Backoff::default();
        loop {
            for endpoint in self.settings.controllers.clone() {
                let started = Instant::now();
                let ended = self.converse(&endpoint).await;
                if started.elapsed() >= GOOD_STREAM {
                    backoff.reset();
                    self.attempts.worked(&endpoint.to_string());
                }
                let (fenced, delay) = self.conclude(&endpoint, ended).await;
                let usual = if fenced { Duration::ZERO } else { backoff.next_delay() };
                tokio::time::sleep(usual.max(delay)).await;
            }
        }
    }

    /// One connection, from the claim to the end of the stream.
    async fn converse(&mut self, endpoint: &Endpoint) -> Result<std::convert::Infallible, Ended> {
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
                            "container prefix longer than /80: addresses cannot end in a MAC address"
                        );
                    }
                    self.disown_view_past(claim.epoch);
                    self.state.keep_claim(Some(&claim))?;
                    transition("claim", self.claim.as_ref().map_or("none", |_| "held"), "held", "granted");
                    self.claim = Some(claim);
                }
                // The borrow must end before the publishing begins.
                let withdrawn = self.input.borrow().withdrawn;
                self.publish(withdrawn);
                Ok(())
            }
        }
    }

    /// A new claim is newer than all that was seen of its store. If the view is of a later revision, the store was taken back since;
    /// and if the claim before was refused, no second node knew the lost history. A node that registers what it holds keeps the
    /// view: controllers may still hear of that history from a second one.
    fn disown_view_past(&mut self, epoch: Epoch) {
        if self.claim.is_none() && self.view.reaches(epoch) {
            let seen = self.view.revision();
            tracing::warn!(%epoch, %seen, "new claim older than the view: the store was taken back; waiting for a snapshot");
            self.view.disown();
        }
    }

    /// After a connection has ended: says why, and if the claim is lost, has it taken down. Whether it was, and how long to wait
    /// at least: the transition may be one of a loop.
    async fn conclude(
        &mut self,
        endpoint: &Endpoint,
        ended: Result<std::convert::Infallible, Ended>,
    ) -> (bool, Duration) {
        let Err(ended) = ended;
        let connected = self.condition.borrow().connected;
        let delay = self.loops.connection_ended(&ended, connected, Instant::now());
        let fenced = matches!(ended, Ended::Fenced(_));
        if fenced {
            self.take_down(&ended).await;
        }
        let (controller, why) = (endpoint.to_string(), ended.to_string());
        if !fenced && let Some(failing) = self.attempts.failed(&controller, &why, Instant::now()) {
            let Failing { failures, for_secs } = failing;
            tracing::warn!(
                controller,
                error = why,
                failures,
                for_secs,
                "not connected; routes stay as they are"
            );
        }
        let trouble = Some(format!("controller {controller}: {why}"));
        self.report_problems(Some(&ended));
        self.condition.send_if_modified(|condition| {
            if condition.connected {
                transition("session", "connected", "disconnected", ended.kind());
            }
            let now = Condition { connected: false, trouble, streams: condition.streams };
            let changed = *condition != now;
            *condition = now;
            changed
        });
        (fenced, delay)
    }

    /// What a person must look at, after the connection has `ended` or while it lasts: a loop may have ended with time.
    fn report_problems(&mut self, ended: Option<&Ended>) {
        let found = match ended {
            Some(Ended::Link(LinkError::Duplicate(why))) => {
                Some(Finding::unready("duplicate-agent", why.clone(), ""))
            }
            _ => self.loops.problem(Instant::now()),
        };
        self.problems.report(Component::Session, found.into_iter().collect());
    }

    /// The claim is another's: what it had goes first, then the next connection claims anew (DESIGN I3).
    async fn take_down(&mut self, why: &Ended) {
        tracing::warn!(reason = %why, "claim lost; taking down what it had");
        transition("claim", self.claim.as_ref().map_or("none", |_| "held"), "none", why.kind());
        self.claim = None;
        if let Err(error) = self.state.keep_claim(None) {
            tracing::error!(%error, "the lost claim cannot be struck from the state directory");
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
