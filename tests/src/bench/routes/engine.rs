//! The agent's code on a real kernel: its batches alone, and its engine with a view of many peers.

use std::{
    net::Ipv6Addr,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use sextant_agent::{
    cluster::{Input, Snapshot, Verdicts, View},
    engine::{Engine, Report},
    host::HostSetup,
    kernel::{Change, Kernel, NetlinkKernel, NextHop, OwnRoute, RouteKey, RouteTarget, Scope},
    settings::{BridgeSettings, Direct, NextHopKind, Role, RouteSettings, Settings, Topology},
    state::StateDir,
};
use sextant_daemon::{LogFormat, systemd::Heartbeat};
use sextant_proto::{Claim, Control, Epoch, Incarnation, NodeState, Peer, PeerClaim, Pool, Revision};
use tokio::{
    runtime::{self, Runtime},
    sync::watch,
    task::JoinHandle,
};

use super::{
    Measured, Step,
    bare::{GATEWAYS, MAIN, METRIC, destination},
    child::{cpu, timed, uplink},
};

/// Enough for any number of routes.
const TIMEOUT: Duration = Duration::from_secs(120);
/// A resync period longer than any step, in seconds.
const NO_RESYNC: u32 = 3600;
/// Number of measured resyncs.
const RESYNCS: usize = 7;
/// The sampling interval of the CPU time during resyncs.
const SAMPLE: Duration = Duration::from_millis(25);
/// The process is idle if it used less CPU time than this since the last sample: that is the cost of sampling.
const BUSY: Duration = Duration::from_millis(2);

/// Adds, dumps, replaces and deletes routes with the agent's netlink code.
pub(super) fn batches(routes: u32) -> anyhow::Result<Measured> {
    let link = uplink()?;
    let runtime = runtime()?;
    let kernel = runtime.block_on(async { NetlinkKernel::open() })?;
    let route = |n: u32, gateway: Ipv6Addr| OwnRoute {
        key: RouteKey { table: MAIN, destination: destination(n), metric: METRIC },
        target: RouteTarget::Via([NextHop { gateway: Some(gateway), link, onlink: false }].into()),
    };
    let mut measured = Measured::default();
    for (step, make) in [
        (
            "add",
            (|n, route: &dyn Fn(u32, Ipv6Addr) -> OwnRoute| Change::Add(route(n, GATEWAYS[0])))
                as fn(u32, &dyn Fn(u32, Ipv6Addr) -> OwnRoute) -> Change,
        ),
        ("replace", |n, route| Change::Replace(route(n, GATEWAYS[1]))),
        ("delete", |n, route| Change::Delete(route(n, GATEWAYS[1]))),
    ] {
        let changes: Vec<Change> = (0..routes).map(|n| make(n, &route)).collect();
        let (results, took) = timed(|| Ok(runtime.block_on(kernel.apply(&changes))?))?;
        ensure!(results.iter().all(Result::is_ok), "{step}: a change failed");
        measured.steps.insert(step.to_owned(), took);
        if step == "add" {
            let dump = || Ok(runtime.block_on(kernel.routes(Scope::Ours))?.len());
            let (found, took) = timed(dump)?;
            ensure!(found >= routes as usize, "{found} of {routes} routes exist");
            measured.steps.insert("dump".to_owned(), took);
        }
    }
    Ok(measured)
}

/// A cold start up to all routes; a restart and resyncs without changes; new next hops of all peers; removal of all peers.
pub(super) fn engine(routes: u32) -> anyhow::Result<Measured> {
    let bench = Bench::new(routes)?;
    let mut measured = Measured::default();
    let peers = bench.peers(1, GATEWAYS[0])?;
    let (mut running, took) = timed(|| {
        let mut running = bench.start(NO_RESYNC, peers)?;
        running.applied(&bench, 1)?;
        Ok(running)
    })?;
    measured.steps.insert("add".to_owned(), took);
    bench.expect_routes(routes)?;
    for (revision, step, peers) in
        [(2, "replace", bench.peers(2, GATEWAYS[1])?), (3, "delete", bench.no_peers(3))]
    {
        if step == "delete" {
            let (again, took) = bench.restart(running)?;
            measured.steps.insert("restart".to_owned(), took);
            measured.steps.insert("resync".to_owned(), bench.resync(again)?);
            running = bench.start(NO_RESYNC, bench.peers(2, GATEWAYS[1])?)?;
            running.applied(&bench, 2)?;
        }
        let ((), took) = timed(|| {
            running.input.send_replace(peers);
            running.applied(&bench, revision)
        })?;
        measured.steps.insert(step.to_owned(), took);
    }
    bench.expect_routes(0)?;
    Ok(measured)
}

struct Bench {
    runtime: Runtime,
    routes: u32,
    incarnation: Incarnation,
    pool: Pool,
    dir: std::path::PathBuf,
}

struct Running {
    input: watch::Sender<Input>,
    report: watch::Receiver<Report>,
    _verdicts: watch::Sender<Arc<Verdicts>>,
    task: JoinHandle<()>,
}

impl Bench {
    fn new(routes: u32) -> anyhow::Result<Self> {
        let pool = Pool::new("main".parse()?, "2001:db9::/40".parse()?, 64, 64)?;
        let dir = std::env::temp_dir().join(format!("sextant-bench-{}", std::process::id()));
        Ok(Self { runtime: runtime()?, routes, incarnation: Incarnation::random(), pool, dir })
    }

    /// The engine's input: `routes` peers, all behind one gateway.
    fn peers(&self, revision: u64, gateway: Ipv6Addr) -> anyhow::Result<Input> {
        let peer = |n: u32| {
            anyhow::Ok(Peer {
                name: format!("c{n}").parse()?,
                claims: vec![PeerClaim::current(
                    destination(n),
                    self.pool.name.clone(),
                    Revision(1),
                    NodeState::Ready,
                )],
                next_hops: vec![gateway],
                session: true,
                drain_timeout: Duration::ZERO,
            })
        };
        let peers = (0..self.routes).map(peer).collect::<Result<_, _>>()?;
        Ok(self.input(revision, peers, 0))
    }

    /// The engine's input without peers. An operator has confirmed their removal, so that the brake allows it.
    fn no_peers(&self, revision: u64) -> Input {
        self.input(revision, Vec::new(), self.routes.into())
    }

    fn input(&self, revision: u64, peers: Vec<Peer>, confirmed_removals: u64) -> Input {
        let mut view = View::default();
        view.apply_snapshot(Snapshot {
            mark: None,
            incarnation: self.incarnation,
            revision: Revision(revision),
            linearizable: true,
            recovering: false,
            control: Control { paused: false, resumed: Revision(revision), confirmed_removals },
            pools: vec![self.pool.clone()],
            peers,
        });
        let epoch = Epoch { incarnation: self.incarnation, revision: Revision(1) };
        let claim = Claim { prefix: destination(0xff_fffe), epoch, pool: self.pool.clone() };
        Input { claims: vec![claim], view: Arc::new(view), ..Input::default() }
    }

    fn start(&self, resync_secs: u32, input: Input) -> anyhow::Result<Running> {
        let settings = settings(resync_secs)?;
        let _inside = self.runtime.enter();
        let kernel: Arc<dyn Kernel> = Arc::new(NetlinkKernel::open()?);
        let state = Arc::new(StateDir::open(&self.dir)?);
        let host = HostSetup::new(kernel.clone(), state, &settings)?;
        let (input, input_rx) = watch::channel(input);
        let (verdicts, verdicts_rx) = watch::channel(Arc::<Verdicts>::default());
        let (report_tx, report) = watch::channel(Report::default());
        let heartbeat = Heartbeat::unwatched();
        let engine = Engine::new(kernel, settings, host, input_rx, verdicts_rx, report_tx, heartbeat);
        // The end of the report's channel shows the end of the task.
        let task = self.runtime.spawn(async move { drop(engine.run().await) });
        Ok(Running { input, report, _verdicts: verdicts, task })
    }

    /// Aborts the engine, as a kill would; returns its last input.
    fn stop(&self, running: Running) -> Input {
        running.task.abort();
        // The task has been aborted. Its lock of the state directory is released once it has ended.
        let _aborted = self.runtime.block_on(running.task);
        running.input.borrow().clone()
    }

    /// A restart without changes.
    fn restart(&self, before: Running) -> anyhow::Result<(Running, Step)> {
        let input = self.stop(before);
        let revision = input.view.revision().0;
        timed(|| {
            let mut running = self.start(NO_RESYNC, input)?;
            running.applied(self, revision)?;
            Ok(running)
        })
    }

    /// The CPU time of a resync without changes: the process is busy once a second.
    fn resync(&self, before: Running) -> anyhow::Result<Step> {
        let input = self.stop(before);
        let mut running = self.start(1, input)?;
        running.applied(self, 2)?;
        let (mut bursts, mut quiet, end) = (Vec::new(), 0, Instant::now() + TIMEOUT);
        let (mut since, mut last) = (cpu()?, cpu()?);
        // The first burst may be incomplete, and is dropped.
        while bursts.len() <= RESYNCS {
            ensure!(Instant::now() < end, "{} of {RESYNCS} resyncs after {TIMEOUT:?}", bursts.len());
            thread::sleep(SAMPLE);
            let now = cpu()?;
            quiet = if now - last < BUSY { quiet + 1 } else { 0 };
            last = now;
            if quiet == 2 && now - since > BUSY {
                bursts.push(now - since);
            }
            if quiet >= 2 {
                since = now;
            }
        }
        self.stop(running);
        bursts.remove(0);
        bursts.sort();
        // Only one thread at a time works on a resync, so its CPU time is its duration.
        Ok(Step { took: bursts[RESYNCS / 2], cpu: bursts[RESYNCS / 2] })
    }

    /// Checks the number of routes to peers.
    fn expect_routes(&self, routes: u32) -> anyhow::Result<()> {
        let found = self.runtime.block_on(async { NetlinkKernel::open()?.routes(Scope::Ours).await })?;
        let peers = found.iter().filter(|route| route.key.metric == METRIC).count();
        ensure!(peers == routes as usize, "{peers} routes to peers instead of {routes}");
        Ok(())
    }
}

impl Running {
    /// Waits until all changes up to `revision` are in the kernel.
    fn applied(&mut self, bench: &Bench, revision: u64) -> anyhow::Result<()> {
        let wanted = Some((bench.incarnation, Revision(revision)));
        bench.runtime.block_on(async {
            let done = self.report.wait_for(|report| report.applied == wanted);
            let report = tokio::time::timeout(TIMEOUT, done).await.context("not applied in time")??.clone();
            ensure!(report.failed.is_empty() && report.held == 0, "failed: {:?}", report.failed.first());
            Ok(())
        })
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // A leftover in the temporary directory does no harm.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A runtime like the agent's.
fn runtime() -> anyhow::Result<Runtime> {
    Ok(runtime::Builder::new_multi_thread().enable_all().build()?)
}

fn settings(resync_secs: u32) -> anyhow::Result<Settings> {
    Ok(Settings {
        accept_pools: Vec::new(),
        insecure: false,
        controllers: Vec::new(),
        tls: None,
        node: "h1".parse()?,
        pools: Vec::new(),
        host_len: None,
        state_dir: "/nonexistent".into(),
        http: "[::1]:0".parse()?,
        log: String::new(),
        log_format: LogFormat::Text,
        uplinks: vec!["eth0".into()],
        next_hop: NextHopKind::Global,
        bridge: BridgeSettings { name: "docker0".into(), create: true, advertise: false },
        routes: RouteSettings {
            metric: METRIC,
            unreachable_metric: 4_000_000_000,
            table: MAIN,
            resync_secs,
            balance: false,
            off_link: sextant_agent::settings::OffLink::Refuse,
            direct: Direct::OnLink,
            topology: Topology::Switched,
            mark: None,
        },
        role: Role::Host,
        docker: None,
        ndp: None,
        bgp: None,
    })
}
