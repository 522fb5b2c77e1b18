//! Routes that one router announces, into the kernel of a host that has nothing yet: by the agent with `import = "all"`,
//! by BIRD, and by FRR. Each hears them of the same BIRD.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::ensure;

use super::super::routes::{
    child::peak,
    others::{Frr, control, daemon_measured, entries, filled, holds, start_bird, static_routes},
};
use crate::{AgentOptions, ControllerOptions, Host, Lab, Process, lab::poll::try_poll};

const PATIENCE: Duration = Duration::from_secs(60);
const MIB: f64 = (1 << 20) as f64;

struct Found {
    name: &'static str,
    took: Duration,
    from_first: Duration,
    peak: u64,
}

type Receiver = fn(&Lab, &Host, &Feeder, u32) -> anyhow::Result<Found>;

/// One line for each.
pub(super) fn measure(lab: &Lab, routes: u32, progress: fn(&str)) -> anyhow::Result<Vec<Vec<String>>> {
    let mut found = Vec::new();
    for (name, receive) in [("agent", agent as Receiver), ("bird", bird), ("frr", frr)] {
        progress(&format!("{routes} routes to {name}"));
        let host = lab.host(&format!("i{name}"))?;
        let feeder = Feeder::start(lab, &format!("f{name}"), &host, routes)?;
        found.push(receive(lab, &host, &feeder, routes)?);
        drop(feeder);
        host.power_off()?;
    }
    let (ours, first) = (found[0].took, found[0].from_first);
    let header = ["", "from its start", "the agent against it", "from its first route", "", "peak"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    rows.extend(found.iter().map(|it| {
        let ratio =
            |ours: Duration, its: Duration| format!("{:.2} ×", ours.as_secs_f64() / its.as_secs_f64());
        vec![
            it.name.to_owned(),
            format!("{:.3} s", it.took.as_secs_f64()),
            ratio(ours, it.took),
            format!("{:.3} s", it.from_first.as_secs_f64()),
            ratio(first, it.from_first),
            format!("{:.1} MiB", it.peak as f64 / MIB),
        ]
    }));
    Ok(rows)
}

/// Who announces them.
struct Feeder {
    host: Host,
    _bird: Process,
    _asker: Process,
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
        try_poll(PATIENCE, || {
            let told = host.check(&["birdc", "-s", &socket, "show", "route", "count"])?;
            ensure!(told.contains(&format!("{routes} of {routes} routes")), "{told}");
            anyhow::Ok(())
        })?;
        // It may sleep for up to 3 s on the last of what it has to tell; a question wakes it.
        let asks = format!("while :; do birdc -s {socket} show status; sleep 0.02; done >/dev/null");
        let asker = host.spawn(&format!("{name}-asker"), &["sh", "-c", &asks])?;
        Ok(Self { host, _bird: bird, _asker: asker })
    }
}

fn agent(lab: &Lab, host: &Host, feeder: &Feeder, routes: u32) -> anyhow::Result<Found> {
    let log = "info".to_owned();
    let controller =
        lab.controller(ControllerOptions { log: log.clone(), ..ControllerOptions::default() })?;
    controller.wait_ready(PATIENCE)?;
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
    let first = filled(host, before, routes, &agent.process)?;
    let (took, from_first) = (began.elapsed(), first.elapsed());
    holds(host, "66", routes)?;
    Ok(Found { name: "agent", took, from_first, peak: peak(agent.process.pid())? })
}

fn bird(_lab: &Lab, host: &Host, feeder: &Feeder, routes: u32) -> anyhow::Result<Found> {
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
    let first = filled(host, before, routes, &bird)?;
    found("BIRD", "bird", host, routes, began, first, &[&bird])
}

fn frr(_lab: &Lab, host: &Host, feeder: &Feeder, routes: u32) -> anyhow::Result<Found> {
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
    let first = filled(host, before, routes, &zebra)?;
    found("FRR", "bgp", host, routes, began, first, &[&zebra, &bgpd])
}

fn found(
    name: &'static str,
    protocol: &str,
    host: &Host,
    routes: u32,
    began: Instant,
    first: Instant,
    processes: &[&Process],
) -> anyhow::Result<Found> {
    let measured = daemon_measured(began, first, processes)?;
    let of = |step: &str| measured.steps[step].took;
    holds(host, protocol, routes)?;
    Ok(Found { name, took: of("add"), from_first: of("from its first"), peak: measured.peak })
}
