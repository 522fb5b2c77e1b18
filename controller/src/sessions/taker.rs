//! Whether a stream's peer takes what it gets.
//!
//! A stream is polled only while flow control lets its peer have more (RFC 9113 §5.2). A peer that reads nothing stops it,
//! however much it says itself; then not even the stream's timers are seen.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures::{Stream, stream};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// Counts the polls of a stream.
#[derive(Debug, Clone, Default)]
pub struct Taker(Arc<AtomicU64>);

impl Taker {
    /// The same stream. It is polled at least once per `period` while its peer takes what it gets, even if it has nothing to give.
    pub fn count<S: Stream>(self, period: Duration, stream: S) -> impl Stream<Item = S::Item> + use<S> {
        let mut stream = Box::pin(stream);
        let mut beat = interval_at(Instant::now() + period, period);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        stream::poll_fn(move |context| {
            while beat.poll_tick(context).is_ready() {}
            self.polled();
            pin!(&mut stream).poll_next(context)
        })
    }

    pub(super) fn polled(&self) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// The looks at a stream since it was last polled. Looks are counted and not time: a controller that stood still for a while has
/// polled none.
#[derive(Debug, Default)]
pub(super) struct Looks {
    taker: Taker,
    seen: u64,
    looks: u32,
}

impl Looks {
    pub(super) fn taker(&self) -> Taker {
        self.taker.clone()
    }

    /// Looks once more; the number of looks in a row that saw no poll after the first one.
    pub(super) fn look(&mut self) -> u32 {
        let now = self.taker.0.load(Relaxed);
        self.looks = if now == self.seen && now > 0 { self.looks + 1 } else { 0 };
        self.seen = now;
        self.looks
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    const PERIOD: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_stream_with_nothing_to_give_is_polled_while_its_peer_takes() {
        let mut looks = Looks::default();
        let mut idle = Box::pin(looks.taker().count(PERIOD, stream::pending::<()>()));
        let taking = tokio::spawn(async move { idle.next().await });
        for _ in 0..5 {
            tokio::time::sleep(PERIOD * 2).await;
            assert_eq!(looks.look(), 0);
        }
        taking.abort();
        for n in 1..5 {
            tokio::time::sleep(PERIOD * 2).await;
            assert_eq!(looks.look(), n, "nobody polls it");
        }
    }
}
