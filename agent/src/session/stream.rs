//! Follows one stream: applies received messages to the view, and sends the agent's messages.

use std::{convert::Infallible, time::Duration};

use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, OptionFuture},
    stream::FuturesUnordered,
};
use sextant_daemon::transition;
use sextant_proto::{Claim, UNKNOWN_QUESTION, VERSION};
use tokio::time::{Instant, MissedTickBehavior};

use super::{
    Answer, Ended, Question, Session,
    link::{ClaimOutcome, Incoming, Link, LinkError, SyncStream},
    protocol::{Effect, Lost, Message, Protocol},
    refresh::Refresh,
    wishes::{Wish, wishes},
};
use crate::{deadline, engine::Announcement, settings::Role};

/// The defaults until the controller's welcome.
const KEEPALIVE: Duration = Duration::from_secs(3);
const SILENCE: Duration = Duration::from_secs(9);

/// The maximum number of questions that are answered at once.
const MAX_QUESTIONS: usize = 8;

type Answering = FuturesUnordered<BoxFuture<'static, (u64, Result<Answer, String>)>>;
type Claiming = BoxFuture<'static, Result<ClaimOutcome, LinkError>>;
type Settling = OptionFuture<BoxFuture<'static, Result<Vec<String>, LinkError>>>;

struct Following<'a> {
    link: &'a Link,
    stream: SyncStream,
    protocol: Protocol,
    settling: Settling,
    claiming: Option<(Wish, Claiming)>,
    receipts: Refresh,
    answering: Answering,
    keepalive: tokio::time::Interval,
    silence: Duration,
    received_at: Instant,
}

impl Session {
    /// Follows the stream to its end.
    pub(super) async fn follow(&mut self, link: &mut Link) -> Result<Infallible, Ended> {
        let claims = self.confirmed();
        if claims.is_empty() && self.settings.role == Role::Host {
            return Err(LinkError::Refused("no claim is confirmed".into()).into());
        }
        let resume = self.picture.view.resumes_at();
        let stream = link.sync(claims.first(), resume, self.picture.view.mark()).await?;
        let mut following = Following {
            link,
            stream,
            protocol: Protocol::new(self.identity.node.clone(), &claims),
            settling: None.into(),
            claiming: None,
            receipts: Refresh::new(),
            answering: Answering::new(),
            keepalive: ticker(KEEPALIVE),
            silence: SILENCE,
            received_at: Instant::now(),
        };
        // A view of another store, from before these claims, shows nothing about them; the next snapshot does.
        let of_this_store = |claim: &Claim| self.picture.view.incarnation() == Some(claim.epoch.incarnation);
        if claims.iter().all(of_this_store) {
            self.view_changed(&mut following).await?;
        }
        loop {
            self.step(&mut following).await?;
        }
    }

    async fn step(&mut self, following: &mut Following<'_>) -> Result<(), Ended> {
        tokio::select! {
            received = following.stream.receive() => {
                following.received_at = Instant::now();
                self.handle(received?, following).await
            }
            () = self.reporters.changed() => self.reported(following).await,
            Some(laggards) = &mut following.settling => {
                following.settling = None.into();
                following.protocol.settled(laggards?);
                self.publish(following.protocol.withdrawn());
                self.reported(following).await
            }
            outcome = claim_answer(&mut following.claiming) => {
                let Some((wish, _)) = following.claiming.take() else { return Ok(()) };
                self.claim_answered(&wish, outcome, following).await
            }
            () = deadline::reached(self.missing.due()), if following.claiming.is_none() => {
                let next = self.missing.next();
                self.ask(next, following);
                Ok(())
            }
            () = following.receipts.due(), if following.claiming.is_none() => {
                let all = wishes(&self.settings.pools, self.settings.host_len, self.held.claims());
                let next = following.receipts.begin(all);
                self.ask(next, following);
                Ok(())
            }
            Some((id, answer)) = following.answering.next() => {
                Ok(following.stream.answer(id, answer).await?)
            }
            _ = following.keepalive.tick() => {
                self.reporting.update_problems();
                following.stream.keepalive().await?;
                Ok(())
            }
            () = self.shutdown.requested() => {
                following.stream.send_shutdown().await?;
                self.shutdown.sent();
                std::future::pending().await
            }
            () = tokio::time::sleep_until(following.received_at + following.silence) => {
                Err(LinkError::Silent(following.silence).into())
            }
        }
    }

    async fn handle(&mut self, received: Incoming, following: &mut Following<'_>) -> Result<(), Ended> {
        match received {
            Incoming::Welcome { keepalive, silence, controller } => {
                tracing::info!(controller, "connected to controller");
                following.keepalive = ticker(keepalive);
                following.silence = silence;
                self.reporting.connected();
                Ok(())
            }
            Incoming::Snapshot(snapshot) => {
                tracing::debug!(revision = %snapshot.revision, peers = snapshot.peers.len(), "snapshot");
                let stale = !snapshot.linearizable;
                self.picture.view.apply_snapshot(snapshot);
                self.view_changed(following).await?;
                if stale { self.try_another_controller() } else { Ok(()) }
            }
            Incoming::Delta(delta) => {
                tracing::debug!(since = %delta.since, revision = %delta.revision, "delta");
                self.missing.delta(&delta, &self.picture.view);
                self.picture.view.apply_delta(delta).map_err(LinkError::from)?;
                // The engine reports each new revision.
                self.show_view(following)
            }
            Incoming::Question(id, question) => self.answer_question(id, question, following).await,
            Incoming::Fenced { reason, epoch } => Err(Ended::Fenced { reason, epoch }),
            Incoming::Controllers(urls) => {
                self.controllers.announced(&urls);
                Ok(())
            }
            Incoming::Stale => self.try_another_controller(),
            Incoming::Nothing => Ok(()),
        }
    }

    async fn answer_question(
        &self,
        id: u64,
        question: Option<Question>,
        following: &mut Following<'_>,
    ) -> Result<(), Ended> {
        let refused = match question {
            Some(question) if following.answering.len() < MAX_QUESTIONS => {
                let answer = self.answers.answer(question);
                following.answering.push(Box::pin(async move { (id, answer.await) }));
                return Ok(());
            }
            Some(_) => format!("{MAX_QUESTIONS} questions are being answered; try again"),
            None => format!(
                "the agent is sextant {VERSION}, which {UNKNOWN_QUESTION}; use one of the controller's version"
            ),
        };
        Ok(following.stream.answer(id, Err(refused)).await?)
    }

    /// Ends the stream if other controllers are configured: one without its store is better than none.
    fn try_another_controller(&self) -> Result<(), Ended> {
        if self.controllers.in_order().len() > 1 { Err(LinkError::Stale.into()) } else { Ok(()) }
    }

    /// Asks for a claim while the stream lasts.
    fn ask(&self, wish: Option<Wish>, following: &mut Following<'_>) {
        following.claiming = wish.map(|wish| {
            let (receipt, infrastructure) = (self.receipt_of(&wish), self.reporters.infrastructure());
            let answer = following.link.claim(&wish, receipt, infrastructure).boxed();
            (wish, answer)
        });
    }

    /// Another claim, or one again, was asked for while the stream lasts. A refusal changes nothing of the others, nor of a claim that
    /// is confirmed.
    async fn claim_answered(
        &mut self,
        wish: &Wish,
        outcome: Result<ClaimOutcome, LinkError>,
        following: &mut Following<'_>,
    ) -> Result<(), Ended> {
        let before = self.confirmed();
        match outcome {
            Ok(outcome) => self.answered(wish, outcome)?,
            Err(error) if wish.held.as_ref().is_some_and(|held| before.contains(held)) => {
                tracing::debug!(%error, "no receipt of a held claim");
            }
            Err(error) => self.missing.failed(wish.clone(), &error),
        }
        let next = following.receipts.next();
        self.ask(next, following);
        self.reporting.set_missing(self.missing.findings());
        let now = self.confirmed();
        let new: Vec<_> = now.iter().filter(|claim| !before.contains(claim)).collect();
        if new.is_empty() {
            return Ok(());
        }
        new.into_iter().for_each(|claim| following.protocol.granted(claim));
        self.view_changed(following).await
    }

    async fn view_changed(&mut self, following: &mut Following<'_>) -> Result<(), Ended> {
        self.show_view(following)?;
        self.reported(following).await
    }

    /// Shows the view to the protocol and to the other components.
    fn show_view(&mut self, following: &mut Following<'_>) -> Result<(), Ended> {
        self.missing.view_changed(&self.picture.view);
        self.reporting.set_left_out(self.picture.view.left_out());
        let effect = following.protocol.on_view(&self.picture.view);
        self.publish(following.protocol.withdrawn());
        effect.map_or(Ok(()), |effect| self.perform(effect, following))
    }

    fn perform(&mut self, effect: Effect, following: &mut Following<'_>) -> Result<(), Ended> {
        match effect {
            Effect::Reclaim(lost) => {
                // The controllers have heard of that history in this stream's hello.
                if lost.why == Lost::OtherHistory {
                    self.picture.view.disown();
                }
                Err(Ended::ClaimLost(lost))
            }
            Effect::Settle(revision, timeout) => {
                tracing::info!(revision = %revision, ?timeout, "draining; waiting for peers to withdraw routes");
                following.settling = Some(self.settle(following.link, revision, timeout)).into();
                Ok(())
            }
        }
    }

    async fn reported(&mut self, following: &mut Following<'_>) -> Result<(), Ended> {
        for message in following.protocol.on_reports(&self.reporters.read()) {
            send(&following.stream, message).await?;
        }
        Ok(())
    }

    fn settle(
        &self,
        link: &Link,
        revision: sextant_proto::Revision,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Vec<String>, LinkError>> {
        match self.held.claims().first() {
            Some(claim) => Box::pin(link.settle(claim, revision, timeout)),
            None => Box::pin(std::future::pending()),
        }
    }
}

/// The answer to the claim that is asked for. Cancel safe; never returns if none is.
async fn claim_answer(claiming: &mut Option<(Wish, Claiming)>) -> Result<ClaimOutcome, LinkError> {
    match claiming {
        Some((_, answer)) => answer.await,
        None => std::future::pending().await,
    }
}

async fn send(stream: &SyncStream, message: Message) -> Result<(), LinkError> {
    match message {
        Message::Announce(announcement) => {
            let Announcement { uplinks, claims } = &announcement;
            tracing::info!(
                uplinks = listed(uplinks),
                containers = listed(claims.iter().flat_map(|it| &it.container_prefixes)),
                "host announced"
            );
            transition("announcement", "unannounced", "announced", "set up");
            stream.announce(&announcement).await
        }
        Message::Ack(ack) => stream.acknowledge(&ack).await,
        Message::Drained(laggards) => {
            tracing::info!(laggards = laggards.join(", "), "host drained");
            stream.drained(laggards).await
        }
    }
}

fn listed<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

fn ticker(period: Duration) -> tokio::time::Interval {
    let mut ticker = tokio::time::interval_at(Instant::now() + period, period);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticker
}
