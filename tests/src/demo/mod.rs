//! The demo: a cluster in a lab, shown step by step with the commands that an operator would type.
//!
//! | file | shows |
//! |---|---|
//! | `cluster` | hosts, agents, containers; the state that the steps share |
//! | `control_plane` | store, controllers, pool, join token |
//! | `access` | TLS, or plain text |
//! | `tour` | prefixes, routes, pings, and a host that joins |
//! | `docker` | the same with a Docker engine on each host |
//! | `ndp` | prefixes that nobody routes to the hosts |
//! | `failures` | a dead agent, a dead host, `node forget`, and the host's return |
//! | `terminal`, `matrix` | the output |
//! | `interrupt` | Ctrl-C |
//!
//! The demo checks each result that it shows: a failed ping ends it with an error and the last lines of all logs.

mod access;
mod cluster;
mod control_plane;
mod docker;
mod failures;
mod interrupt;
mod matrix;
mod ndp;
mod terminal;
mod tour;

use std::{process::ExitCode, time::Instant};

use clap::{Parser, ValueEnum};

pub(crate) use self::terminal::columns;
use self::{access::Access, cluster::Cluster, terminal::Terminal};
use crate::{Lab, StoreKind};

/// Shows Sextant at work: hosts on a switch claim prefixes, and their containers reach each other
#[derive(Debug, Clone, Parser)]
#[command(
    name = "deploy/demo",
    bin_name = "deploy/demo",
    after_help = "Examples:\n  sudo deploy/demo --hosts 5 --keep\n  sudo deploy/demo --store etcd\n  sudo deploy/demo --docker\n  sudo deploy/demo --topology ndp-proxy"
)]
pub struct Options {
    /// Number of hosts at the start; one more joins later
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(2..=50))]
    hosts: u16,
    /// Number of containers on each host
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=8))]
    containers: u8,
    /// The store: embedded has one controller, etcd three members and two controllers
    #[arg(long, value_name = "KIND", value_enum, default_value = "embedded")]
    store: StoreKind,
    /// With a Docker engine on each host, whose containers get addresses of the host's prefix
    #[arg(long)]
    docker: bool,
    /// How the hosts are connected; ndp-proxy: they have parts of the link's own prefix
    #[arg(long, value_name = "TOPOLOGY", value_enum, default_value = "switched", conflicts_with = "docker")]
    topology: Topology,
    /// Without TLS: plain text between all programs
    #[arg(long)]
    insecure: bool,
    /// Keep everything running at the end, and print commands to explore it
    #[arg(long)]
    keep: bool,
    /// Wait for Enter before each step
    #[arg(long)]
    step: bool,
    /// Remove a demo that was kept
    #[arg(long, value_name = "ID", exclusive = true)]
    end: Option<String>,
}

/// A topology that the demo shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Topology {
    Switched,
    NdpProxy,
}

/// Runs the demo, or removes a kept one. The exit code is 1 if a check fails.
pub fn main(options: &Options) -> ExitCode {
    let done = match &options.end {
        Some(id) => crate::remove(id).map(|()| println!("Demo {id} is removed.")),
        None => run(options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            interrupt::wait_for_signal();
            eprintln!("\nThe demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> anyhow::Result<()> {
    let began = Instant::now();
    let terminal = Terminal::new(options.step);
    let lab = Lab::new("demo")?;
    interrupt::on_signal(lab.id())?;
    introduce(&terminal, &lab, options);
    let mut cluster = Cluster::new(lab, terminal, options)?;
    let result = match options.topology {
        _ if options.docker => docker::run_steps(&mut cluster, options.hosts),
        Topology::Switched => run_steps(&mut cluster, options.hosts),
        Topology::NdpProxy => ndp::run_steps(&mut cluster, options.hosts),
    };
    if result.is_err() {
        interrupt::wait_for_signal();
        eprintln!("\n{}", cluster.lab.diagnostics());
    } else {
        println!();
        let took = began.elapsed().as_secs_f64();
        cluster.terminal.outcome(&format!("All checks passed in {took:.1} s."));
    }
    let Cluster { agents, engines, controllers, etcd, lab, terminal, access, .. } = cluster;
    if options.keep {
        print_kept(&terminal, lab, &access)?;
    } else {
        drop((agents, engines, controllers, etcd, lab));
        println!("\nThe demo's network namespaces, processes and files are removed.");
    }
    result
}

fn introduce(terminal: &Terminal, lab: &Lab, options: &Options) {
    let (hosts, containers) = (options.hosts, options.containers);
    terminal.title(
        "Sextant: an IPv6 prefix for each host, and plain routes between all containers",
        &format!(
            "{hosts} hosts with {containers} containers each, in network namespaces named sx{}-…. The demo changes nothing \
             else on this machine.",
            lab.id()
        ),
    );
    if options.step {
        println!("Press Enter for each step. Ctrl-C ends the demo and removes everything.");
    }
}

fn run_steps(cluster: &mut Cluster, hosts: u16) -> anyhow::Result<()> {
    cluster.build(hosts)?;
    cluster.show_nodes()?;
    cluster.show_routes()?;
    cluster.show_pings()?;
    cluster.show_join()?;
    cluster.show_dead_agent()?;
    cluster.show_dead_host()?;
    cluster.show_forget()?;
    cluster.show_return()
}

fn print_kept(terminal: &Terminal, lab: Lab, access: &Access) -> anyhow::Result<()> {
    let dir = lab.dir().display().to_string();
    let bin = crate::bin("sextant")?.display().to_string();
    let id = lab.keep()?;
    let inside = |namespace: &str| format!("sudo nsenter --net=/run/netns/sx{id}-{namespace}");
    let sextant = format!("{} {bin} --controller {} {}", inside("sw"), access.url(1), access.person_args());
    terminal.step("The demo keeps running", "Commands to explore it:");
    terminal.text("List the namespaces of the switch, the hosts and the containers:");
    terminal.command("", &format!("ip netns list | grep sx{id}"));
    terminal.text("Run a command in a namespace: show the routes of h1, ping from a container of h1:");
    terminal.command("", &format!("{} ip -6 route show proto 66", inside("h1")));
    terminal.command("", &format!("{} ping 2001:db8::1", inside("h1-a")));
    terminal.text("Ask the controller:");
    terminal.command("", &format!("{sextant} node list"));
    terminal.text("List the logs, the store and the agents' state directories:");
    terminal.command("", &format!("ls {dir}"));
    terminal.text("Remove the demo:");
    terminal.command("", &format!("sudo deploy/demo --end {id}"));
    Ok(())
}
