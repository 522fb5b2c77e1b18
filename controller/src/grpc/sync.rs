//! An agent's stream: hello, snapshot or missed deltas, then new deltas; acks in the other direction.
//!
//! Each stream is a cursor into the ring of the index. It has no task of its own: it exists as long as the call, and works
//! when it is polled.

use std::{collections::VecDeque, net::SocketAddr, sync::Arc, time::Duration};

use futures::{Stream, future::Either, stream};
use sextant_proto::{
    Ack, Applied, Incarnation, Mark, Revision, VERSION, convert,
    v1::{self, agent_message::Message as FromAgent, controller_message::Message as ToAgent},
};
use tokio::{
    sync::watch,
    time::{Interval, MissedTickBehavior},
};
use tonic::{Status, Streaming};

use super::{
    Services, admission,
    announced::announced_claims,
    follower::Follower,
    principal::{Principal, serves},
    status::malformed,
};
use crate::{
    claims::{Announcement, HolderError},
    controllers::{Reached, urls},
    doubts::Knows,
    index::Since,
    questions::Channel,
    registry::KeyRange,
    sessions::Attachment,
};

/// How long the index may take to reach the revision of the store at the hello.
const FRESH_WITHIN: Duration = Duration::from_secs(3);
/// How long a stream may be open without a hello; not longer than the idle time-out.
const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// The number of keepalives within the time after which an agent is down.
const KEEPALIVES_PER_DOWN: u32 = 5;
/// The number of polls of a stream within that time at least.
const POLLS_PER_DOWN: u32 = 2;
/// The number of keepalive periods without a message after which a stream is closed.
const SILENT_KEEPALIVES: u32 = 3;

/// Reads the hello, and answers with the stream.
pub(super) async fn open(
    services: Services,
    caller: &Principal,
    from: Option<SocketAddr>,
    mut inbound: Streaming<v1::AgentMessage>,
) -> Result<impl Stream<Item = Result<v1::ControllerMessage, Status>> + use<>, Status> {
    let within = HELLO_WITHIN.min(services.connections.idle_timeout());
    let hello = tokio::time::timeout(within, inbound.message()).await;
    let hello =
        hello.map_err(|_| Status::deadline_exceeded(format!("no hello received within {within:?}")))?;
    let first = hello?.and_then(|message| message.message);
    let Some(FromAgent::Hello(hello)) = first else {
        return Err(Status::invalid_argument("the first message of a stream must be the hello"));
    };
    let follower = Follower::parse(&hello)?;
    caller.may_act_for(follower.node())?;
    let denials = services.index.subscribe_to_denials();
    follower.check_denials(&services)?;
    follower.check_name(&services)?;
    if let Some(fenced) = follower.fenced(&services).await? {
        return Ok(Either::Left(stream::iter([Ok(fenced)])));
    }
    let attachment = admission::admit(&services, follower.node(), &hello, from).await?;
    services.sessions.shows(follower.node(), caller.node().map_or("", |(_, serial)| serial));
    let (taker, polls) = (attachment.taker(), services.sessions.down_after() / POLLS_PER_DOWN);
    let over_tls = matches!(caller, Principal::Member(_));
    let session = Session::begin(services, follower, attachment, denials, over_tls, &hello, inbound).await;
    let messages = |mut session: Session| async move { session.next().await.map(|item| (item, session)) };
    Ok(Either::Right(taker.count(polls, stream::unfold(session, messages))))
}

struct Session {
    services: Services,
    follower: Follower,
    version: String,
    inbound: Streaming<v1::AgentMessage>,
    outbound: VecDeque<ToAgent>,
    /// The last revision put into `outbound`.
    cursor: Revision,
    /// The incarnation of the last snapshot or delta.
    incarnation: Incarnation,
    /// The stream had another incarnation before: acks of that may still arrive.
    switched: bool,
    /// The agent's history is that of the store. If it is not, deletions are not sent to the agent.
    agrees: bool,
    changes: watch::Receiver<Revision>,
    /// Changes of which nodes are revoked.
    denials: watch::Receiver<Revision>,
    /// Changes of where controllers are reached.
    reached: watch::Receiver<Arc<Vec<Reached>>>,
    over_tls: bool,
    keepalive: Interval,
    attachment: Attachment,
    channel: Channel,
    ended: bool,
}

impl Session {
    async fn begin(
        services: Services,
        follower: Follower,
        attachment: Attachment,
        denials: watch::Receiver<Revision>,
        over_tls: bool,
        hello: &v1::Hello,
        inbound: Streaming<v1::AgentMessage>,
    ) -> Self {
        let mut keepalive = tokio::time::interval(keepalive_period(&services));
        keepalive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        keepalive.reset();
        let mut session = Self {
            changes: services.index.subscribe(),
            denials,
            reached: services.others.reached(),
            over_tls,
            attachment,
            channel: services.questions.channel(follower.node()),
            version: convert::text(hello.version.clone()),
            cursor: Revision::ZERO,
            incarnation: services.index.read(|state| state.meta().incarnation),
            switched: false,
            agrees: true,
            outbound: VecDeque::new(),
            ended: false,
            services,
            follower,
            inbound,
            keepalive,
        };
        session.welcome();
        session.catch_up(hello).await;
        session
    }

    fn welcome(&mut self) {
        let period = keepalive_period(&self.services);
        let incarnation = self.services.index.read(|state| state.meta().incarnation);
        self.outbound.push_back(ToAgent::Welcome(v1::Welcome {
            incarnation: incarnation.into(),
            controller: self.services.sessions.identity().id.clone(),
            keepalive_ms: millis(period),
            silence_ms: millis(period * SILENT_KEEPALIVES),
            version: VERSION.into(),
        }));
        self.push_controllers();
    }

    /// Where the controllers are reached, once that is known.
    fn push_controllers(&mut self) {
        let urls = urls(&self.reached.borrow_and_update(), self.over_tls);
        if !urls.is_empty() {
            self.outbound.push_back(ToAgent::Controllers(v1::Controllers { urls }));
        }
    }

    /// Deltas after the revision of the hello, or a snapshot.
    async fn catch_up(&mut self, hello: &v1::Hello) {
        let fresh = self.refresh().await;
        if let Some(revision) = fresh {
            let knows = knows(hello);
            let (node, node_id) = (self.follower.node(), convert::id("node_id", &hello.node_id).ok());
            self.agrees = self.services.claims.lineage().heard(node, node_id, &knows, revision).await;
        }
        let here = self.services.index.read(|state| state.meta().incarnation);
        let resumes = self.agrees && hello.incarnation == here.octets()[..] && hello.revision > 0;
        match self.services.index.since(Revision(hello.revision)) {
            Since::Deltas(frames) if resumes => {
                self.cursor = Revision(hello.revision);
                self.push_deltas(frames);
            }
            _ => self.push_snapshot(fresh.is_some()),
        }
    }

    /// Waits until the index has the present revision of the store, and returns that; `None` if it takes too long (DESIGN I6).
    async fn refresh(&self) -> Option<Revision> {
        let key = KeyRange::key(&self.services.keys.meta());
        let fresh = async {
            let seen = self.services.index.seen();
            let listing = self.services.registry.list(&key).await.ok()?;
            self.services.claims.lineage().not_back(seen, listing.revision).ok()?;
            self.services.index.reaches(listing.revision, FRESH_WITHIN).await.then_some(listing.revision)
        };
        let fresh = tokio::time::timeout(FRESH_WITHIN, fresh).await.ok().flatten();
        if fresh.is_none() {
            tracing::debug!(node = %self.follower.node(), "store does not answer; sending a stale view");
        }
        fresh
    }

    fn push_snapshot(&mut self, fresh: bool) {
        let snapshot = self.services.index.snapshot();
        if snapshot.incarnation != self.incarnation {
            self.services.acks.forget(self.follower.node());
            (self.incarnation, self.switched, self.agrees) = (snapshot.incarnation, true, true);
        }
        let linearizable = fresh && self.agrees;
        self.cursor = snapshot.revision;
        self.outbound.push_back(ToAgent::SnapshotBegin(v1::SnapshotBegin {
            incarnation: snapshot.incarnation.into(),
            revision: snapshot.revision.0,
            chunks: u32::try_from(snapshot.chunks.len()).unwrap_or(u32::MAX),
            linearizable,
            recovering: snapshot.recovering,
            control: Some(snapshot.control.into()),
            mark: snapshot.mark.map(Into::into),
        }));
        self.outbound.extend(snapshot.chunks.iter().cloned().map(ToAgent::SnapshotChunk));
    }

    fn push_deltas(&mut self, frames: Vec<crate::index::Frame>) {
        for frame in frames {
            self.cursor = frame.revision;
            self.outbound.push_back(ToAgent::Delta(frame.delta));
        }
    }

    async fn next(&mut self) -> Option<Result<v1::ControllerMessage, Status>> {
        loop {
            if let Some(message) = self.outbound.pop_front() {
                return Some(Ok(v1::ControllerMessage { message: Some(message) }));
            }
            if self.ended {
                return None;
            }
            if let Err(status) = self.wait().await {
                self.ended = true;
                return Some(Err(status));
            }
        }
    }

    /// Waits for one event, and handles it.
    async fn wait(&mut self) -> Result<(), Status> {
        tokio::select! {
            message = self.inbound.message() => match message? {
                Some(message) => self.handle(message).await?,
                None => self.ended = true,
            },
            changed = self.changes.changed() => {
                changed.map_err(|_| Status::unavailable("the controller is stopping"))?;
                self.advance().await;
            }
            changed = self.denials.changed() => {
                changed.map_err(|_| Status::unavailable("the controller is stopping"))?;
                self.follower.check_denials(&self.services)?;
            }
            Ok(()) = self.reached.changed() => self.push_controllers(),
            _ = self.keepalive.tick() => {
                if self.attachment.silence() >= keepalive_period(&self.services) * SILENT_KEEPALIVES {
                    return Err(Status::deadline_exceeded("no message from the agent within the keepalive time-out"));
                }
                let stale = !self.services.sessions.lease_kept();
                self.outbound.push_back(ToAgent::Keepalive(v1::Keepalive { stale }));
            }
            Some(question) = self.channel.next() => self.outbound.push_back(ToAgent::Question(question)),
            () = self.attachment.superseded() => {
                return Err(self.superseded());
            }
        }
        Ok(())
    }

    fn superseded(&self) -> Status {
        let node = self.follower.node();
        Status::aborted(format!(
            "superseded: node {node} has a newer stream, or has not read this one for too long"
        ))
    }

    async fn advance(&mut self) {
        let here = self.services.index.read(|state| state.meta().incarnation);
        match self.services.index.since(self.cursor) {
            Since::Deltas(frames) if here == self.incarnation => self.push_deltas(frames),
            _ => {
                let fresh = self.refresh().await.is_some();
                self.push_snapshot(fresh);
            }
        }
    }

    async fn handle(&mut self, message: v1::AgentMessage) -> Result<(), Status> {
        // A stream that is not the node's newest any more changes nothing.
        if !self.attachment.is_current() {
            return Err(self.superseded());
        }
        self.attachment.heard();
        if matches!(message.message, Some(FromAgent::Announce(_) | FromAgent::Drained(_))) {
            serves(&self.services.index)?;
        }
        match message.message {
            Some(FromAgent::Announce(announce)) => self.announce(announce).await,
            Some(FromAgent::Ack(ack)) => self.ack(ack).await,
            Some(FromAgent::Drained(drained)) => {
                let done = self
                    .services
                    .claims
                    .drained(self.follower.holder()?, convert::names(drained.laggards))
                    .await;
                self.fenced_or(done)
            }
            Some(FromAgent::Answer(answer)) => {
                self.channel.answered(answer);
                Ok(())
            }
            Some(FromAgent::Stopping(_)) => {
                self.attachment.stops();
                self.ended = true;
                Ok(())
            }
            Some(FromAgent::Keepalive(_)) | None => Ok(()),
            Some(FromAgent::Hello(_)) => Err(Status::invalid_argument("a second hello on one stream")),
        }
    }

    async fn announce(&mut self, announce: v1::Announce) -> Result<(), Status> {
        let uplinks = convert::announced_uplinks(announce.uplinks).map_err(malformed)?;
        let holder = self.follower.holder()?;
        let claims =
            announced_claims(holder, announce.container_prefix, announce.claims).map_err(malformed)?;
        let pool_order = convert::pool_order(&announce.pool_order).map_err(malformed)?;
        let session = self.attachment.session().await?;
        let op = session.as_ref().map(|session| session.op.clone());
        let announcement = Announcement { uplinks, claims, pool_order };
        let done = self.services.claims.announce(holder, &announcement, op).await;
        if done.is_ok() {
            session.inspect(|session| self.attachment.session_put(session));
        }
        self.fenced_or(done)
    }

    async fn ack(&mut self, ack: v1::Ack) -> Result<(), Status> {
        let ack = Ack::try_from(ack).map_err(malformed)?;
        // An ack of the previous incarnation; its revisions cannot be compared.
        let of_previous = self.switched && ack.revision > self.cursor;
        if !of_previous {
            let applied = Applied { ack, version: self.version.clone() };
            self.services.acks.record(self.follower.node(), applied);
            // A router is live from its first ack on; a host from its announcement on.
            if matches!(self.follower, Follower::Router(_)) {
                self.attachment.put_session().await?;
            }
        }
        Ok(())
    }

    /// A fenced agent receives the reason as the last message; other errors end the stream.
    fn fenced_or(&mut self, done: Result<(), HolderError>) -> Result<(), Status> {
        match done {
            Err(HolderError::Fenced(reason)) => {
                let epoch = self.follower.holder().ok().map(|holder| holder.epoch.into());
                self.outbound.push_back(ToAgent::Fenced(v1::Fenced { reason, epoch }));
                self.ended = true;
                Ok(())
            }
            other => other.map_err(Status::from),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.attachment.is_current() {
            self.services.acks.forget(self.follower.node());
        }
    }
}

/// The agent's knowledge of the store; invalid parts are ignored.
fn knows(hello: &v1::Hello) -> Knows {
    let incarnation = Incarnation::try_from(&hello.incarnation[..]).ok();
    Knows {
        view: incarnation.map(|incarnation| (incarnation, Revision(hello.revision))),
        mark: hello.mark.clone().and_then(|mark| Mark::try_from(mark).ok()),
    }
}

pub(super) fn keepalive_period(services: &Services) -> Duration {
    services.sessions.down_after() / KEEPALIVES_PER_DOWN
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
