//! Prefixes inside of the link's own, which nobody routes to the hosts: they answer neighbour solicitations for their containers.

use anyhow::{Context, ensure};

use super::cluster::{Cluster, TIMEOUT};
use crate::{Container, lab::poll::try_poll};

/// The pool of Docker's guide, for more hosts.
pub(super) const POOL: [&str; 8] =
    ["pool", "add", "main", "2001:db8::c000/116", "--host-len", "125", "--container-len", "125"];

/// All steps.
pub(super) fn run_steps(cluster: &mut Cluster, hosts: u16) -> anyhow::Result<()> {
    cluster.build(hosts)?;
    cluster.show_nodes()?;
    show_router(cluster)?;
    show_entries(cluster)?;
    cluster.show_pings()?;
    show_dead_agent(cluster)?;
    show_end(cluster)
}

/// The router of the link reaches the containers, and has no route to them.
fn show_router(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.terminal.step(
        "The router knows only the link",
        "It solicits each address on the link, and the host of the container answers.",
    );
    let router = cluster.router.as_ref().context("there is no router")?;
    let routes = router.ip("-6 route show 2001:db8::/64")?;
    cluster.terminal.command("router", "ip -6 route show 2001:db8::/64");
    cluster.terminal.text(routes.trim_end());
    for container in &cluster.containers {
        reached(cluster, container)?;
    }
    let count = cluster.containers.len();
    cluster.terminal.outcome(&format!("{count} of {count} containers answer the router."));
    Ok(())
}

fn reached(cluster: &Cluster, container: &Container) -> anyhow::Result<()> {
    let router = cluster.router.as_ref().context("there is no router")?;
    try_poll(TIMEOUT, || router.ping(container.address())?.replied())
        .with_context(|| format!("the router does not reach {}", container.name()))
}

fn show_entries(cluster: &Cluster) -> anyhow::Result<()> {
    cluster
        .terminal
        .step("What is answered for", "The addresses of containers and of the bridge, and no others:");
    let (host, container) = (&cluster.hosts[0], cluster.container_of(0)?.address().to_string());
    let shown = try_poll(TIMEOUT, || {
        let shown = host.ip("-6 neighbour show proxy dev eth0")?;
        ensure!(shown.contains(&container), "no entry for {container}: {shown}");
        Ok(shown)
    })?;
    cluster.terminal.command(host.name(), "ip -6 neighbour show proxy dev eth0");
    cluster.terminal.text(shown.trim_end());
    Ok(())
}

fn show_dead_agent(cluster: &Cluster) -> anyhow::Result<()> {
    let host = &cluster.hosts[0];
    cluster.terminal.step(
        &format!("The agent of {} is killed", host.name()),
        "The kernel goes on answering for the containers.",
    );
    cluster.terminal.command(host.name(), "kill -9 $(pidof sextant-agent)");
    cluster.agents[0].process.kill()?;
    let router = cluster.router.as_ref().context("there is no router")?;
    router.ip("-6 neighbour flush all")?;
    reached(cluster, cluster.container_of(0)?)?;
    cluster.terminal.outcome("The router, which has forgotten its neighbours, reaches the container.");
    Ok(())
}

/// A container ends.
fn show_end(cluster: &mut Cluster) -> anyhow::Result<()> {
    let last = cluster.hosts.len() - 1;
    let (host, container) = (cluster.hosts[last].clone(), cluster.container_of(last)?.clone());
    cluster.terminal.step(&format!("{} ends", container.name()), "Nobody answers for its address any more.");
    cluster.terminal.command(container.name(), "ip link delete eth0");
    container.ip("link delete eth0")?;
    let address = container.address().to_string();
    try_poll(TIMEOUT, || {
        let shown = host.ip("-6 neighbour show proxy dev eth0")?;
        ensure!(!shown.contains(&address), "{shown}");
        Ok(())
    })?;
    cluster.terminal.outcome(&format!("{} has no entry for {address}.", host.name()));
    Ok(())
}
