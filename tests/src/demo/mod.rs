//! The demo: a cluster in a lab, shown step by step with the commands that a user would type.
//!
//! | file | shows |
//! |---|---|
//! | `cluster` | hosts, controller, pool, agents; the state that the steps share |
//! | `tour` | prefixes, routes, pings, and a host that joins |
//! | `trouble` | a dead agent, a dead host, `forget`, and the host's return |
//! | `show`, `matrix` | how it looks |
//! | `stop` | Ctrl-C |
//!
//! What it shows is checked too: a ping that fails ends it with an error and the ends of all logs.

mod cluster;
mod matrix;
mod show;
mod stop;
mod tour;
mod trouble;

use std::{process::ExitCode, time::Instant};

use clap::Parser;

pub(crate) use self::show::columns;
use self::{cluster::Cluster, show::Show};
use crate::{Lab, StoreKind, lab::daemons::controller_url};

/// Shows Sextant at work: hosts on a switch claim prefixes, and their containers reach each other.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "deploy/demo",
    after_help = "Examples:\n  sudo deploy/demo --hosts 5 --keep\n  sudo deploy/demo --store etcd"
)]
pub struct Options {
    /// How many hosts to begin with
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(2..=50))]
    hosts: u16,
    /// How many containers each host has
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=8))]
    containers: u8,
    /// Where the controllers keep who holds what; with etcd there are two controllers
    #[arg(long, value_name = "KIND", value_enum, default_value = "embedded")]
    store: StoreKind,
    /// Leave everything running, and say how to look around
    #[arg(long)]
    keep: bool,
    /// Wait for Enter before each step
    #[arg(long)]
    step: bool,
    /// End a demo that was kept
    #[arg(long, value_name = "ID", exclusive = true)]
    end: Option<String>,
}

/// Runs the demo, or ends a kept one; the exit code is 1 if something is not as it should be.
pub fn main(options: &Options) -> ExitCode {
    let done = match &options.end {
        Some(id) => crate::remove(id).map(|()| println!("Demo {id} is gone.")),
        None => run(options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            stop::give_way();
            eprintln!("\nThe demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> anyhow::Result<()> {
    let began = Instant::now();
    let show = Show::new(options.step);
    let lab = Lab::new("demo")?;
    stop::on_signal(lab.id())?;
    introduce(&show, &lab, options);
    let mut cluster = Cluster::new(lab, show, options);
    let shown = play(&mut cluster, options.hosts);
    if shown.is_err() {
        stop::give_way();
        eprintln!("\n{}", cluster.lab.explain());
    } else {
        println!();
        let took = began.elapsed().as_secs_f64();
        cluster.show.outcome(&format!("Everything was as it should be; {took:.1} s."));
    }
    let Cluster { agents, controllers, etcd, lab, show, .. } = cluster;
    if options.keep {
        say_how_to_look_around(&show, lab)?;
    } else {
        drop((agents, controllers, etcd, lab));
        println!("\nThe demo's namespaces, processes and files are gone.");
    }
    shown
}

fn introduce(show: &Show, lab: &Lab, options: &Options) {
    let (hosts, containers) = (options.hosts, options.containers);
    show.title(
        "Sextant: every host its own IPv6 prefix, every container reachable from every other",
        &format!(
            "{hosts} hosts with {containers} containers each, made of network namespaces named sx{}-…; nothing else of this \
             machine is touched.",
            lab.id()
        ),
    );
    if options.step {
        println!("Each step waits for Enter; Ctrl-C ends the demo and takes everything down.");
    }
}

fn play(cluster: &mut Cluster, hosts: u16) -> anyhow::Result<()> {
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

fn say_how_to_look_around(show: &Show, lab: Lab) -> anyhow::Result<()> {
    let dir = lab.dir().display().to_string();
    let bin = crate::bin("sextant")?.display().to_string();
    let id = lab.keep()?;
    let inside = |namespace: &str| format!("sudo nsenter --net=/run/netns/sx{id}-{namespace}");
    let sextant = format!("{} {bin} --controller {} --insecure", inside("sw"), controller_url(1));
    show.step("It goes on running", "Look around:");
    show.text("The namespaces of the switch, the hosts and their containers:");
    show.command("", &format!("ip netns list | grep sx{id}"));
    show.text("Inside one, e.g. the routes of h1, and a ping from a container:");
    show.command("", &format!("{} ip -6 route show proto 66", inside("h1")));
    show.command("", &format!("{} ping 2001:db8::1", inside("h1-a")));
    show.text("The command line:");
    show.command("", &format!("{sextant} node list"));
    show.text("The logs, the store and the agents' state:");
    show.command("", &format!("ls {dir}"));
    show.text("The end:");
    show.command("", &format!("sudo deploy/demo --end {id}"));
    Ok(())
}
