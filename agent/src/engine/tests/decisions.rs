//! One decision: what is decided for each route, what `sextant plan` shows, and what a pass does, are the same for whatever is
//! known, stands in the kernel and has happened before.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::{
    kernel::NextHop,
    routes::{
        Facts, Hold, Planned, Subjects, decide,
        random_states::{self, NODES, RandomState},
    },
};

/// EHOSTUNREACH, which tells nothing of what stands.
const REFUSED: i32 = 113;
/// The protocol of another process.
const STATIC: RouteProtocol = RouteProtocol(4);

/// A pass, and what happens before it.
#[derive(Debug, Clone)]
struct Round {
    /// What is known; nothing new, in some rounds.
    state: Option<RandomState>,
    happened: Vec<Happened>,
    after: Duration,
}

/// What other processes and the kernel do.
#[derive(Debug, Clone)]
enum Happened {
    /// A route of this protocol is put there.
    Put(RouteKey, RouteProtocol),
    /// Whatever stands there is removed.
    Removed(RouteKey),
    /// The route there is changed or deleted so often.
    Flapped { key: RouteKey, deleted: bool, times: u8 },
    /// Nearly all of this second's unreachable routes have been put back.
    Busy { left: u8 },
    /// The kernel refuses routes to this destination from now on, or takes them again.
    Refuses(Prefix, bool),
}

fn any_key() -> impl Strategy<Value = RouteKey> {
    let peer = (1..=NODES).prop_map(random_states::prefix);
    let destination = prop_oneof![6 => peer, 1 => Just(pool().prefix), 1 => Just("::/0".parse().unwrap())];
    let metric = prop_oneof![4 => Just(512), 2 => Just(4_000_000_000), 1 => Just(768), 1 => Just(400)];
    (destination, metric).prop_map(|(destination, metric)| RouteKey { table: 254, destination, metric })
}

fn happened() -> impl Strategy<Value = Happened> {
    let table = prop_oneof![3 => Just(254), 1 => Just(100)];
    let ours = (any_key(), table).prop_map(|(key, table)| RouteKey { table, ..key });
    prop_oneof![
        3 => any_key().prop_map(|key| Happened::Put(key, STATIC)),
        3 => ours.prop_map(|key| Happened::Put(key, RouteProtocol::OURS)),
        2 => any_key().prop_map(Happened::Removed),
        4 => (any_key(), any::<bool>(), 8u8..60)
            .prop_map(|(key, deleted, times)| Happened::Flapped { key, deleted, times }),
        1 => (0u8..3).prop_map(|left| Happened::Busy { left }),
        2 => ((1..=NODES).prop_map(random_states::prefix), prop::bool::weighted(0.8)).prop_map(|(to, refused)| Happened::Refuses(to, refused)),
    ]
}

fn rounds() -> impl Strategy<Value = Vec<Round>> {
    let after = prop_oneof![Just(0), Just(100), Just(1000), Just(70_000)].prop_map(Duration::from_millis);
    let state = proptest::option::weighted(0.5, random_states::state());
    let round = (state, proptest::collection::vec(happened(), 0..8), after)
        .prop_map(|(state, happened, after)| Round { state, happened, after });
    proptest::collection::vec(round, 1..7)
}

struct Bed {
    kernel: FakeKernel,
    engine: Engine,
    input: watch::Sender<Input>,
    verdicts: watch::Sender<Arc<Verdicts>>,
    imports: watch::Sender<Arc<Imports>>,
}

impl Bed {
    fn new(routes: RouteSettings, dir: &tempfile::TempDir) -> Self {
        let kernel = FakeKernel::with_uplink("eth0", "2001:db8::1/64");
        let second = kernel.add_link("eth1");
        kernel.put_address(crate::kernel::fake::permanent(second, "2001:db8:0:3::1".parse().unwrap(), 64));
        let uplinks = vec!["eth0".into(), "eth1".into()];
        let settings = Settings { node: random_states::name(1), uplinks, routes, ..settings() };
        let shared: Arc<dyn Kernel> = Arc::new(kernel.clone());
        let state = Arc::new(StateDir::open(dir.path()).unwrap());
        let host = HostSetup::new(shared.clone(), state, &settings).unwrap();
        let (input, input_rx) = watch::channel(Input::default());
        let (verdicts, verdicts_rx) = watch::channel(Arc::default());
        let (imports, imports_rx) = watch::channel(Arc::default());
        let report = watch::channel(Report::default()).0;
        let engine =
            Engine::new(shared, settings, host, input_rx, verdicts_rx, report, Heartbeat::unwatched());
        Self { kernel, engine: engine.importing(imports_rx), input, verdicts, imports }
    }

    fn learn(&self, state: &RandomState) {
        self.input.send_replace(Input {
            claims: state.claims.clone(),
            view: state.view.clone(),
            withdrawn: state.withdrawn,
            controllers: state.controllers.clone(),
        });
        self.verdicts.send_replace(state.verdicts.clone());
        self.imports.send_replace(state.imports.clone());
    }

    fn happens(&mut self, what: &Happened) {
        let via = NextHop { gateway: "2001:db8::99".parse().ok(), link: 2, onlink: false };
        let route = |key: RouteKey, protocol| Route {
            mtu: None,
            key,
            protocol,
            target: RouteTarget::Via(via.into()),
        };
        match what {
            Happened::Put(key, protocol) => self.kernel.foreign_replace(route(*key, *protocol)).unwrap(),
            // There may be none.
            Happened::Removed(key) => drop(self.kernel.foreign_remove(*key)),
            Happened::Flapped { key, deleted, times } => {
                let event = match deleted {
                    true => Event::RouteGone(route(*key, RouteProtocol::OURS)),
                    false => Event::RouteChanged(route(*key, STATIC)),
                };
                (0..*times).for_each(|_| {
                    self.engine.take(&event);
                });
                // The last change leaves nothing there.
                drop(self.kernel.foreign_remove(*key));
            }
            Happened::Busy { left } => self.keep_busy(*left),
            Happened::Refuses(destination, true) => self.kernel.fail_destination(*destination, REFUSED),
            Happened::Refuses(destination, false) => self.kernel.heal_destination(*destination),
        }
    }

    fn keep_busy(&mut self, left: u8) {
        let (now, damping) = (Instant::now(), &mut self.engine.planner.memory_mut().damping);
        let refused = |destination| RouteKey { table: 254, destination, metric: 4_000_000_000 };
        for destination in [random_states::prefix(1), pool().prefix] {
            damping.undone(refused(destination), true, None, now);
        }
        damping.spend(200 - u32::from(left), now);
    }

    /// What is decided for each key, in the order of the plan.
    fn decisions(&self, run: &crate::engine::preview::DryRun<'_>) -> Vec<Planned> {
        let (known, now) = (run.known(), Instant::now());
        let (desired, actual) = (&run.desired, &run.actual);
        let facts = Facts { known: &known, desired, actual, memory: &run.memory, now };
        let subjects = Subjects::of(&known);
        let keys: BTreeSet<RouteKey> = desired.routes.keys().chain(actual.ours.keys()).copied().collect();
        let (put, gone): (Vec<_>, Vec<_>) = keys
            .iter()
            .filter_map(|key| Some(decide(&facts, &subjects, key).change?.0))
            .partition(|planned| !matches!(planned.change, Change::Delete(_)));
        let mut all: Vec<_> = put.into_iter().chain(gone.into_iter().rev()).collect();
        all.sort_by_key(|planned| planned.step);
        all
    }

    async fn check(&mut self, round: &Round) -> Result<(), TestCaseError> {
        round.state.iter().for_each(|state| self.learn(state));
        round.happened.iter().for_each(|what| self.happens(what));
        tokio::time::advance(round.after).await;
        // As its events would have it.
        self.engine.state.all_is_stale();
        let run = self.engine.dry_run().await.unwrap();
        let (decided, preview) = (self.decisions(&run), run.preview());
        let unlimited = |planned: &Planned| {
            let hold = planned.hold.filter(|hold| !matches!(hold, Hold::Limited(_)));
            Planned { hold, ..planned.clone() }
        };
        prop_assert_eq!(&decided, &run.changes.iter().map(unlimited).collect::<Vec<_>>());
        let shown: Vec<_> = preview.changes.iter().map(|pending| pending.change.clone()).collect();
        prop_assert_eq!(shown, decided.into_iter().map(|planned| planned.change).collect::<Vec<_>>());
        prop_assert!(preview.changes.iter().all(|pending| !pending.why.is_empty()));
        drop(run);
        let promised = preview.changes.into_iter().filter(|pending| pending.waits.is_none());
        let promised: Vec<_> = promised.map(|pending| pending.change).collect();
        self.kernel.take_writes();
        self.engine.pass().await.unwrap();
        let applied = self.kernel.take_writes().into_iter().filter_map(|write| match write {
            Write::Route(change, _) => Some(change),
            _ => None,
        });
        prop_assert_eq!(applied.collect::<Vec<_>>(), promised);
        Ok(())
    }
}

proptest! {
    #[test]
    fn decisions_plan_and_pass_agree(
        settings in random_states::settings(), rounds in rounds(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let mut bed = Bed::new(settings, &dir);
            for round in &rounds {
                bed.check(round).await?;
            }
            Ok::<(), TestCaseError>(())
        })?;
    }
}
