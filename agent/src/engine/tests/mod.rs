//! The engine on a kernel with injected faults. What a real kernel does is tested in the lab.

mod claims;
mod conflicts;
mod containers;
mod decisions;
mod docker;
mod dumps;
mod mtu;
mod renamed;
mod schedules;
mod unclaimed;

use std::{sync::Arc, time::Duration};

use sextant_daemon::{LogFormat, systemd::Watchdog};
use sextant_proto::{
    Claim, Control, Epoch, Incarnation, NodeState, Peer, PeerClaim, Prefix, Revision, Verdict,
};
use tokio::sync::watch;

use super::*;
use crate::{
    cluster::{Snapshot, View},
    kernel::{
        Change, Event, Route, RouteKey, RouteProtocol, RouteTarget,
        fake::{FakeKernel, Write},
    },
    routes::{
        fixture::{SETTINGS, pool},
        random_states::prefix,
    },
    settings::{BridgeSettings, Role, RouteSettings},
    state::StateDir,
};

/// Paused time: this much passes in no time.
const SOON: Duration = Duration::from_secs(2);

struct Fixture {
    kernel: FakeKernel,
    input: watch::Sender<Input>,
    verdicts: watch::Sender<Arc<Verdicts>>,
    report: watch::Receiver<Report>,
    problems: Problems,
    incarnation: Incarnation,
    control: Control,
    dir: Arc<tempfile::TempDir>,
}

fn peer(n: u8) -> Peer {
    Peer {
        name: format!("h{n}").parse().unwrap(),
        claims: vec![PeerClaim::current(
            prefix(n),
            "main".parse().unwrap(),
            Revision(n.into()),
            NodeState::Ready,
        )],
        next_hops: vec![format!("2001:db8::{n:x}").parse().unwrap()],
        session: true,
        drain_timeout: Duration::ZERO,
    }
}

fn settings() -> Settings {
    Settings {
        accept_pools: Vec::new(),
        insecure: false,
        controllers: vec![],
        tls: None,
        node: "h1".parse().unwrap(),
        role: Role::Host,
        host_len: None,
        pools: vec![],
        state_dir: "/nonexistent".into(),
        http: "[::1]:0".parse().unwrap(),
        log: String::new(),
        log_format: LogFormat::Text,
        uplinks: vec!["eth0".into()],
        next_hop: crate::settings::NextHopKind::Global,
        bridge: BridgeSettings { name: "docker0".into(), create: true, advertise: false },
        routes: SETTINGS,
        docker: None,
        ndp: None,
        bgp: None,
    }
}

impl Fixture {
    fn start() -> Self {
        let kernel = FakeKernel::with_uplink("eth0", "2001:db8::1/64");
        kernel.put_sysctl("net/ipv6/conf/all/forwarding", "0");
        kernel.put_sysctl("net/ipv6/conf/eth0/accept_ra", "1");
        Self::on(kernel, Arc::new(tempfile::tempdir().unwrap()))
    }

    fn on(kernel: FakeKernel, dir: Arc<tempfile::TempDir>) -> Self {
        Self::watched(kernel, dir, Heartbeat::unwatched())
    }

    fn watched(kernel: FakeKernel, dir: Arc<tempfile::TempDir>, heartbeat: Heartbeat) -> Self {
        Self::with(kernel, dir, heartbeat, settings(), |engine| engine)
    }

    fn with(
        kernel: FakeKernel,
        dir: Arc<tempfile::TempDir>,
        heartbeat: Heartbeat,
        settings: Settings,
        more: impl FnOnce(Engine) -> Engine,
    ) -> Self {
        let state = Arc::new(StateDir::open(dir.path()).unwrap());
        let shared: Arc<dyn Kernel> = Arc::new(kernel.clone());
        let host = HostSetup::new(shared.clone(), state, &settings).unwrap();
        let (input, input_rx) = watch::channel(Input::default());
        let (verdicts, verdicts_rx) = watch::channel(Arc::<Verdicts>::default());
        let (report_tx, report) = watch::channel(Report::default());
        let problems = Problems::default();
        let engine = Engine::new(shared, settings, host, input_rx, verdicts_rx, report_tx, heartbeat);
        tokio::spawn(more(engine.with_problems(problems.clone())).run());
        let (incarnation, control) = (Incarnation::random(), Control::default());
        Self { kernel, input, verdicts, report, problems, incarnation, control, dir }
    }

    /// Tells the engine of these peers.
    fn tell(&self, revision: u64, peers: &[u8], recovering: bool) {
        self.tell_peers(revision, peers.iter().map(|&n| peer(n)).collect(), recovering);
    }

    fn tell_peers(&self, revision: u64, peers: Vec<Peer>, recovering: bool) {
        let mut view = View::default();
        view.apply_snapshot(Snapshot {
            mark: None,
            incarnation: self.incarnation,
            revision: Revision(revision),
            linearizable: true,
            recovering,
            control: self.control,
            pools: vec![pool()],
            peers,
        });
        let epoch = Epoch { incarnation: self.incarnation, revision: Revision(1) };
        let claims = vec![Claim { prefix: prefix(1), epoch, pool: pool() }];
        self.input.send_replace(Input { claims, view: Arc::new(view), ..Input::default() });
    }

    async fn applied(&mut self, revision: u64) -> Report {
        let done = |report: &Report| report.applied.is_some_and(|(_, applied)| applied >= Revision(revision));
        let report = tokio::time::timeout(Duration::from_secs(300), self.report.wait_for(done)).await;
        report.expect("the engine never got there").unwrap().clone()
    }

    fn destinations(&self) -> Vec<Prefix> {
        self.kernel.routes_of_ours().iter().map(|route| route.key.destination).collect()
    }

    /// The routes for h1 with these peers, in the kernel's order.
    fn expect(&self, peers: &[u8]) {
        let mut expected: Vec<_> = peers.iter().map(|&n| prefix(n)).collect();
        expected.extend([prefix(1), pool().prefix]);
        expected.sort();
        let mut actual = self.destinations();
        actual.sort();
        assert_eq!(actual, expected);
    }
}

fn key(n: u8) -> RouteKey {
    RouteKey { table: 254, destination: prefix(n), metric: 512 }
}

#[tokio::test(start_paused = true)]
async fn i7_unreachables_then_the_bridge_then_forwarding_then_ready() {
    let mut it = Fixture::start();
    it.tell(5, &[2], false);
    let report = it.applied(5).await;
    assert!(report.announcement.is_some(), "{report:?}");
    let order: Vec<_> = it
        .kernel
        .writes()
        .iter()
        .map(|write| match write {
            Write::Route(change, Ok(())) if change.route().target == RouteTarget::Unreachable => {
                "unreachable"
            }
            Write::Route(..) => "peer",
            Write::RemoveBootRoute(..) => "left route",
            Write::CreateBridge(_) => "bridge",
            Write::SetUp(_) => "up",
            Write::AddAddress(..) | Write::RenewAddress(..) => "address",
            Write::RemoveAddress(..) => "remove",
            Write::SetSysctl(path, _) if path == "net/ipv6/conf/docker0/accept_ra" => {
                "accept_ra of the bridge"
            }
            Write::SetSysctl(path, _) if path.ends_with("accept_ra") => "accept_ra",
            Write::SetSysctl(path, _) if path.starts_with("net/ipv6/neigh/") => "limit of neighbours",
            Write::SetSysctl(path, _) if path.ends_with("ndisc_notify") => {
                "announcement of a new MAC address"
            }
            Write::SetSysctl(..) => "forwarding",
            Write::ProbeNeighbour(..) => "ask",
            Write::SetMtu(..) => "MTU",
            Write::RenameLink(..) => "name",
            Write::SetDown(_) | Write::DeleteLink(_) => "undo",
        })
        .filter(|step| *step != "up")
        .collect();
    assert_eq!(
        order,
        [
            "unreachable",
            "unreachable",
            "peer",
            "bridge",
            "address",
            "accept_ra of the bridge",
            "accept_ra",
            "limit of neighbours",
            "limit of neighbours",
            "announcement of a new MAC address",
            "forwarding"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn i8_a_second_start_writes_nothing() {
    let mut it = Fixture::start();
    it.tell(5, &[2, 3], false);
    it.applied(5).await;
    let (kernel, dir) = (it.kernel.clone(), it.dir.clone());
    let before = (kernel.all_routes(), kernel.take_writes());
    assert!(!before.1.is_empty());
    drop(it);
    // The engine ends with its session, and leaves the state directory.
    while StateDir::open(dir.path()).is_err() {
        tokio::time::sleep(SOON).await;
    }
    let mut it = Fixture::on(kernel, dir);
    it.tell(5, &[2, 3], false);
    it.applied(5).await;
    assert_eq!(it.kernel.writes(), []);
}

#[tokio::test(start_paused = true)]
async fn i10_one_bad_route_stops_no_other_and_is_tried_again() {
    let mut it = Fixture::start();
    it.kernel.fail_destination(prefix(2), 113);
    it.tell(5, &[2, 3], false);
    let report = it.applied(5).await;
    assert_eq!(report.failed.iter().map(|failed| failed.destination).collect::<Vec<_>>(), [prefix(2)]);
    it.expect(&[3]);
    it.kernel.heal_destination(prefix(2));
    let healed = |report: &Report| report.failed.is_empty();
    tokio::time::timeout(SOON * 60, it.report.wait_for(healed)).await.unwrap().unwrap();
    it.expect(&[2, 3]);
}

#[tokio::test(start_paused = true)]
async fn it_converges_after_any_interrupted_dump() {
    for done in [0, 1, usize::MAX] {
        let mut it = Fixture::start();
        it.kernel.break_apply_after(done);
        it.kernel.break_reads(2);
        it.tell(5, &[2, 3, 4], false);
        it.applied(5).await;
        it.expect(&[2, 3, 4]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_truncated_dump_costs_nothing_but_a_second_look() {
    let mut it = Fixture::start();
    it.tell(5, &[2, 3, 4], false);
    it.applied(5).await;
    it.kernel.truncate_next_dump(1);
    it.kernel.overrun();
    it.tell(6, &[2, 3, 4, 5], false);
    it.applied(6).await;
    tokio::time::sleep(SOON).await;
    it.expect(&[2, 3, 4, 5]);
    assert!(it.report.borrow().failed.is_empty(), "{:?}", it.report.borrow());
}

#[tokio::test(start_paused = true)]
async fn i9_a_route_that_others_delete_returns_even_without_an_event() {
    let mut it = Fixture::start();
    it.tell(5, &[2, 3], false);
    it.applied(5).await;
    it.kernel.foreign_remove(key(2)).unwrap();
    tokio::time::sleep(SOON / 2).await;
    it.expect(&[2, 3]);
}

#[tokio::test(start_paused = true)]
async fn i6_a_left_over_route_goes_only_once_the_view_is_complete() {
    let kernel = FakeKernel::with_uplink("eth0", "2001:db8::1/64");
    let via =
        crate::kernel::NextHop { gateway: Some("2001:db8::9".parse().unwrap()), link: 2, onlink: false };
    let left_over = Route {
        mtu: None,
        key: key(9),
        protocol: RouteProtocol::OURS,
        target: RouteTarget::Via([via].into_iter().collect()),
    };
    kernel.foreign_add(left_over).unwrap();
    let mut it = Fixture::on(kernel, Arc::new(tempfile::tempdir().unwrap()));
    it.tell(5, &[2], true);
    it.applied(5).await;
    it.expect(&[2, 9]);
    it.tell(6, &[2], false);
    it.applied(6).await;
    it.expect(&[2]);
}

#[tokio::test(start_paused = true)]
async fn a_route_that_is_no_longer_desired_is_deleted_even_while_recovering() {
    let mut it = Fixture::start();
    it.tell(5, &[2, 3], true);
    it.applied(5).await;
    it.tell(6, &[3], true);
    it.applied(6).await;
    it.expect(&[3]);
}

#[tokio::test(start_paused = true)]
async fn i6_nothing_is_changed_while_paused() {
    let mut it = Fixture::start();
    it.tell(5, &[2, 3], false);
    it.applied(5).await;
    it.kernel.take_writes();
    it.control.paused = true;
    it.tell(6, &[2], false);
    let paused = |report: &Report| report.paused;
    it.report.wait_for(paused).await.unwrap();
    it.kernel.foreign_remove(key(2)).unwrap();
    tokio::time::sleep(SOON).await;
    assert_eq!(it.kernel.writes(), []);
    assert_eq!(it.report.borrow().applied, Some((it.incarnation, Revision(5))));
    it.control = Control { paused: false, resumed: Revision(7), ..Control::default() };
    it.tell(7, &[2], false);
    it.applied(7).await;
    it.expect(&[2]);
}

#[tokio::test(start_paused = true)]
async fn i6_the_brake_holds_many_deletes_and_no_add() {
    let mut it = Fixture::start();
    let all: Vec<u8> = (2..=31).collect();
    it.tell(5, &all, false);
    it.applied(5).await;
    it.tell(6, &[2, 3, 40], false);
    let held = |report: &Report| report.held == 28;
    it.report.wait_for(held).await.unwrap();
    let mut there = all.clone();
    there.push(40);
    it.expect(&there);
    it.control.resumed = Revision(7);
    it.tell(7, &[2, 3, 40], false);
    it.applied(7).await;
    it.expect(&[2, 3, 40]);
}

#[tokio::test(start_paused = true)]
async fn i11_a_dead_host_is_refused_in_one_step_and_routed_to_at_once_when_its_session_is_back() {
    let mut it = Fixture::start();
    let lost = Peer { session: false, ..peer(2) };
    it.tell_peers(5, vec![lost, peer(3)], false);
    it.applied(5).await;
    let direct = it.kernel.route(key(2)).unwrap().target;
    it.kernel.take_writes();

    it.verdicts.send_replace(Arc::new([("h2".parse().unwrap(), crate::cluster::Verdict::Dead)].into()));
    let is_reported =
        |report: &Report| report.verdicts == [Verdict { node: "h2".parse().unwrap(), forwarding: false }];
    tokio::time::timeout(SOON, it.report.wait_for(is_reported)).await.unwrap().unwrap();
    assert_eq!(it.kernel.route(key(2)).unwrap().target, RouteTarget::Unreachable);

    it.tell(6, &[2, 3], false);
    let report = it.applied(6).await;
    assert_eq!(report.verdicts, [], "the verdict is void before it is taken back");
    assert_eq!(it.kernel.route(key(2)).unwrap().target, direct);
    let writes = it.kernel.take_writes();
    assert!(
        matches!(
            &writes[..],
            [Write::Route(Change::Replace(_), Ok(())), Write::Route(Change::Replace(_), Ok(()))]
        ),
        "{writes:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_engine_with_nothing_to_do_keeps_the_watchdog_content() {
    let watchdog = Watchdog::with_period(Some(Duration::from_secs(30)));
    let kernel = FakeKernel::with_uplink("eth0", "2001:db8::1/64");
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let fixture = Fixture::watched(kernel, dir, watchdog.heartbeat());
    for second in 0..300 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(watchdog.is_fresh(), "it stood still after {second} s");
    }
    // One that has ended does not turn any more.
    drop(fixture.input);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(!watchdog.is_fresh(), "something beats in its place");
}
