//! A cluster of Docker hosts: the agents keep a network in each engine, and containers come by `docker run`.

use anyhow::{Context, ensure};

use super::cluster::{Cluster, TIMEOUT};
use crate::{Docker, lab::poll::try_poll};

/// A container that waits. The image is made of busybox.
const RUN: [&str; 9] = ["run", "-d", "--name", "web", "--network", "sextant", "lab", "sleep", "100000"];

/// All steps.
pub(super) fn run_steps(cluster: &mut Cluster, hosts: u16) -> anyhow::Result<()> {
    cluster.make_hosts(hosts)?;
    start_engines(cluster)?;
    cluster.start_control_plane()?;
    cluster.start_agents()?;
    show_networks(cluster)?;
    let addresses = run_containers(cluster)?;
    show_pings(cluster, &addresses)?;
    show_names(cluster, &addresses)?;
    show_removed_network(cluster)
}

/// The agent's arguments where it keeps a network of this engine.
pub(super) fn agent_args(engine: &Docker) -> Vec<String> {
    let socket = engine.socket().display().to_string();
    ["--docker-mode", "network", "--docker-socket", &socket, "--bridge", "sextant0"]
        .map(str::to_owned)
        .to_vec()
}

fn start_engines(cluster: &mut Cluster) -> anyhow::Result<()> {
    cluster.terminal.step("A Docker engine on each host", "It needs no settings of its own.");
    for host in &cluster.hosts {
        cluster.terminal.progress(&format!("starting Docker on {}", host.name()));
        cluster.engines.push(Docker::start(host, &[])?);
    }
    cluster.terminal.clear_progress();
    let version = cluster.engines[0].run(&["version", "-f", "{{.Server.Version}}"])?;
    cluster.terminal.outcome(&format!("Docker {version} answers on {} hosts.", cluster.engines.len()));
    Ok(())
}

fn show_networks(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.terminal.step(
        "A network in each engine",
        "Each agent makes the network sextant with the container prefix of its host.",
    );
    let format = "{{.Name}}: {{range .IPAM.Config}}{{.Subnet}} {{end}}";
    for (host, engine) in cluster.hosts.iter().zip(&cluster.engines) {
        let prefix = cluster.prefix(host.name())?;
        let inspect = ["network", "inspect", "-f", format, "sextant"];
        let shown = try_poll(TIMEOUT, || {
            let shown = engine.run(&inspect)?;
            ensure!(shown.contains(&prefix.addr().to_string()), "{shown} is not in {prefix}");
            Ok(shown)
        })?;
        cluster.terminal.command(host.name(), &format!("docker network inspect -f '{format}' sextant"));
        cluster.terminal.text(&shown);
    }
    Ok(())
}

/// The addresses of the containers, in the order of the hosts.
fn run_containers(cluster: &Cluster) -> anyhow::Result<Vec<String>> {
    cluster.terminal.step("Containers by docker run", "Each gets an address of its host's prefix.");
    let mut addresses = Vec::new();
    for (host, engine) in cluster.hosts.iter().zip(&cluster.engines) {
        engine.run(&RUN)?;
        try_poll(TIMEOUT, || {
            let shown = engine.run(&["exec", "web", "ip", "-6", "address"])?;
            ensure!(!shown.contains("tentative"), "{shown}");
            Ok(())
        })?;
        let address = engine.address("web")?;
        cluster.terminal.command(host.name(), &format!("docker {}", RUN.join(" ")));
        cluster.terminal.text(&address);
        addresses.push(address);
    }
    Ok(addresses)
}

fn show_pings(cluster: &Cluster, addresses: &[String]) -> anyhow::Result<()> {
    cluster
        .terminal
        .step("Each container pings each other one", "No port is published, and no address is translated.");
    let mut answered = 0;
    for (index, engine) in cluster.engines.iter().enumerate() {
        for address in addresses.iter().enumerate().filter(|(other, _)| *other != index).map(|(_, it)| it) {
            let ping = ["exec", "web", "ping", "-c", "1", "-W", "2", address];
            let shown = try_poll(TIMEOUT, || engine.run(&ping))?;
            if answered == 0 {
                cluster.terminal.command(cluster.hosts[index].name(), &format!("docker {}", ping.join(" ")));
                cluster.terminal.text(shown.lines().find(|line| line.contains("seq=")).unwrap_or_default());
            }
            answered += 1;
        }
    }
    cluster.terminal.outcome(&format!("{answered} of {answered} pings answered."));
    Ok(())
}

fn show_names(cluster: &Cluster, addresses: &[String]) -> anyhow::Result<()> {
    cluster.terminal.step("Whose address is that?", "");
    let address = addresses.last().context("no container")?;
    cluster.sextant(&["explain", address])
}

fn show_removed_network(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.terminal.step("Somebody removes the network", "It is there again at once.");
    let (host, engine) = (&cluster.hosts[0], &cluster.engines[0]);
    for command in [&["rm", "-f", "web"][..], &["network", "rm", "sextant"]] {
        cluster.terminal.command(host.name(), &format!("docker {}", command.join(" ")));
        engine.run(command)?;
    }
    try_poll(TIMEOUT, || engine.run(&["network", "inspect", "sextant"]))?;
    engine.run(&RUN)?;
    let address = engine.address("web")?;
    cluster.terminal.command(host.name(), &format!("docker {}", RUN.join(" ")));
    cluster.terminal.text(&address);
    Ok(())
}
