//! The agent's session with the controllers.
//!
//! One task, [`Session::run`], owns it: it connects, claims, follows the stream, and reconnects. It passes the view to the
//! engine as an [`Input`], and sends the engine's reports as announcements and acknowledgements. [`protocol`] decides which
//! messages to send; [`link`] is the edge to gRPC. The task never ends: it continues without a controller (DESIGN I5).
//!
//! [`Session`] only connects its parts: the claims in [`held`], the view in [`picture`], the reports of the other components in
//! [`reporters`], and its own condition in [`condition`].

mod backoff;
mod condition;
mod held;
mod identity;
mod link;
mod loops;
mod missing;
mod picture;
mod protocol;
mod questions;
mod reporters;
mod shutdown;
mod stream;
mod wishes;

use std::{convert::Infallible, sync::Arc, time::Duration};

use sextant_identity::SharedDial;
use sextant_proto::{BgpNeighbour, Claim, Epoch};
use tokio::{sync::watch, time::Instant};

use crate::{
    cluster::{Fence, Input},
    controllers::Controllers,
    engine::Report,
    problems::Problems,
    settings::{ControllerUrl, Role, Settings},
    state::{StateDir, StateError},
};

use backoff::Backoff;
use condition::Reporting;
use held::Held;
use identity::Identity;
use link::{ClaimOutcome, Link, LinkError};
use missing::Missing;
use picture::Picture;
use reporters::Reporters;
use shutdown::{ShutdownRequest, shutdown_notice};
use wishes::{Wish, wishes};

pub use condition::Condition;
pub(crate) use questions::{Answer, Answers, Question};
pub use shutdown::ShutdownNotice;

/// A stream that lasted this long was stable, and resets the back-off.
const STABLE_STREAM: Duration = Duration::from_secs(10);

/// The session's ends of its channels to the other components.
pub(crate) struct Ends {
    /// The picture of the cluster.
    pub(crate) input: watch::Sender<Input>,
    /// The state of the session.
    pub(crate) condition: watch::Sender<Condition>,
    /// The reports of the engine.
    pub(crate) report: watch::Receiver<Report>,
    /// The BGP neighbours.
    pub(crate) bgp: watch::Receiver<Vec<BgpNeighbour>>,
    /// The list of problems, which all components share.
    pub(crate) problems: Problems,
    /// The answers to operators' questions.
    pub(crate) answers: Arc<dyn Answers>,
}

/// The session with the controllers.
pub struct Session {
    settings: Settings,
    controllers: Controllers,
    dial: SharedDial,
    identity: Identity,
    held: Held,
    missing: Missing,
    fence: Fence,
    picture: Picture,
    reporters: Reporters,
    reporting: Reporting,
    answers: Arc<dyn Answers>,
    shutdown: ShutdownRequest,
}

/// The reason why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("fenced: {reason}")]
    Fenced {
        reason: String,
        /// Of the claim that has ended; a controller of an earlier version does not tell.
        epoch: Option<Epoch>,
    },
    #[error(transparent)]
    ClaimLost(protocol::LostClaim),
    #[error(transparent)]
    State(#[from] StateError),
}

impl Ended {
    /// Its kind, in the log of transitions.
    fn kind(&self) -> &'static str {
        match self {
            Self::Link(_) => "link",
            Self::Fenced { .. } => "fenced",
            Self::ClaimLost(_) => "claim lost",
            Self::State(_) => "state directory",
        }
    }

    /// Whether a controller refused the claim.
    fn is_fenced(&self) -> bool {
        matches!(self, Self::Fenced { .. })
    }
}

impl Session {
    /// The session of this node, which continues with the claim in the state directory; and the sender of its shutdown notice.
    ///
    /// # Errors
    /// If the state cannot be read.
    pub(crate) fn new(
        settings: Settings,
        controllers: Controllers,
        dial: SharedDial,
        state: Arc<StateDir>,
        ends: Ends,
    ) -> Result<(Self, ShutdownNotice), StateError> {
        let Ends { input, condition, report, bgp, problems, answers } = ends;
        let (notice, shutdown) = shutdown_notice(condition.subscribe());
        let identity = Identity::new(
            settings.node.clone(),
            state.node_id()?,
            settings.pools.clone(),
            settings.accept_pools.clone(),
        );
        let known = settings.controllers.iter().filter_map(ControllerUrl::literal_address).collect();
        let held = Held::stored(state, settings.pools.clone())?;
        let fence = Fence::around(&settings.accept_pools);
        let ndp_proxy = settings.ndp.is_some();
        let session = Self {
            settings,
            controllers,
            dial,
            identity,
            held,
            missing: Missing::default(),
            picture: Picture::new(fence.clone(), known, input),
            fence,
            reporters: Reporters { engine: report, bgp, problems: problems.watch(), ndp_proxy },
            reporting: Reporting::new(condition, problems),
            answers,
            shutdown,
        };
        session.publish(false);
        Ok((session, notice))
    }

    /// Connects and reconnects forever.
    ///
    /// # Errors
    /// None: errors are logged, and tried again.
    pub async fn run(mut self) -> Result<(), StateError> {
        let (mut backoff, mut fenced) = (Backoff::default(), false);
        loop {
            for endpoint in self.controllers.in_order() {
                let started = Instant::now();
                let Err(ended) = self.connect_and_follow(&endpoint).await;
                let controller = endpoint.to_string();
                if started.elapsed() >= STABLE_STREAM {
                    backoff.reset();
                    self.reporting.stable(&controller);
                }
                let delay = self.connection_ended(&controller, &ended).await;
                // A fenced agent claims again at once, unless the claim before was fenced too.
                let before = std::mem::replace(&mut fenced, ended.is_fenced());
                let usual = if fenced && !before { Duration::ZERO } else { backoff.next_delay() };
                tokio::time::sleep(usual.max(delay)).await;
            }
        }
    }

    /// One connection, from the claim to the end of the stream.
    async fn connect_and_follow(&mut self, endpoint: &ControllerUrl) -> Result<Infallible, Ended> {
        let connected = Link::connect(endpoint, self.dial.as_ref(), self.identity.clone()).await;
        self.controllers.tried(endpoint, connected.is_ok());
        let mut link = connected?;
        self.picture.remember_controller(link.addresses());
        if self.settings.role == Role::Host {
            self.claim(&mut link).await?;
        }
        self.follow(&mut link).await
    }

    /// Claims a prefix of each pool. A pool of which there is none keeps no other from being claimed (DESIGN I10). A controller that
    /// confirms none, as one that cannot read this node's record, is left for another one.
    async fn claim(&mut self, link: &mut Link) -> Result<(), Ended> {
        self.missing.clear();
        self.reporters.looked().await;
        let infrastructure = self.reporters.infrastructure();
        let mut confirmed = false;
        for wish in wishes(&self.settings.pools, self.settings.host_len, self.held.claims()) {
            match link.claim(&wish, self.receipt_of(&wish), infrastructure.clone()).await {
                Ok(outcome) => {
                    self.answered(&wish, outcome)?;
                    confirmed |= !wish.pool.as_ref().is_some_and(|pool| self.missing.has(pool));
                }
                Err(error) if wish.beside && (confirmed || matches!(error, LinkError::Refused(_))) => {
                    self.missing.failed(wish, &error);
                }
                Err(error) => return Err(error.into()),
            }
        }
        match self.missing.findings().into_iter().next() {
            Some(finding) if self.confirmed().is_empty() => Err(LinkError::Refused(finding.saw).into()),
            _ => {
                self.reporting.set_missing(self.missing.findings());
                self.picture.publish_claims(self.held.claims());
                Ok(())
            }
        }
    }

    /// The receipt of the held claim that the wish is for.
    fn receipt_of(&self, wish: &Wish) -> Option<Vec<u8>> {
        wish.held.as_ref().and_then(|held| self.held.receipt(held))
    }

    /// Takes a controller's answer to a wish.
    fn answered(&mut self, wish: &Wish, outcome: ClaimOutcome) -> Result<(), Ended> {
        match outcome {
            ClaimOutcome::Fenced(reason) => {
                let epoch = wish.held.as_ref().map(|held| held.epoch);
                Err(Ended::Fenced { reason, epoch })
            }
            // A controller from before claims of several pools grants the one that it knows of.
            ClaimOutcome::Granted(claim, _) if wish.beside && !wish.is_met_by(&claim) => {
                let why = format!(
                    "the controller gives each node one prefix ({}); upgrade the controllers to claim in several pools",
                    claim.prefix
                );
                self.missing.refused(wish.clone(), why);
                Ok(())
            }
            ClaimOutcome::Granted(claim, receipt) => {
                let pool = claim.pool.name.clone();
                let claim = match self.fence.admit(claim, self.held.claims()) {
                    Ok(claim) => claim,
                    Err(outside) => {
                        let wish = Wish { pool: Some(pool), ..wish.clone() };
                        self.missing.refused(wish, format!("a controller granted it, but {outside}"));
                        return Ok(());
                    }
                };
                let stored = match self.held.claims().contains(&claim) {
                    true => Ok(()),
                    false => self.granted(claim.clone(), wish.held.is_none()),
                };
                if let (Ok(()), Some(receipt)) = (&stored, receipt) {
                    self.held.keep_receipt(&claim, receipt);
                }
                match stored {
                    // The node's other claims work without this one (DESIGN I10).
                    Err(error) if wish.beside => self.missing.not_stored(wish.clone(), &error),
                    stored => {
                        stored?;
                        self.missing.granted(wish.pool.as_ref());
                    }
                }
                Ok(())
            }
        }
    }

    /// A controller granted a claim that this node did not hold before; `is_new` unless it is a held one in another store.
    fn granted(&mut self, claim: Claim, is_new: bool) -> Result<(), StateError> {
        let containers = claim.container_prefix();
        tracing::info!(prefix = %claim.prefix, %containers, epoch = %claim.epoch, pool = %claim.pool.name, "host prefix claimed");
        if claim.container_prefix().len() > 80 {
            tracing::warn!(
                prefix = %claim.container_prefix(),
                "container prefix longer than /80: addresses cannot contain a MAC address"
            );
        }
        if is_new {
            self.picture.disown_if_newer(&self.identity.node, &claim);
        }
        self.held.grant(claim)
    }

    /// Handles the end of a connection: logs the reason, and ends a lost claim. Returns the least delay before the next
    /// connection, which is longer in a loop.
    async fn connection_ended(&mut self, controller: &str, ended: &Ended) -> Duration {
        let delay = self.reporting.delay_after(ended);
        if ended.is_fenced() {
            self.end_claim(ended).await;
        }
        self.reporting.disconnected(controller, ended);
        delay
    }

    /// Ends a lost claim: its routes and addresses are removed before the next connection claims again (DESIGN I3). The node's
    /// other claims stay as they are.
    async fn end_claim(&mut self, why: &Ended) {
        let Ended::Fenced { epoch, .. } = why else { return };
        let Some(lost) = self.held.lose(*epoch, why) else { return };
        tracing::warn!(
            pool = %lost.pool.name, prefix = %lost.prefix, reason = %why,
            "claim lost; removing its routes and addresses"
        );
        if self.held.claims().is_empty() {
            self.publish(false);
        } else {
            self.picture.publish_claims(self.held.claims());
        }
        self.reporters.no_longer_holds(lost.epoch).await;
    }

    /// The held claims that the connected controller has confirmed.
    fn confirmed(&self) -> Vec<Claim> {
        let held = self.held.claims().iter();
        held.filter(|claim| !self.missing.has(&claim.pool.name)).cloned().collect()
    }

    fn publish(&self, withdrawn: bool) {
        self.picture.publish(self.held.claims(), withdrawn);
    }
}
