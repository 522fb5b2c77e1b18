//! Calls on the cluster: on one member after another, as long as that is safe and there is hope.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sextant_daemon::{Failing, Outage, Recovered};
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

/// The pause before all members are asked again; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long after the loss of a watch the next one begins: its watcher lists anew each time.
const AFTER_LOSS: Duration = Duration::from_millis(200);

/// All members, and how they have answered.
pub struct Cluster {
    members: Vec<Member>,
    endpoints: Mutex<Endpoints>,
    /// What is logged of each member.
    outages: Mutex<Vec<Outage>>,
    pub(super) timeouts: Timeouts,
    /// The last revision that a caller was told of: watches should get there soon.
    handed: watch::Sender<Revision>,
    /// When a watch was lost last.
    lost: Mutex<Option<Instant>>,
}

/// What a failed call may have done already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Nothing that matters: it may be done twice.
    Read,
    /// As [`Purpose::Read`], but the members have to agree on it.
    Again,
    /// What must not be done twice.
    Once,
}

impl Cluster {
    /// `members`, of which the one numbered `first` is asked first.
    pub fn new(members: Vec<Member>, first: usize, timeouts: Timeouts) -> Self {
        Self {
            endpoints: Mutex::new(Endpoints::new(members.len(), first)),
            outages: Mutex::new(members.iter().map(|_| Outage::default()).collect()),
            members,
            timeouts,
            handed: watch::Sender::new(Revision::ZERO),
            lost: Mutex::new(None),
        }
    }

    /// Notes that a caller knows of `revision`.
    pub fn hand_out(&self, revision: Revision) {
        self.handed.send_if_modified(|last| std::mem::replace(last, revision.max(*last)) < revision);
    }

    /// The last revision that a caller was told of.
    pub fn handed(&self) -> watch::Receiver<Revision> {
        self.handed.subscribe()
    }

    /// Notes that a watch was lost.
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

    /// The members in the order to ask them in.
    pub fn order(&self) -> Vec<(usize, Member)> {
        let order = self.endpoints().order(Instant::now().into_std());
        order.into_iter().map(|number| (number, self.members[number].clone())).collect()
    }

    /// Asks until one member has answered, all have failed, or asking again may do harm.
    pub async fn call<T, F>(&self, purpose: Purpose, ask: impl Fn(Member) -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let end = Instant::now() + self.timeouts.patience;
        let mut pause = FIRST_PAUSE;
        loop {
            let fault = match self.round(purpose, end, &ask).await {
                Ok(answer) => return Ok(answer),
                Err(Ended::ForGood(fault)) => return Err(fault),
                Err(Ended::ForNow(fault)) => fault,
            };
            if Instant::now() + pause >= end {
                return Err(fault);
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Asks each member once.
    async fn round<T, F>(
        &self,
        purpose: Purpose,
        end: Instant,
        ask: &impl Fn(Member) -> F,
    ) -> Result<T, Ended>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let mut last = None;
        let mut nobody = true;
        for (number, member) in self.order() {
            let fault = match self.attempt(purpose, number, member, ask).await {
                Ok(answer) => return Ok(answer),
                Err(fault) => fault,
            };
            let harmful = purpose == Purpose::Once && fault.kind.may_be_done();
            if harmful || !fault.kind.may_pass() || Instant::now() >= end {
                return Err(Ended::ForGood(fault));
            }
            nobody &= fault.kind == Kind::Unreachable;
            last = Some(fault);
        }
        let fault = last.unwrap_or_else(|| Fault {
            kind: Kind::Unreachable,
            text: "the cluster has no members".to_owned(),
        });
        // With nobody there, waiting is the caller's choice.
        Err(if nobody { Ended::ForGood(fault) } else { Ended::ForNow(fault) })
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
            Purpose::Again | Purpose::Once => self.timeouts.write,
        };
        match self.on(number, &member, limit, || ask(member.clone())).await {
            Err(fault) if fault.kind == Kind::Login => {
                let signed_in = self.on(number, &member, limit, || member.sign_in_again());
                signed_in.await.map_err(Fault::unsent)?;
                self.on(number, &member, limit, || ask(member.clone())).await
            }
            answer => answer,
        }
    }

    /// Asks one member, and notes how it answers.
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
            signed_in.unwrap_or_else(|_| Err(Fault::silent(limit))).map_err(Fault::unsent)?;
            timeout(limit, ask()).await.unwrap_or_else(|_| Err(Fault::silent(limit)))
        };
        let answer = asked.await.map_err(|fault| fault.at(&member.endpoint));
        match &answer {
            Err(fault) if fault.kind.may_pass() => self.failed(number, fault),
            _ => self.answered(number),
        }
        answer
    }

    /// Notes that a member failed.
    pub fn failed(&self, number: usize, fault: &Fault) {
        let now = Instant::now();
        self.endpoints().failed(number, now.into_std());
        if let Some(Failing { failures, for_secs }) = self.outages()[number].failed(now) {
            let endpoint = &self.members[number].endpoint;
            tracing::warn!(%endpoint, error = %fault, failures, for_secs, "etcd member fails");
        }
    }

    fn answered(&self, number: usize) {
        self.endpoints().answered(number);
        if let Some(Recovered { failures, after_secs }) = self.outages()[number].works(Instant::now()) {
            let endpoint = &self.members[number].endpoint;
            tracing::info!(%endpoint, failures, after_secs, "etcd member answers again");
        }
    }

    fn outages(&self) -> std::sync::MutexGuard<'_, Vec<Outage>> {
        self.outages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It stays whole even if a holder panicked: each change is complete in itself.
    fn endpoints(&self) -> std::sync::MutexGuard<'_, Endpoints> {
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Ended {
    /// Asking again would be useless, or harmful.
    ForGood(Fault),
    /// Asking again may help.
    ForNow(Fault),
}

/// Counts how often something was asked for.
#[derive(Debug, Default)]
pub struct Attempts(AtomicUsize);

impl Attempts {
    /// One more.
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

    /// Nobody is connected to: the answers are scripted.
    async fn cluster() -> Cluster {
        let options = EtcdOptions::new(ENDPOINTS);
        Cluster::new(members(&options).await.unwrap(), 0, options.timeouts)
    }

    fn fault(kind: Kind) -> Fault {
        let text = format!("{kind:?}");
        Fault { kind, text }
    }

    /// Who was asked, and what came of it.
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
    async fn what_may_be_done_is_not_done_again() {
        for kind in [Kind::Silent, Kind::Broken, Kind::Undecided] {
            let (asked, answer) = ask(Purpose::Once, |_| Err(kind)).await;
            assert_eq!((asked.concat().as_str(), answer), ("a", Err(kind)));
            let second = |asked| if asked == 1 { Err(kind) } else { Ok(()) };
            let (asked, answer) = ask(Purpose::Read, second).await;
            assert_eq!((asked.concat().as_str(), answer), ("ab", Ok(())), "a read may");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_surely_undone_is_tried_elsewhere() {
        for kind in [Kind::Unreachable, Kind::Waiting] {
            let third = |asked| if asked < 3 { Err(kind) } else { Ok(()) };
            let (asked, answer) = ask(Purpose::Once, third).await;
            assert_eq!((asked.concat().as_str(), answer), ("abc", Ok(())));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_will_never_be_done_is_not_tried_elsewhere() {
        for kind in
            [Kind::Full, Kind::Refused, Kind::NoLease, Kind::NoRevision, Kind::TooLarge, Kind::Corrupt]
        {
            let (asked, answer) = ask(Purpose::Read, |_| Err(kind)).await;
            assert_eq!((asked.concat().as_str(), answer), ("a", Err(kind)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_login_is_made_anew_once() {
        let (asked, answer) =
            ask(Purpose::Once, |asked| if asked == 1 { Err(Kind::Login) } else { Ok(()) }).await;
        assert_eq!((asked.concat().as_str(), answer), ("aa", Ok(())));
        let (asked, answer) = ask(Purpose::Once, |_| Err(Kind::Login)).await;
        assert_eq!((asked.concat().as_str(), answer), ("aa", Err(Kind::Login)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_election_is_waited_for_but_an_empty_house_is_not() {
        let start = Instant::now();
        let (asked, _) = ask(Purpose::Once, |_| Err(Kind::Unreachable)).await;
        assert_eq!((asked.concat().as_str(), start.elapsed()), ("abc", Duration::ZERO));
        let (asked, answer) = ask(Purpose::Once, |_| Err(Kind::Waiting)).await;
        let (patience, waited) = (Timeouts::default().patience, start.elapsed());
        assert_eq!(answer, Err(Kind::Waiting));
        assert!(waited < patience && waited > patience / 2, "{waited:?}");
        assert!(asked.len() < 50, "no hot loop: asked {} times", asked.len());
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_answer_is_left_after_its_limit() {
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
        assert_eq!(start.elapsed(), cluster.timeouts.read, "nobody waits for it again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_watch_is_not_begun_again_at_once() {
        let cluster = cluster().await;
        let start = Instant::now();
        cluster.watch_may_begin().await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        cluster.watch_lost();
        cluster.watch_may_begin().await;
        assert_eq!(start.elapsed(), AFTER_LOSS);
    }

    #[tokio::test]
    async fn revisions_are_handed_out_upwards() {
        let cluster = cluster().await;
        let mut handed = cluster.handed();
        for (revision, news) in [(5, true), (5, false), (3, false), (6, true)] {
            cluster.hand_out(Revision(revision));
            assert_eq!(handed.has_changed().unwrap(), news, "{revision}");
            handed.borrow_and_update();
        }
    }
}
