//! Failures of an agent and of a host. These steps show the behaviour of this version; they check only the guarantees that
//! hold in every version.

use std::time::Instant;

use anyhow::{Context, ensure};
use sextant_proto::Prefix;

use super::{
    cluster::{Cluster, STREAM_TIMEOUT, TIMEOUT},
    tour::plain,
};
use crate::{Container, Host, MILLISECONDS, RouteMonitor, SECONDS, lab::poll::try_poll};

/// The index of the host that fails: h2.
const VICTIM: usize = 1;
/// How long the demo waits for the peers to refuse packets to a dead host.
const DEAD_HOST_TIMEOUT: std::time::Duration = SECONDS.saturating_mul(25);

impl Cluster {
    /// Kills an agent: its host continues to forward.
    pub(super) fn show_dead_agent(&self) -> anyhow::Result<()> {
        let name = self.hosts[VICTIM].name();
        self.terminal.step(
            &format!("The agent of {name} is killed"),
            "The agent is not in the data path: the routes stay in the kernels, and traffic continues.",
        );
        let (near, far) = (self.container_of(0)?, self.container_of(VICTIM)?);
        let (monitors, began) = (self.watch_peers(VICTIM)?, Instant::now());
        let stream = near.udp_stream(far, 5 * MILLISECONDS)?;
        stream.flows(40, STREAM_TIMEOUT)?;
        self.terminal.command(name, "kill -9 $(pidof sextant-agent)");
        self.agents[VICTIM].process.kill()?;
        self.wait_down(name)?;
        stream.flows(100, STREAM_TIMEOUT)?;
        let (report, took) = (stream.finish()?, began.elapsed().as_secs_f64());
        self.sextant(&["node", "list"])?;
        let (from, to, lost) = (near.name(), far.name(), report.lost.len());
        let text = format!(
            "{from} ⇄ {to}, one datagram every {:?} for {took:.1} s: {} sent, {} returned, {lost} lost",
            report.interval, report.sent, report.received
        );
        self.terminal.outcome(&text);
        report.nothing_lost()?;
        show_changes(self, &monitors)?;
        monitors.iter().try_for_each(|(_, monitor)| monitor.quiet_since(0))
    }

    /// Switches a host off without notice.
    pub(super) fn show_dead_host(&mut self) -> anyhow::Result<()> {
        let victim = self.hosts[VICTIM].clone();
        self.terminal.step(
            &format!("{} loses power", victim.name()),
            "The controller cannot tell a dead host from a dead agent, so the peers probe the host.\n\
             If it does not answer for some seconds, they refuse packets to its prefix.",
        );
        let (near, far) = (self.container_of(0)?.clone(), self.container_of(VICTIM)?.clone());
        let (prefix, monitors) = (self.prefix(victim.name())?, self.watch_peers(VICTIM)?);
        victim.power_off()?;
        self.ping_until_refused(&near, &far, prefix)?;
        show_changes(self, &monitors)?;
        let observer = &self.hosts[0];
        self.terminal.command(observer.name(), &format!("ip -6 route show {prefix}"));
        self.terminal.text(&plain(&observer.ip(&format!("-6 route show {prefix}"))?));
        self.sextant(&["status"])?;
        drop(monitors);
        let gone = format!("{}/", victim.name());
        self.containers.retain(|container| !container.name().starts_with(&gone));
        Ok(())
    }

    /// Pings until the first host refuses `prefix`, or for [`DEAD_HOST_TIMEOUT`], and shows each new outcome.
    fn ping_until_refused(&self, near: &Container, far: &Container, prefix: Prefix) -> anyhow::Result<()> {
        let (began, mut last) = (Instant::now(), String::new());
        while began.elapsed() < DEAD_HOST_TIMEOUT {
            self.terminal.progress(&format!("{} pings {}", near.name(), far.name()));
            let outcome = near.ping(far.address())?;
            self.terminal.clear_progress();
            if outcome.to_string() != last {
                last = outcome.to_string();
                let after = began.elapsed().as_secs_f64();
                self.terminal.text(&format!("after {after:.1} s  {} → {}: {last}", near.name(), far.name()));
            }
            let route = self.hosts[0].ip(&format!("-6 route show {prefix}"))?;
            if outcome.refused().is_ok() && route.starts_with("unreachable") {
                break;
            }
        }
        Ok(())
    }

    /// Removes the dead host's node, as an operator does.
    pub(super) fn show_forget(&self) -> anyhow::Result<()> {
        let name = self.hosts[VICTIM].name();
        self.terminal.step(
            &format!("{name} is forgotten"),
            "The operator removes the node, which ends its claim. The peers delete the route.\n\
             They refuse packets to the prefix with ICMPv6 destination unreachable.",
        );
        let router = self.router.as_ref().context("there is no router")?;
        let (prefix, monitors) = (self.prefix(name)?, self.watch_peers(VICTIM)?);
        let target = prefix.first_host();
        self.wait_down(name)?;
        self.sextant(&["node", "forget", name])?;
        for (_, monitor) in &monitors {
            monitor.removed(prefix, TIMEOUT)?;
        }
        self.terminal.outcome(&format!("all {} peers have deleted the route to {prefix}", monitors.len()));
        let (near, before) = (self.container_of(0)?, leaked(router)?);
        let outcome = near.ping(target)?;
        let leaked = leaked(router)? - before;
        self.terminal.text(&format!("{} → {target}: {outcome}", near.name()));
        self.terminal.text(&format!("packets that followed the default route: {leaked}"));
        outcome.refused().with_context(|| format!("{} → {target}", near.name()))?;
        ensure!(leaked == 0, "{leaked} packets followed the default route to the router");
        Ok(())
    }

    /// Switches the host on again.
    pub(super) fn show_return(&mut self) -> anyhow::Result<()> {
        let victim = self.hosts[VICTIM].clone();
        self.terminal.step(
            &format!("{} returns", victim.name()),
            "Its claim has ended, so its agent claims a prefix again. It gets the same prefix if that is still free.",
        );
        victim.power_on()?;
        let router = self.router.as_ref().context("there is no router")?;
        victim.default_route_via(router.address())?;
        self.start_agent(VICTIM)?;
        self.wait_ready()?;
        self.wait_settled()?;
        // A peer may still be waiting for an answer to its last neighbour solicitation of the dead host.
        for peer in self.hosts.iter().filter(|host| host.name() != victim.name()) {
            try_poll(TIMEOUT, || peer.ping(victim.address())?.replied())?;
        }
        self.add_containers(VICTIM)?;
        self.sextant(&["node", "list"])?;
        self.containers.sort_by(|one, other| one.name().cmp(other.name()));
        self.ping_all()
    }
}

/// Shows the route changes in the peers' kernels so far.
fn show_changes(cluster: &Cluster, monitors: &[(&Host, RouteMonitor)]) -> anyhow::Result<()> {
    let mut changes = Vec::new();
    for (host, monitor) in monitors {
        let signed = |event: &crate::RouteEvent| {
            format!("{} {} {}", host.name(), if event.gone { '-' } else { '+' }, event.route)
        };
        changes.extend(monitor.events()?.iter().map(signed));
    }
    match changes.len() {
        0 => cluster.terminal.outcome(&format!("route changes on the {} peers: none", monitors.len())),
        _ => cluster.terminal.text(&format!("route changes on the peers:\n{}", changes.join("\n"))),
    }
    Ok(())
}

/// How many packets the router had no route for, or forwarded.
fn leaked(router: &Host) -> anyhow::Result<u64> {
    let counters = router.counters()?;
    Ok(["Ip6InNoRoutes", "Ip6OutNoRoutes", "Ip6OutForwDatagrams"].iter().map(|name| counters.of(name)).sum())
}
