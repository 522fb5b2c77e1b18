//! Answers to neighbour solicitations: of the agent, of the kernel's proxy, and of ndppd. Somebody on the link asks, one after
//! another for the latency, and many at once for the rate.

use std::{
    fs,
    net::Ipv6Addr,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use clap::Parser;
use sextant_proto::Prefix;

use super::numbers::{Times, Usage};
use crate::{
    Agent, AgentOptions, Asker, BRIDGE, Controller, ControllerOptions, Host, Lab, Process, SECONDS,
    Solicitation, catalogue, demo::columns, lab::poll::try_poll,
};

const TIMEOUT: Duration = Duration::from_secs(20);
/// The pool, and the container prefix of its first host.
const POOL: [&str; 5] = ["2001:db8:0:0:8000::/65", "--host-len", "66", "--container-len", "80"];
const PREFIX: &str = "2001:db8:0:0:8000::/80";
/// Neighbours that ask: one alone is answered a limited number of times.
const NEIGHBOURS: u16 = 256;
/// Addresses that are asked for.
const TARGETS: u16 = 64;
/// Solicitations without an answer so far.
const AT_ONCE: usize = 64;
/// A solicitation that was not answered until then is lost.
const LOST: Duration = Duration::from_millis(200);

#[derive(Debug, Parser)]
#[command(name = "tests/bench ndp")]
struct Options {
    /// Number of solicitations one after another
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    rounds: u32,
    /// Duration of many at once, in seconds
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
}

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    /// The reference: an entry for each address.
    Kernel,
    /// An agent, for containers.
    InUse,
    /// An agent that answers for all addresses.
    All,
    /// ndppd, for all addresses.
    Static,
    /// ndppd, for what answers on the bridge.
    Asked,
}

const ALL: [Who; 5] = [Who::Kernel, Who::InUse, Who::All, Who::Static, Who::Asked];

/// One of them, at work.
struct Bed {
    // They end before their lab does.
    agent: Option<(Agent, Controller)>,
    ndppd: Option<Process>,
    asker: Asker,
    targets: Vec<Ipv6Addr>,
    _lab: Lab,
}

/// What was measured.
struct Measured {
    times: Times,
    /// Per second.
    rate: f64,
    /// Of the program, per answer.
    processor: Option<Duration>,
}

/// Runs it.
///
/// # Errors
/// If the lab fails.
pub fn run() -> anyhow::Result<()> {
    let program = std::iter::once("tests/bench ndp".to_owned());
    let options = Options::parse_from(program.chain(catalogue::options()));
    let mut all = Vec::new();
    for who in ALL {
        let bed = Bed::start(who).with_context(|| who.name())?;
        all.push((who, bed.measure(&options).with_context(|| who.name())?));
    }
    let build = if cfg!(debug_assertions) { "debug build" } else { "release build" };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("tests/bench ndp   ({cores} cores, {build})\n");
    println!("{}", columns(&rows(&all), |column| column > 0));
    println!("\nCPU is that of the program; the kernel's own work is in none of these figures.");
    Ok(())
}

fn rows(all: &[(Who, Measured)]) -> Vec<Vec<String>> {
    let head =
        ["", "answers a second", "of the kernel's", "median", "p99", "of the kernel's", "CPU per answer"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let reference = &all[0].1;
    for (who, it) in all {
        let (median, p99) = (it.times.percentile(50), it.times.percentile(99));
        let processor = it.processor.map_or_else(|| "none".to_owned(), micros);
        rows.push(vec![
            who.name().to_owned(),
            format!("{:.0}", it.rate),
            format!("{:.2}", it.rate / reference.rate),
            micros(median),
            micros(p99),
            format!("{:.2}", p99.as_secs_f64() / reference.times.percentile(99).as_secs_f64()),
            processor,
        ]);
    }
    rows
}

fn micros(time: Duration) -> String {
    format!("{:.0} µs", time.as_secs_f64() * 1e6)
}

impl Who {
    fn name(self) -> &'static str {
        match self {
            Self::Kernel => "the kernel, by entries",
            Self::InUse => "agent, addresses in use",
            Self::All => "agent, answer = all",
            Self::Static => "ndppd, static",
            Self::Asked => "ndppd, iface",
        }
    }

    fn is_agent(self) -> bool {
        matches!(self, Self::InUse | Self::All)
    }
}

impl Bed {
    fn start(who: Who) -> anyhow::Result<Self> {
        let prefix: Prefix = PREFIX.parse()?;
        let lab = Lab::new("bench ndp")?;
        let host = lab.hosts(1)?.remove(0);
        let router = lab.router()?;
        let agent = who.is_agent().then(|| agent(&lab, &host, who)).transpose()?;
        if agent.is_none() {
            host.make_bridge(prefix)?;
        }
        // One container has all of the addresses.
        let container = host.container("c")?;
        let first = container.address().to_bits() + 0x100;
        let targets: Vec<_> =
            (0..TARGETS).map(|number| Ipv6Addr::from_bits(first + u128::from(number))).collect();
        if matches!(who, Who::InUse | Who::Asked) {
            let add = |target| format!("address add {target}/80 dev eth0 nodad\n");
            container.ip_batch(&targets.iter().map(add).collect::<String>())?;
        }
        if who == Who::Kernel {
            for (key, value) in
                [("conf/all/proxy_ndp", "1"), ("conf/eth0/proxy_ndp", "1"), ("neigh/eth0/proxy_delay", "0")]
            {
                host.sysctl(&format!("net/ipv6/{key}"), value)?;
            }
            let add = |target| format!("neighbour add proxy {target} dev eth0\n");
            host.ip_batch(&targets.iter().map(add).collect::<String>())?;
        }
        let ndppd = match who {
            Who::Static => Some(ndppd(&host, prefix, "static")?),
            Who::Asked => Some(ndppd(&host, prefix, &format!("iface {BRIDGE}"))?),
            _ => None,
        };
        let add = |number| format!("address add {}/64 dev eth0 nodad\n", neighbour(number));
        router.ip_batch(&(0..NEIGHBOURS).map(add).collect::<String>())?;
        let asker = router.asker("eth0", router.address())?;
        let bed = Self { agent, ndppd, asker, targets, _lab: lab };
        for target in &bed.targets {
            let ask = bed.asker.solicitation(*target);
            try_poll(TIMEOUT, || bed.asker.ask(&ask, SECONDS))?;
        }
        // Each neighbour is known.
        for number in 0..u32::from(NEIGHBOURS) {
            try_poll(TIMEOUT, || bed.asker.ask(&bed.nth(number), SECONDS))?;
        }
        Ok(bed)
    }

    fn measure(&self, options: &Options) -> anyhow::Result<Measured> {
        let mut times = Times::default();
        for number in 0..options.rounds {
            times.push(self.asker.ask(&self.nth(number), TIMEOUT)?.1);
        }
        let (before, began) = (self.processor()?, Instant::now());
        let answers = self.many(Duration::from_secs(options.seconds))?;
        let took = began.elapsed().as_secs_f64();
        ensure!(answers > 0, "nothing was answered");
        let used = before.zip(self.processor()?).map(|(before, after)| after.saturating_sub(before));
        Ok(Measured { times, rate: f64::from(answers) / took, processor: used.map(|used| used / answers) })
    }

    /// Of the program so far.
    fn processor(&self) -> anyhow::Result<Option<Duration>> {
        let process = self.agent.as_ref().map(|(agent, _)| &agent.process).or(self.ndppd.as_ref());
        process.map(|process| Ok(Usage::of(process.pid())?.cpu)).transpose()
    }

    /// A solicitation of one of the neighbours for one of the addresses.
    fn nth(&self, number: u32) -> Solicitation {
        let target = self.targets[number as usize % self.targets.len()];
        let number = (number % u32::from(NEIGHBOURS)) as u16;
        let [high, low] = number.to_be_bytes();
        Solicitation::new([2, 0x55, 0, 0, high, low], neighbour(number), target)
    }

    /// The number of answers within this time, with a number of solicitations on their way at all times.
    fn many(&self, during: Duration) -> anyhow::Result<u32> {
        let frames: Vec<_> = (0..u32::from(NEIGHBOURS)).map(|number| self.nth(number).octets()).collect();
        let mut next = frames.iter().cycle();
        let mut send = |count: usize| -> anyhow::Result<()> {
            next.by_ref().take(count).try_for_each(|frame| Ok(self.asker.send(frame)?))
        };
        self.asker.forget()?;
        let (end, mut answers) = (Instant::now() + during, 0);
        send(AT_ONCE)?;
        while Instant::now() < end {
            match self.asker.next(Instant::now() + LOST)? {
                Some(answer) if answer.solicited => {
                    answers += 1;
                    send(1)?;
                }
                Some(_) => {}
                None => send(AT_ONCE)?,
            }
        }
        Ok(answers)
    }
}

/// The address of one of the neighbours.
fn neighbour(number: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0x5500, number)
}

fn agent(lab: &Lab, host: &Host, who: Who) -> anyhow::Result<(Agent, Controller)> {
    let controller = lab.controller(ControllerOptions { log: "info".into(), ..Default::default() })?;
    controller.wait_ready(TIMEOUT)?;
    lab.cli(&[&["pool", "add", "main"][..], &POOL].concat())?.succeeded()?;
    let answer = if who == Who::All { "all" } else { "live" };
    let args = ["--topology", "ndp-proxy", "--ndp-answer", answer].map(str::to_owned).to_vec();
    let agent = lab.agent(host, AgentOptions { args, log: "info".into(), ..AgentOptions::default() })?;
    agent.wait_ready(TIMEOUT)?;
    Ok((agent, controller))
}

fn ndppd(host: &Host, prefix: Prefix, how: &str) -> anyhow::Result<Process> {
    let config = host.dir().join("ndppd.conf");
    fs::write(&config, format!("proxy eth0 {{\n rule {prefix} {{ {how} }}\n}}\n"))?;
    host.spawn("ndppd", &["ndppd", "-c", &config.display().to_string()]).context("install ndppd")
}
