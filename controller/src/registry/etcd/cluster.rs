//! Calls to the cluster: tries one member after another, as long as a retry is safe and may succeed.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sextant_daemon::{FailingServer, Outages, Recovered};
use sextant_proto::Revision;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    endpoints::Endpoints,
    fault::{Fault, Kind},
    member::Member,
    options::Timeouts,
};

/// The pause before the next round over all members; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// The pause between the loss of a watch and the next one, because its watcher lists the range again each time.
const AFTER_LOSS: Duration = Duration::from_millis(200);

/// All members and their health.
pub struct Cluster {
    members: Vec<Member>,
    endpoints: Mutex<Endpoints>,
    /// For the log, per member.
    outages: Mutex<Outages>,
    pub(super) timeouts: Timeouts,
    /// The newest revision that a caller has received: watches must reach it soon.
    reported: watch::Sender<Revision>,
    /// The time of the last loss of a watch.
    lost: Mutex<Option<Instant>>,
}

/// Whether a call may be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A read: may be repeated.
    Read,
    /// An idempotent write: may be repeated; needs a quorum.
    Idempotent,
    /// A write that must not be repeated.
    Once,
}

impl Cluster {
    /// A cluster of `members`; calls begin with the one at index `first`.
    pub fn new(members: Vec<Member>, first: usize, timeouts: Timeouts) -> Self {
        Self {
            endpoints: Mutex::new(Endpoints::new(members.len(), first)),
            outages: Mutex::default(),
            members,
            timeouts,
            reported: watch::Sender::new(Revision::ZERO),
            lost: Mutex::new(None),
        }
    }

    /// Records that a caller has received `revision`.
    pub fn report_revision(&self, revision: Revision) {
        self.reported.send_if_modified(|last| std::mem::replace(last, revision.max(*last)) < revision);
    }

    /// The newest revision that a caller has received.
    pub fn reported(&self) -> watch::Receiver<Revision> {
        self.reported.subscribe()
    }

    /// Records that a watch was lost.
    pub fn watch_lost(&self) {
        *self.lost.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Waits until a watch may begin.
    pub async fn watch_may_begin(&self) {
        let lost = *self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lost) = lost {
            sleep_until(lost + AFTER_LOSS).await;
        }
    }

    /// The members in the order of calls.
    pub fn order(&self) -> Vec<(usize, Member)> {
        let order = self.endpoints().order(Instant::now().into_std());
        order.into_iter().map(|number| (number, self.members[number].clone())).collect()
    }

    /// Calls members until one has answered, all have failed, or a repetition would be unsafe.
    pub async fn call<T, F>(&self, purpose: Purpose, ask: impl Fn(Member) -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let end = Instant::now() + self.timeouts.patience;
        let mut pause = FIRST_PAUSE;
        loop {
            let fault = match self.round(purpose, end, &ask).await {
                Ok(answer) => return Ok(answer),
                Err(Failed::Final(fault)) => return Err(fault),
                Err(Failed::Retry(fault)) => fault,
            };
            if Instant::now() + pause >= end {
                return Err(fault);
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Calls each member once.
    async fn round<T, F>(
        &self,
        purpose: Purpose,
        end: Instant,
        ask: &impl Fn(Member) -> F,
    ) -> Result<T, Failed>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let mut last = None;
        let mut all_unreachable = true;
        for (number, member) in self.order() {
            let fault = match self.attempt(purpose, number, member, ask).await {
                Ok(answer) => return Ok(answer),
                Err(fault) => fault,
            };
            let unsafe_to_repeat = purpose == Purpose::Once && fault.kind.may_be_applied();
            if unsafe_to_repeat || !fault.kind.is_transient() || Instant::now() >= end {
                return Err(Failed::Final(fault));
            }
            all_unreachable &= fault.kind == Kind::Unreachable;
            last = Some(fault);
        }
        let fault = last.unwrap_or_else(|| Fault {
            kind: Kind::Unreachable,
            text: "the cluster has no members".to_owned(),
        });
        // If all members are unreachable, the caller decides whether to wait.
        Err(if all_unreachable { Failed::Final(fault) } else { Failed::Retry(fault) })
    }

    async fn attempt<T, F>(
        &self,
        purpose: Purpose,
        number: usize,
        member: Member,
        ask: &impl Fn(Member) -> F,
    ) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let limit = match purpose {
            Purpose::Read => self.timeouts.read,
            Purpose::Idempotent | Purpose::Once => self.timeouts.write,
        };
        match self.on(number, &member, limit, || ask(member.clone())).await {
            Err(fault) if fault.kind == Kind::Unauthenticated => {
                let signed_in = self.on(number, &member, limit, || member.sign_in_again());
                signed_in.await.map_err(Fault::unsent)?;
                self.on(number, &member, limit, || ask(member.clone())).await
            }
            answer => answer,
        }
    }

    /// Calls one member, and records its health.
    pub async fn on<T, F>(
        &self,
        number: usize,
        member: &Member,
        limit: Duration,
        ask: impl FnOnce() -> F,
    ) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let asked = async {
            let signed_in = timeout(limit, member.sign_in()).await;
            signed_in.unwrap_or_else(|_| Err(Fault::timeout(limit))).map_err(Fault::unsent)?;
            timeout(limit, ask()).await.unwrap_or_else(|_| Err(Fault::timeout(limit)))
        };
        let answer = asked.await.map_err(|fault| fault.at(&member.endpoint));
        match &answer {
            Err(fault) if fault.kind.is_transient() => self.failed(number, fault),
            _ => self.answered(number),
        }
        answer
    }

    /// Records a failure of a member.
    pub fn failed(&self, number: usize, fault: &Fault) {
        let now = Instant::now();
        self.endpoints().failed(number, now.into_std());
        let endpoint = &self.members[number].endpoint;
        let failing = self.outages().failed(endpoint, &fault.to_string(), now);
        if let Some(FailingServer { failures, for_secs, others }) = failing {
            tracing::warn!(%endpoint, error = %fault, failures, for_secs, others, "etcd member failed");
        }
    }

    fn answered(&self, number: usize) {
        self.endpoints().answered(number);
        let endpoint = &self.members[number].endpoint;
        let recovered = self.outages().works(endpoint, Instant::now());
        if let Some(Recovered { failures, after_secs }) = recovered {
            tracing::info!(%endpoint, failures, after_secs, "etcd member answers again");
        }
    }

    fn outages(&self) -> std::sync::MutexGuard<'_, Outages> {
        self.outages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stays consistent even if a holder of the lock panicked: each change is complete in itself.
    fn endpoints(&self) -> std::sync::MutexGuard<'_, Endpoints> {
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Failed {
    /// A retry would be useless or unsafe.
    Final(Fault),
    /// A retry may succeed.
    Retry(Fault),
}

/// Counts the attempts of a call.
#[derive(Debug, Default)]
pub struct Attempts(AtomicUsize);

impl Attempts {
    /// Counts one more.
    pub fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether there was more than one.
    pub fn several(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 1
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::{super::member::members, *};
    use crate::registry::etcd::EtcdOptions;

    const ENDPOINTS: [&str; 3] = ["http://a:1", "http://b:1", "http://c:1"];

    /// Without connections: the answers are scripted.
    async fn cluster() -> Cluster {
        let options = EtcdOptions::new(ENDPOINTS);
        Cluster::new(members(&options).await.unwrap(), 0, options.timeouts)
    }

    fn fault(kind: Kind) -> Fault {
        let text = format!("{kind:?}");
        Fault { kind, text }
    }

    /// The members that were called, and the result.
    async fn ask(
        purpose: Purpose,
        answer: impl Fn(usize) -> Result<(), Kind>,
    ) -> (Vec<String>, Result<(), Kind>) {
        let (cluster, asked) = (cluster().await, Mutex::new(Vec::new()));
        let ask = |member: Member| {
            let mut asked = asked.lock().unwrap();
            asked.push(member.endpoint["http://".len()..][..1].to_owned());
            let answer = answer(asked.len()).map_err(fault);
            async move { answer }
        };
        let answer = cluster.call(purpose, ask).await;
        (asked.into_inner().unwrap(), answer.map_err(|fault| fault.kind))
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_may_be_applied_is_not_repeated() {
        for kind in [Kind::Timeout, Kind::Broken, Kind::Undecided] {
            let (asked, answer) = ask(Purpose::Once, |_| Err(kind)).await;
            assert_eq!((asked.concat().as_str(), answer), ("a", Err(kind)));
            let second = |asked| if asked == 1 { Err(kind) } else { Ok(()) };
            let (asked, answer) = ask(Purpose::Read, second).await;
            assert_eq!((asked.concat().as_str(), answer), ("ab", Ok(())), "a read may");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_was_not_applied_is_tried_on_other_members() {
        for kind in [Kind::Unreachable, Kind::NotReady] {
            let third = |asked| if asked < 3 { Err(kind) } else { Ok(()) };
            let (asked, answer) = ask(Purpose::Once, third).await;
            assert_eq!((asked.concat().as_str(), answer), ("abc", Ok(())));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_permanent_failure_is_not_tried_on_other_members() {
        for kind in
            [Kind::Full, Kind::Refused, Kind::NoLease, Kind::NoRevision, Kind::TooLarge, Kind::Corrupt]
        {
            let (asked, answer) = ask(Purpose::Read, |_| Err(kind)).await;
            assert_eq!((asked.concat().as_str(), answer), ("a", Err(kind)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_login_is_renewed_once() {
        let (asked, answer) =
            ask(Purpose::Once, |asked| if asked == 1 { Err(Kind::Unauthenticated) } else { Ok(()) }).await;
        assert_eq!((asked.concat().as_str(), answer), ("aa", Ok(())));
        let (asked, answer) = ask(Purpose::Once, |_| Err(Kind::Unauthenticated)).await;
        assert_eq!((asked.concat().as_str(), answer), ("aa", Err(Kind::Unauthenticated)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_waits_for_an_election_but_not_for_an_unreachable_cluster() {
        let start = Instant::now();
        let (asked, _) = ask(Purpose::Once, |_| Err(Kind::Unreachable)).await;
        assert_eq!((asked.concat().as_str(), start.elapsed()), ("abc", Duration::ZERO));
        let (asked, answer) = ask(Purpose::Once, |_| Err(Kind::NotReady)).await;
        let (patience, waited) = (Timeouts::default().patience, start.elapsed());
        assert_eq!(answer, Err(Kind::NotReady));
        assert!(waited < patience && waited > patience / 2, "{waited:?}");
        assert!(asked.len() < 50, "no hot loop: asked {} times", asked.len());
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_member_is_skipped_after_the_timeout() {
        let cluster = cluster().await;
        let start = Instant::now();
        let slow = |member: Member| async move {
            if &*member.endpoint == ENDPOINTS[0] {
                std::future::pending().await
            }
            Ok(member.endpoint)
        };
        let answer = cluster.call(Purpose::Read, slow).await.unwrap();
        assert_eq!((&*answer, start.elapsed()), (ENDPOINTS[1], cluster.timeouts.read));
        cluster.call(Purpose::Read, slow).await.unwrap();
        assert_eq!(start.elapsed(), cluster.timeouts.read, "no later call waits for it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_watch_restarts_after_a_pause() {
        let cluster = cluster().await;
        let start = Instant::now();
        cluster.watch_may_begin().await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        cluster.watch_lost();
        cluster.watch_may_begin().await;
        assert_eq!(start.elapsed(), AFTER_LOSS);
    }

    #[tokio::test]
    async fn the_reported_revision_only_grows() {
        let cluster = cluster().await;
        let mut reported = cluster.reported();
        for (revision, news) in [(5, true), (5, false), (3, false), (6, true)] {
            cluster.report_revision(Revision(revision));
            assert_eq!(reported.has_changed().unwrap(), news, "{revision}");
            reported.borrow_and_update();
        }
    }
}
