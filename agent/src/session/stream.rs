//! Following one stream: what is heard goes into the view, what there is to say goes out.

use std::{convert::Infallible, time::Duration};

use futures::{
    StreamExt,
    future::{BoxFuture, OptionFuture},
    stream::FuturesUnordered,
};
use sextant_daemon::transition;
use sextant_proto::{Claim, UNKNOWN_QUESTION, VERSION};
use tokio::time::{Instant, MissedTickBehavior};

use super::{Answer, Question};

use super::{
    Ended, Session,
    dialogue::{Dialogue, Say},
    link::{Heard, Link, LinkError, SyncStream},
};
use crate::settings::Role;

/// Until the controller says better.
const KEEPALIVE: Duration = Duration::from_secs(3);
const SILENCE: Duration = Duration::from_secs(9);

/// So many questions are looked into at once.
const MOST_QUESTIONS: usize = 8;

type Answering = FuturesUnordered<BoxFuture<'static, (u64, Result<Answer, String>)>>;
type Settling = OptionFuture<BoxFuture<'static, Result<Vec<String>, LinkError>>>;

struct Following<'a> {
    link: &'a Link,
    stream: SyncStream,
    dialogue: Dialogue,
    settling: Settling,
    answering: Answering,
    keepalive: tokio::time::Interval,
    silence: Duration,
    heard_at: Instant,
}

impl Session {
    /// Follows the stream to its end.
    pub(super) async fn follow(&mut self, link: &mut Link) -> Result<Infallible, Ended> {
        let claim = self.claim.clone();
        if claim.is_none() && self.settings.role == Role::Host {
            return Err(Ended::Fenced("no claim".into()));
        }
        let resume = self.view.resumes_at();
        let (node, node_id, mark) = (&self.settings.node, self.node_id, self.view.mark());
        let stream = link.sync(node, node_id, self.instance, claim.as_ref(), resume, mark).await?;
        let mut following = Following {
            link,
            stream,
            dialogue: Dialogue::new(self.settings.node.clone(), claim.as_ref()),
            settling: None.into(),
            answering: Answering::new(),
            keepalive: ticker(KEEPALIVE),
            silence: SILENCE,
            heard_at: Instant::now(),
        };
        // A view of another store, from before this claim, says nothing about it; the snapshot to come does.
        let of_this_store = |claim: &Claim| self.view.incarnation() == Some(claim.epoch.incarnation);
        if claim.as_ref().is_none_or(of_this_store) {
            self.view_changed(&mut following).await?;
        }
        loop {
            self.step(&mut following).await?;
        }
    }

    async fn step(&mut self, following: &mut Following<'_>) -> Result<(), Ended> {
        tokio::select! {
            heard = following.stream.hear() => {
                following.heard_at = Instant::now();
                self.hear(heard?, following).await
            }
            changed = self.report.changed() => match changed {
                Ok(()) => self.reported(following).await,
                Err(_) => std::future::pending().await,
            },
            Ok(()) = self.bgp.changed() => self.reported(following).await,
            Ok(()) = self.found.changed() => self.reported(following).await,
            Some(laggards) = &mut following.settling => {
                following.settling = None.into();
                following.dialogue.settled(laggards?);
                self.publish(following.dialogue.withdrawn());
                self.reported(following).await
            }
            Some((id, answer)) = following.answering.next() => {
                Ok(following.stream.answer(id, answer).await?)
            }
            _ = following.keepalive.tick() => {
                self.report_problems(None);
                following.stream.keepalive().await?;
                Ok(())
            }
            () = self.leaving.asked() => {
                following.stream.leave().await?;
                self.leaving.said();
                std::future::pending().await
            }
            () = tokio::time::sleep_until(following.heard_at + following.silence) => {
                Err(LinkError::Silent(following.silence).into())
            }
        }
    }

    async fn hear(&mut self, heard: Heard, following: &mut Following<'_>) -> Result<(), Ended> {
        match heard {
            Heard::Welcome { keepalive, silence, controller } => {
                tracing::info!(controller, "connected");
                transition("session", "disconnected", "connected", "welcome");
                following.keepalive = ticker(keepalive);
                following.silence = silence;
                self.condition.send_modify(|condition| {
                    condition.connected = true;
                    condition.trouble = None;
                    condition.streams += 1;
                });
                self.report_problems(None);
                Ok(())
            }
            Heard::Snapshot(snapshot) => {
                tracing::debug!(revision = %snapshot.revision, peers = snapshot.peers.len(), "snapshot");
                let stale = !snapshot.linearizable;
                self.view.apply_snapshot(snapshot);
                self.view_changed(following).await?;
                if stale { self.look_for_a_better_one() } else { Ok(()) }
            }
            Heard::Delta(delta) => {
                tracing::debug!(since = %delta.since, revision = %delta.revision, "delta");
                self.view.apply_delta(delta).map_err(LinkError::from)?;
                self.view_changed(following).await
            }
            Heard::Question(id, question) => self.look_into(id, question, following).await,
            Heard::Fenced(reason) => Err(Ended::Fenced(reason)),
            Heard::Stale => self.look_for_a_better_one(),
            Heard::Nothing => Ok(()),
        }
    }

    async fn look_into(
        &self,
        id: u64,
        question: Option<Question>,
        following: &mut Following<'_>,
    ) -> Result<(), Ended> {
        let refused = match question {
            Some(question) if following.answering.len() < MOST_QUESTIONS => {
                let answer = self.answers.answer(question);
                following.answering.push(Box::pin(async move { (id, answer.await) }));
                return Ok(());
            }
            Some(_) => format!("{MOST_QUESTIONS} questions are being looked into; try again"),
            None => format!(
                "the agent is sextant {VERSION}, which {UNKNOWN_QUESTION}; use one of the controller's version"
            ),
        };
        Ok(following.stream.answer(id, Err(refused)).await?)
    }

    /// A controller without its store is better than none, and worse than any other.
    fn look_for_a_better_one(&self) -> Result<(), Ended> {
        if self.settings.controllers.len() > 1 { Err(LinkError::Stale.into()) } else { Ok(()) }
    }

    async fn view_changed(&mut self, following: &mut Following<'_>) -> Result<(), Ended> {
        let said = following.dialogue.on_view(&self.view);
        self.publish(following.dialogue.withdrawn());
        self.say(said, following).await?;
        self.reported(following).await
    }

    async fn reported(&mut self, following: &mut Following<'_>) -> Result<(), Ended> {
        let mut report = self.report.borrow_and_update().clone();
        report.bgp.clone_from(&self.bgp.borrow_and_update());
        report.problems = self.found.borrow_and_update().problems();
        let said = following.dialogue.on_report(&report);
        self.say(said, following).await
    }

    async fn say(&mut self, said: Vec<Say>, following: &mut Following<'_>) -> Result<(), Ended> {
        for say in said {
            match &say {
                Say::Reclaim(why) => {
                    return Err(Ended::ClaimLost(*why));
                }
                Say::Settle(revision, timeout) => {
                    tracing::info!(revision = %revision, ?timeout, "draining: waiting for the peers to withdraw");
                    following.settling = Some(self.settle(following.link, *revision, *timeout)).into();
                }
                Say::Announce(announcement) => {
                    tracing::info!(?announcement, "announced");
                    transition("announcement", "unannounced", "announced", "set up");
                }
                Say::Drained(laggards) => tracing::info!(?laggards, "drained"),
                Say::Ack(_) => {}
            }
            following.stream.say(&say).await?;
        }
        Ok(())
    }

    fn settle(
        &self,
        link: &Link,
        revision: sextant_proto::Revision,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Vec<String>, LinkError>> {
        match &self.claim {
            Some(claim) => Box::pin(link.settle(&self.settings.node, self.node_id, claim, revision, timeout)),
            None => Box::pin(std::future::pending()),
        }
    }
}

fn ticker(period: Duration) -> tokio::time::Interval {
    let mut ticker = tokio::time::interval_at(Instant::now() + period, period);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticker
}
