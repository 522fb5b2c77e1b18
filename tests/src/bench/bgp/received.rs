//! The time until all routes of a router are in the kernel of a host without routes: with the agent and `import = "all"`,
//! with BIRD, and with FRR. The router is the same BIRD for each.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::ensure;

use super::super::routes::{
    child::peak,
    others::{
        Frr, control, daemon_measured, entries, expect_routes, start_bird, static_routes, wait_for_routes,
    },
};
use crate::{AgentOptions, ControllerOptions, Host, Lab, Process, lab::poll::try_poll};

const TIMEOUT: Duration = Duration::from_secs(60);
const MIB: f64 = (1 << 20) as f64;

struct Measurement {
    name: &'static str,
    took: Duration,
    after_first: Duration,
    peak: u64,
}

type Receiver = fn(&Lab, &Host, &Feeder, u32) -> anyhow::Result<Measurement>;

/// The table: one row for each program.
pub(super) fn measure(lab: &Lab, routes: u32, progress: fn(&str)) -> anyhow::Result<Vec<Vec<String>>> {
    let mut measurements = Vec::new();
    for (name, receive) in [("agent", agent as Receiver), ("bird", bird), ("frr", frr)] {
        progress(&format!("{routes} routes to {name}"));
        let host = lab.host(&format!("i{name}"))?;
        let feeder = Feeder::start(lab, &format!("f{name}"), &host, routes)?;
        measurements.push(receive(lab, &host, &feeder, routes)?);
        drop(feeder);
        host.power_off()?;
    }
    let (ours, first) = (measurements[0].took, measurements[0].after_first);
    let header = ["", "from start", "agent / this", "after the first route", "agent / this", "peak memory"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    rows.extend(measurements.iter().map(|it| {
        let ratio =
            |ours: Duration, its: Duration| format!("{:.2} ×", ours.as_secs_f64() / its.as_secs_f64());
        vec![
            it.name.to_owned(),
            format!("{:.3} s", it.took.as_secs_f64()),
            ratio(ours, it.took),
            format!("{:.3} s", it.after_first.as_secs_f64()),
            ratio(first, it.after_first),
            format!("{:.1} MiB", it.peak as f64 / MIB),
        ]
    }));
    Ok(rows)
}

/// The router that announces the routes.
struct Feeder {
    host: Host,
    _bird: Process,
    _waker: Process,
}

impl Feeder {
    fn start(lab: &Lab, name: &str, to: &Host, routes: u32) -> anyhow::Result<Self> {
        let host = lab.host(name)?;
        let config = format!(
            "router id 192.0.2.1;
             protocol device {{}}
             {}
             protocol bgp feed {{
               local {} as 65001; neighbor {} as 65002;
               connect delay time 1; connect retry time 1; error wait time 1, 2;
               ipv6 {{ import none; export all; next hop self; }};
             }}",
            static_routes(routes, to.address())?,
            host.address(),
            to.address(),
        );
        let bird = start_bird(&host, name, &config)?;
        let socket = control(&host, name);
        try_poll(TIMEOUT, || {
            let output = host.check(&["birdc", "-s", &socket, "show", "route", "count"])?;
            ensure!(output.contains(&format!("{routes} of {routes} routes")), "{output}");
            anyhow::Ok(())
        })?;
        // BIRD may wait up to 3 s before it sends its last updates; a command wakes it.
        let script = format!("while :; do birdc -s {socket} show status; sleep 0.02; done >/dev/null");
        let waker = host.spawn(&format!("{name}-waker"), &["sh", "-c", &script])?;
        Ok(Self { host, _bird: bird, _waker: waker })
    }
}

fn agent(lab: &Lab, host: &Host, feeder: &Feeder, routes: u32) -> anyhow::Result<Measurement> {
    let log = "info".to_owned();
    let controller =
        lab.controller(ControllerOptions { log: log.clone(), ..ControllerOptions::default() })?;
    controller.wait_ready(TIMEOUT)?;
    lab.cli(&["pool", "add", "main", "2001:db8:8000::/40", "--host-len", "64"])?.succeeded()?;
    let config = lab.dir().join("import.toml");
    let text = format!(
        "[bgp]\nlocal-as = 65002\n[[bgp.neighbour]]\naddress = \"{}\"\nremote-as = 65001\nimport = \"all\"\n\
         import-max = {routes}\n",
        feeder.host.address()
    );
    fs::write(&config, text)?;
    let args =
        ["--config", &config.display().to_string(), "--topology", "routed"].map(str::to_owned).to_vec();
    let before = entries(host)?;
    let began = Instant::now();
    let agent = lab.agent(host, AgentOptions { log, args, ..AgentOptions::default() })?;
    let first = wait_for_routes(host, before, routes, &agent.process)?;
    let (took, after_first) = (began.elapsed(), first.elapsed());
    expect_routes(host, "66", routes)?;
    Ok(Measurement { name: "agent", took, after_first, peak: peak(agent.process.pid())? })
}

fn bird(_lab: &Lab, host: &Host, feeder: &Feeder, routes: u32) -> anyhow::Result<Measurement> {
    let config = format!(
        "router id 192.0.2.2;
         protocol device {{}}
         protocol kernel {{ metric 768; ipv6 {{ import none; export all; }}; }}
         protocol bgp {{ local {} as 65002; neighbor {} as 65001; connect delay time 1; connect retry time 1;
           ipv6 {{ import all; export none; }}; }}",
        host.address(),
        feeder.host.address()
    );
    let before = entries(host)?;
    let began = Instant::now();
    let bird = start_bird(host, host.name(), &config)?;
    let first = wait_for_routes(host, before, routes, &bird)?;
    measurement("BIRD", "bird", host, routes, began, first, &[&bird])
}

fn frr(_lab: &Lab, host: &Host, feeder: &Feeder, routes: u32) -> anyhow::Result<Measurement> {
    let frr = Frr::new(host.name())?;
    let before = entries(host)?;
    let began = Instant::now();
    let zebra = frr.start(host, "zebra", "")?;
    let config = format!(
        "router bgp 65002\n bgp router-id 192.0.2.2\n no bgp ebgp-requires-policy\n no bgp default ipv4-unicast\n \
         neighbor {0} remote-as 65001\n neighbor {0} timers connect 1\n \
         address-family ipv6 unicast\n  neighbor {0} activate\n exit-address-family\n",
        feeder.host.address()
    );
    let bgpd = frr.start(host, "bgpd", &config)?;
    let first = wait_for_routes(host, before, routes, &zebra)?;
    measurement("FRR", "bgp", host, routes, began, first, &[&zebra, &bgpd])
}

fn measurement(
    name: &'static str,
    protocol: &str,
    host: &Host,
    routes: u32,
    began: Instant,
    first: Instant,
    processes: &[&Process],
) -> anyhow::Result<Measurement> {
    let measured = daemon_measured(began, first, processes)?;
    let of = |step: &str| measured.steps[step].took;
    expect_routes(host, protocol, routes)?;
    Ok(Measurement { name, took: of("add"), after_first: of("after the first route"), peak: measured.peak })
}
