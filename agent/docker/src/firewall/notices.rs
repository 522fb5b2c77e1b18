//! When the firewall's rules are to be looked at: nf_tables notifies of each change, the legacy `ip6tables` of none.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OnceCell, watch},
    time::Instant,
};

use super::tables;

/// How often rules are looked at whose changes tell nobody.
const POLLED: Duration = Duration::from_secs(2);
/// How often the others are looked at all the same.
const RESYNC: Duration = Duration::from_secs(60);

/// Tells of changes since the last look.
#[derive(Debug, Clone, Default)]
pub struct Notices {
    /// The number of changes of nf_tables; none if the kernel does not notify this process.
    changes: Option<watch::Receiver<u64>>,
    /// Whether `ip6tables` is that of nf_tables, once that is known.
    of_nf_tables: Arc<OnceCell<bool>>,
    /// When rules are to be looked at even without a notice; none before the first look.
    due: Option<Instant>,
}

impl Notices {
    /// From the number of changes of nf_tables.
    pub fn of(changes: watch::Receiver<u64>) -> Self {
        Self { changes: Some(changes), ..Self::default() }
    }

    /// A look begins now: later changes are a reason for the next one. Until it has [ended](Self::looked) another one is due.
    pub async fn looking(&mut self) {
        let of_nf_tables = *self.of_nf_tables.get_or_init(tables::are_of_nf_tables).await;
        self.changes = self.changes.take().filter(|changes| of_nf_tables && changes.has_changed().is_ok());
        self.changes.iter_mut().for_each(watch::Receiver::mark_unchanged);
        self.due = None;
    }

    /// The look has ended.
    pub fn looked(&mut self) {
        self.due = Some(Instant::now() + if self.are_sent() { RESYNC } else { POLLED });
    }

    /// Whether the kernel notifies of changes.
    pub fn are_sent(&self) -> bool {
        self.changes.is_some()
    }

    /// Whether a look is due.
    pub fn is_due(&self) -> bool {
        let changed = |changes: &watch::Receiver<u64>| changes.has_changed().unwrap_or(true);
        self.due.is_none_or(|due| due <= Instant::now()) || self.changes.as_ref().is_some_and(changed)
    }

    /// Waits until a look is due. Cancel safe.
    pub async fn due(&mut self) {
        let Some(due) = self.due else { return };
        match &mut self.changes {
            // Without a sender the next look finds out that it has to poll.
            Some(changes) => {
                if tokio::time::timeout_at(due, changes.changed()).await.is_ok() {
                    self.due = None;
                }
            }
            None => tokio::time::sleep_until(due).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(changes: Option<watch::Receiver<u64>>, of_nf_tables: bool) -> Notices {
        Notices { changes, of_nf_tables: Arc::new(OnceCell::new_with(Some(of_nf_tables))), due: None }
    }

    async fn look(notices: &mut Notices) {
        notices.looking().await;
        notices.looked();
    }

    /// How long it is until a look is due.
    async fn waited(notices: &mut Notices) -> Duration {
        let began = Instant::now();
        notices.due().await;
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_after_the_last_look_is_a_reason_at_once() {
        let (changes, receiver) = watch::channel(0);
        let mut notices = known(Some(receiver), true);
        assert!(notices.is_due(), "nothing was looked at");
        look(&mut notices).await;
        assert!(!notices.is_due());
        changes.send_modify(|count| *count += 1);
        assert!(notices.is_due(), "and it stays one until the next look");
        assert_eq!(waited(&mut notices).await, Duration::ZERO);
        assert!(notices.is_due());
        notices.looking().await;
        assert!(notices.is_due(), "a look that was given up counts for nothing");
        changes.send_modify(|count| *count += 1);
        notices.looked();
        assert!(notices.is_due(), "it may have come too late for that look");
        look(&mut notices).await;
        assert_eq!(waited(&mut notices).await, RESYNC);
    }

    #[tokio::test(start_paused = true)]
    async fn rules_that_notify_of_nothing_are_polled() {
        let (changes, receiver) = watch::channel(0);
        for mut notices in [known(Some(receiver.clone()), false), known(None, true)] {
            look(&mut notices).await;
            changes.send_modify(|count| *count += 1);
            assert!(!notices.is_due());
            assert_eq!(waited(&mut notices).await, POLLED);
        }
        let mut notices = known(Some(receiver), true);
        look(&mut notices).await;
        drop(changes);
        assert_eq!(waited(&mut notices).await, Duration::ZERO, "the socket has failed");
        look(&mut notices).await;
        assert_eq!(waited(&mut notices).await, POLLED);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_is_given_up_does_not_put_the_look_off() {
        let mut notices = known(None, true);
        look(&mut notices).await;
        for _ in 0..4 {
            let half = tokio::time::timeout(POLLED / 4, notices.due()).await;
            assert_eq!(half.is_ok(), notices.is_due());
        }
        assert!(notices.is_due());
    }
}
