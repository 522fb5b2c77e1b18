//! One speaker per host, all in one process, each with a session with the same router: the time until the router's kernel has
//! all their prefixes, and the memory of a session.

use std::{
    net::Ipv6Addr,
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use nix::sys::resource::{Resource, setrlimit};
use sextant_agent::{
    bgp::{Meters, Speaker},
    cluster::{Input, Snapshot, Verdicts, View},
    engine::Report,
    routes::Imports,
    settings::{Accept, Announce, BgpSettings, Import, NeighbourSettings, PoolsSettings},
    state::StateDir,
};
use sextant_proto::{Claim, Control, Epoch, Incarnation, NodeState, Peer, PeerClaim, Pool, Prefix, Revision};
use tokio::{runtime, sync::watch, task::JoinSet};

use crate::{Host, Lab, Process, bench::idle, lab::poll::try_poll};

const TIMEOUT: Duration = Duration::from_secs(120);
/// The speakers' addresses: behind one host, so that the router needs only one neighbour entry.
const SPEAKERS: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 5, 0, 0, 0, 0);
/// The pool; the prefix of each speaker is determined by its number.
const POOL: &str = "2001:db8:8000::/40";
/// Open files per speaker: two sockets, the lock of its state directory, and a reserve.
const FILES_PER_SPEAKER: u64 = 8;

/// The table: one row for each router.
pub(super) fn measure(lab: &Lab, sessions: u16, progress: fn(&str)) -> anyhow::Result<Vec<Vec<String>>> {
    let mut rows = vec![
        ["", "all prefixes in the kernel", "of the fastest", "memory per session"]
            .map(str::to_owned)
            .to_vec(),
    ];
    let mut found = Vec::new();
    for (name, start) in
        [("FRR", frr as fn(&Host, Ipv6Addr) -> anyhow::Result<Box<dyn Send>>), ("BIRD", bird)]
    {
        progress(&format!("{sessions} sessions with {name}"));
        let speakers = lab.host(&format!("s{}", name.to_lowercase()))?;
        let router = lab.host(&format!("r{}", name.to_lowercase()))?;
        speakers.ip("-6 route add local 2001:db8:0:5::/64 dev lo")?;
        speakers.sysctl("net/ipv6/ip_nonlocal_bind", "1")?;
        router.ip(&format!("-6 route add 2001:db8:0:5::/64 via {} dev eth0", speakers.address()))?;
        let daemon = start(&router, speakers.address())?;
        let program = std::env::current_exe()?.display().to_string();
        let count = sessions.to_string();
        let began = Instant::now();
        let child = speakers.spawn_with(
            &format!("speakers-{}", speakers.name()),
            &[&program, "bgp", "--child", "--sessions", &count],
            &[
                ("BENCH_ROUTER".to_owned(), router.address().to_string()),
                ("BENCH_DIR".to_owned(), speakers.dir().join("speakers").display().to_string()),
            ],
        )?;
        wait_for_prefixes(&router, sessions, &child)?;
        let took = began.elapsed();
        found.push((name, took, per_session(&child, sessions)?));
        drop((child, daemon));
        speakers.power_off()?;
        router.power_off()?;
    }
    let shortest = found.iter().map(|(_, took, _)| *took).min().unwrap_or_default();
    rows.extend(found.into_iter().map(|(name, took, memory)| {
        let ratio = took.as_secs_f64() / shortest.as_secs_f64();
        let memory = format!("{:.1} KiB", memory / 1024.0);
        vec![name.to_owned(), format!("{:.2} s", took.as_secs_f64()), format!("{ratio:.2} ×"), memory]
    }));
    Ok(rows)
}

fn frr(router: &Host, _speakers: Ipv6Addr) -> anyhow::Result<Box<dyn Send>> {
    let config = "router bgp 65000\n bgp router-id 192.0.2.200\n no bgp default ipv4-unicast\n \
         no bgp ebgp-requires-policy\n bgp listen limit 5000\n neighbor hosts peer-group\n \
         neighbor hosts remote-as external\n neighbor hosts ebgp-multihop 2\n \
         bgp listen range 2001:db8:0:5::/64 peer-group hosts\n address-family ipv6 unicast\n  \
         neighbor hosts activate\n  neighbor hosts route-map none out\n exit-address-family\nexit\n\
         route-map none deny 10\nexit\n";
    let frr = router.frr_with(config)?;
    try_poll(TIMEOUT, || {
        let output = frr.ask("show bgp peer-group hosts")?;
        ensure!(output.contains("2001:db8:0:5::/64"), "{output}");
        anyhow::Ok(())
    })?;
    Ok(Box::new(frr))
}

fn bird(router: &Host, _speakers: Ipv6Addr) -> anyhow::Result<Box<dyn Send>> {
    let bird = router.bird_with(
        "router id 192.0.2.200; protocol device { }
         protocol kernel { learn; scan time 1; ipv6 { import all; export where source = RTS_BGP; }; }
         protocol bgp hosts { local as 65000; neighbor range 2001:db8:0:5::/64 external; multihop 2; passive;
             ipv6 { import all; export none; }; }\n",
    )?;
    try_poll(TIMEOUT, || {
        let output = bird.ask("show route for 2001:db8:0:5::1")?;
        ensure!(output.contains("2001:db8:0:5::/64"), "{output}");
        anyhow::Ok(())
    })?;
    Ok(Box::new(bird))
}

/// Waits until the router's kernel has all prefixes.
fn wait_for_prefixes(router: &Host, sessions: u16, child: &Process) -> anyhow::Result<()> {
    let end = Instant::now() + TIMEOUT;
    loop {
        let count =
            router.check(&["sh", "-c", "ip -6 route show | grep -c '^2001:db8:80.*proto b'; true"])?;
        if count.trim() == sessions.to_string() {
            return Ok(());
        }
        ensure!(child.ended()?.is_none(), "the speakers have ended: {}", child.log());
        ensure!(
            Instant::now() < end,
            "{} of {sessions} prefixes after {TIMEOUT:?}: {}",
            count.trim(),
            child.log()
        );
        thread::sleep(Duration::from_millis(20));
    }
}

/// The memory per session: the growth of the process since it printed its initial memory.
fn per_session(child: &Process, sessions: u16) -> anyhow::Result<f64> {
    let line = child.wait_for_line("before:", TIMEOUT)?.text;
    let before: f64 = line.rsplit(' ').next().unwrap_or_default().parse()?;
    let now = (idle::status(child.pid(), "VmRSS:")? << 10) as f64;
    Ok((now - before) / f64::from(sessions))
}

/// Runs the speakers until the process is killed.
pub(super) fn run_speakers(sessions: u16) -> anyhow::Result<()> {
    let router: Ipv6Addr = std::env::var("BENCH_ROUTER")?.parse()?;
    let files = FILES_PER_SPEAKER * u64::from(sessions) + 64;
    setrlimit(Resource::RLIMIT_NOFILE, files, files)?;
    let dir = PathBuf::from(std::env::var("BENCH_DIR")?);
    let speakers = (1..=sessions).map(|n| speaker(n, router, &dir)).collect::<anyhow::Result<Vec<_>>>()?;
    // One thread, as in the agent.
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    println!("before: {}", idle::status(std::process::id(), "VmRSS:")? << 10);
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        let mut kept = Vec::new();
        for (speaker, senders) in speakers {
            kept.push(senders);
            tasks.spawn(speaker.run());
        }
        let ended = tasks.join_next().await.context("no speaker")?;
        ended?.map_err(Into::into)
    })
}

type Senders = (watch::Sender<Input>, watch::Sender<Report>, watch::Sender<Arc<Verdicts>>);

/// The agent's speaker for the `n`th host, which is ready.
fn speaker(n: u16, router: Ipv6Addr, dir: &std::path::Path) -> anyhow::Result<(Speaker, Senders)> {
    let pool = Pool::new("main".parse()?, POOL.parse()?, 64, 64)?;
    let bits = pool.prefix.addr().to_bits() | u128::from(n) << 64;
    let prefix = Prefix::containing(Ipv6Addr::from_bits(bits), 64).context("64 is a length")?;
    let epoch = Epoch { incarnation: Incarnation::random(), revision: Revision(1) };
    let node: sextant_proto::NodeName = format!("s{n}").parse()?;
    let source = Ipv6Addr::from_bits(SPEAKERS.to_bits() | u128::from(n));
    let own = Peer {
        name: node.clone(),
        claims: vec![PeerClaim::current(prefix, pool.name.clone(), Revision(1), NodeState::Ready)],
        next_hops: vec![source],
        session: true,
        drain_timeout: Duration::ZERO,
    };
    let mut view = View::default();
    view.apply_snapshot(Snapshot {
        mark: None,
        incarnation: epoch.incarnation,
        revision: Revision(1),
        linearizable: true,
        recovering: false,
        control: Control::default(),
        pools: vec![pool.clone()],
        peers: vec![own],
    });
    let claims = vec![Claim { prefix, epoch, pool }];
    let (input_tx, input) = watch::channel(Input { claims, view: Arc::new(view), ..Input::default() });
    let (report_tx, report) = watch::channel(Report { set_up: true, ..Report::default() });
    let (verdicts_tx, verdicts) = watch::channel(Arc::<Verdicts>::default());
    let speaker = Speaker {
        problems: Default::default(),
        settings: settings(router, source),
        node,
        input,
        report,
        verdicts,
        status: watch::channel(Vec::new()).0,
        state: Arc::new(StateDir::open(&dir.join(n.to_string()))?),
        imports: watch::channel(Arc::new(Imports::default())).0,
        meters: Meters::default(),
    };
    Ok((speaker, (input_tx, report_tx, verdicts_tx)))
}

fn settings(router: Ipv6Addr, source: Ipv6Addr) -> BgpSettings {
    let neighbour = NeighbourSettings {
        address: router,
        interface: None,
        remote_as: 65000,
        passive: false,
        hold_time: 90,
        password: None,
        ttl_security: false,
        restart_time: 120,
        bfd: None,
        accept: Accept { import: Import::None, filter: Vec::new(), max: 1 },
        source: Some(source),
        communities: Vec::new(),
        large_communities: Vec::new(),
        med: None,
        local_pref: 100,
    };
    BgpSettings {
        local_as: 65001,
        router_id: None,
        listen_port: 0,
        announce: Announce::Own,
        import_metric: 768,
        pools: PoolsSettings::new(),
        neighbours: vec![neighbour],
    }
}
