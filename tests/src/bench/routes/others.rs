//! Other programs that write the same routes to the kernel.

use std::{
    fmt::Write as _,
    fs,
    os::unix::fs::chown,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};

use super::{
    Measured, Step,
    bare::{GATEWAYS, METRIC, destination},
    child::peak,
};
use crate::{Host, Lab, Process, bench::idle, lab::poll::try_poll};

const TIMEOUT: Duration = Duration::from_secs(60);
/// Tolerance for the kernel's own entries, which come and go; [`expect_routes`] checks the exact number afterwards.
const TOLERANCE: u64 = 16;
/// How often the number of routes is read.
const SAMPLE: Duration = Duration::from_millis(2);
/// The numbers of BIRD's and of BGP routes (rtm_protocol).
const BIRD: &str = "bird";
const BGP: &str = "bgp";

/// One `ip -batch` for each step.
pub(super) fn ip(lab: &Lab, name: &str, routes: u32) -> anyhow::Result<Measured> {
    let host = lab.host(name)?;
    let mut measured = Measured::default();
    for (step, verb, gateway) in
        [("add", "add", GATEWAYS[0]), ("replace", "replace", GATEWAYS[1]), ("delete", "del", GATEWAYS[1])]
    {
        let mut lines = String::new();
        for n in 0..routes {
            let destination = destination(n);
            writeln!(lines, "route {verb} {destination} via {gateway} dev eth0 proto 66 metric {METRIC}")?;
        }
        let file = host.dir().join(format!("{name}.batch"));
        fs::write(&file, lines)?;
        let began = Instant::now();
        let process = host.spawn("ip-batch", &["ip", "-6", "-batch", &file.display().to_string()])?;
        let (mut cpu, mut took) = (Duration::ZERO, None);
        while took.is_none() {
            // /proc shows its usage only while it runs.
            if let (Ok(now), Ok(most)) = (idle::processor(process.pid()), peak(process.pid())) {
                (cpu, measured.peak) = (now.max(cpu), most.max(measured.peak));
            }
            took = process.ended()?.map(|end| (end, began.elapsed()));
            thread::sleep(SAMPLE);
        }
        let (end, took) = took.context("ip has not ended")?;
        ensure!(end.success(), "ip -batch: {}", process.log());
        measured.steps.insert(step.to_owned(), Step { took, cpu });
        fs::remove_file(file)?;
    }
    host.power_off()?;
    Ok(measured)
}

/// BIRD with static routes in its configuration, measured from its start.
pub(super) fn bird(lab: &Lab, name: &str, routes: u32) -> anyhow::Result<Measured> {
    let host = lab.host(name)?;
    let config = format!(
        "router id 192.0.2.1;
         protocol device {{}}
         protocol kernel {{ metric {METRIC}; ipv6 {{ import none; export all; }}; }}
         {}",
        static_routes(routes, GATEWAYS[0])?
    );
    let before = entries(&host)?;
    let began = Instant::now();
    let bird = start_bird(&host, name, &config)?;
    let first = wait_for_routes(&host, before, routes, &bird)?;
    let measured = daemon_measured(began, first, &[&bird])?;
    expect_routes(&host, BIRD, routes)?;
    drop(bird);
    host.power_off()?;
    Ok(measured)
}

/// FRR: bgpd receives the routes from a BIRD on another host, and zebra writes them.
pub(super) fn frr(lab: &Lab, name: &str, routes: u32) -> anyhow::Result<Measured> {
    let (host, feeder) = (lab.host(name)?, lab.host(&format!("{name}f"))?);
    let config = format!(
        "router id 192.0.2.1;
         protocol device {{}}
         {}
         protocol bgp feed {{
           local {} as 65001; neighbor {} as 65002;
           connect delay time 1; connect retry time 1; error wait time 1, 2;
           ipv6 {{ import none; export all; next hop self; }};
         }}",
        static_routes(routes, GATEWAYS[0])?,
        feeder.address(),
        host.address(),
    );
    let bird = start_bird(&feeder, &format!("{name}f"), &config)?;
    // BIRD has all routes before FRR starts.
    try_poll(TIMEOUT, || {
        let output = feeder.check(&[
            "birdc",
            "-s",
            &control(&feeder, &format!("{name}f")),
            "show",
            "route",
            "count",
        ])?;
        ensure!(output.contains(&format!("{routes} of {routes} routes")), "{output}");
        anyhow::Ok(())
    })?;
    let frr = Frr::new(name)?;
    let before = entries(&host)?;
    let began = Instant::now();
    let zebra = frr.start(&host, "zebra", "")?;
    let bgp = format!(
        "router bgp 65002\n bgp router-id 192.0.2.2\n no bgp ebgp-requires-policy\n no bgp default ipv4-unicast\n \
         neighbor {0} remote-as 65001\n neighbor {0} timers connect 1\n \
         address-family ipv6 unicast\n  neighbor {0} activate\n exit-address-family\n",
        feeder.address()
    );
    let bgpd = frr.start(&host, "bgpd", &bgp)?;
    let first = wait_for_routes(&host, before, routes, &zebra)?;
    let measured = daemon_measured(began, first, &[&zebra, &bgpd])?;
    expect_routes(&host, BGP, routes)?;
    drop((zebra, bgpd, bird));
    host.power_off()?;
    feeder.power_off()?;
    Ok(measured)
}

pub(in crate::bench) fn static_routes(routes: u32, gateway: std::net::Ipv6Addr) -> anyhow::Result<String> {
    let mut text = String::from("protocol static { ipv6;\n");
    for n in 0..routes {
        writeln!(text, "route {} via {gateway};", destination(n))?;
    }
    Ok(text + "}\n")
}

pub(in crate::bench) fn control(host: &Host, name: &str) -> String {
    host.dir().join(format!("{name}.ctl")).display().to_string()
}

pub(in crate::bench) fn start_bird(host: &Host, name: &str, config: &str) -> anyhow::Result<Process> {
    let file = host.dir().join(format!("{name}.bird.conf"));
    fs::write(&file, config)?;
    let args = ["bird", "-f", "-c", &file.display().to_string(), "-s", &control(host, name)];
    host.spawn(name, &args)
}

/// The directory of the sockets of FRR's daemons in one namespace; removed on drop.
pub(in crate::bench) struct Frr {
    name: String,
    dir: PathBuf,
}

impl Frr {
    pub(in crate::bench) fn new(name: &str) -> anyhow::Result<Self> {
        let name = format!("sextant-bench-{}-{name}", std::process::id());
        let dir = PathBuf::from("/run/frr").join(&name);
        fs::create_dir_all(&dir)?;
        let user = nix::unistd::User::from_name("frr")?.context("there is no user frr; install frr")?;
        chown(&dir, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        Ok(Self { name, dir })
    }

    pub(in crate::bench) fn start(&self, host: &Host, daemon: &str, config: &str) -> anyhow::Result<Process> {
        let file = self.dir.join(format!("{daemon}.conf"));
        fs::write(&file, config)?;
        let (dir, file) = (self.dir.display().to_string(), file.display().to_string());
        let program = format!("/usr/lib/frr/{daemon}");
        let pid = format!("{dir}/{daemon}.pid");
        let args = [&program, "-N", &self.name, "-f", &file, "--vty_socket", &dir, "-i", &pid, "-A", "::1"];
        host.spawn(&format!("{daemon}-{}", host.name()), &args)
    }
}

impl Drop for Frr {
    fn drop(&mut self) {
        // A leftover does no harm.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Waits until the kernel has `routes` more routes than `before`; returns the time of the first one.
pub(in crate::bench) fn wait_for_routes(
    host: &Host,
    before: u64,
    routes: u32,
    process: &Process,
) -> anyhow::Result<Instant> {
    let (end, mut first) = (Instant::now() + TIMEOUT, None);
    loop {
        let more = entries(host)?.saturating_sub(before);
        // Entries for neighbours do not count as the first route; there are few of them.
        if first.is_none() && more > u64::from(routes) / 100 {
            first = Some(Instant::now());
        }
        if more + TOLERANCE >= routes.into() {
            return first.context("no time of the first route: all routes appeared at the same time");
        }
        ensure!(process.ended()?.is_none(), "the process has ended: {}", process.log());
        ensure!(Instant::now() < end, "{more} of {routes} routes after {TIMEOUT:?}: {}", process.log());
        thread::sleep(SAMPLE);
    }
}

/// The number of routes in the kernel: the fourth number of rt6_stats, which is cheap to read.
pub(in crate::bench) fn entries(host: &Host) -> anyhow::Result<u64> {
    let text = host.enter(|| fs::read_to_string("/proc/thread-self/net/rt6_stats"))??;
    let entries = text.split_whitespace().nth(3).context("rt6_stats")?;
    Ok(u64::from_str_radix(entries, 16)?)
}

pub(in crate::bench) fn daemon_measured(
    began: Instant,
    first: Instant,
    processes: &[&Process],
) -> anyhow::Result<Measured> {
    let (took, from_first) = (began.elapsed(), first.elapsed());
    let mut measured = Measured::default();
    let mut cpu = Duration::ZERO;
    for process in processes {
        cpu += idle::processor(process.pid())?;
        measured.peak += peak(process.pid())?;
    }
    measured.steps.insert("add".to_owned(), Step { took, cpu });
    measured.steps.insert("after the first route".to_owned(), Step { took: from_first, cpu });
    Ok(measured)
}

pub(in crate::bench) fn expect_routes(host: &Host, protocol: &str, routes: u32) -> anyhow::Result<()> {
    try_poll(Duration::from_secs(10), || {
        let count =
            host.check(&["sh", "-c", &format!("ip -6 route show proto {protocol} | grep -c :db9:")])?;
        ensure!(count.trim() == routes.to_string(), "{} of {routes} routes exist", count.trim());
        Ok(())
    })
}
