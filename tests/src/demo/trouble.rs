//! What happens when something dies. These steps show what this version does; they require only what every version must do.

use std::time::Instant;

use anyhow::{Context, ensure};
use sextant_proto::Prefix;

use super::{
    cluster::{Cluster, FLOW, PATIENCE},
    tour::plain,
};
use crate::{Container, Host, MILLISECONDS, RouteMonitor, SECONDS, lab::poll::try_poll};

/// Who has the trouble: h2.
const VICTIM: usize = 1;
/// For how long the peers of a dark host are looked at.
const LOOK: std::time::Duration = SECONDS.saturating_mul(25);

impl Cluster {
    /// An agent is killed: its host goes on forwarding.
    pub(super) fn show_dead_agent(&self) -> anyhow::Result<()> {
        let name = self.hosts[VICTIM].name();
        self.show.step(
            &format!("The agent of {name} is killed"),
            "The agent is not in the way of the data: routes stay, and traffic goes on.",
        );
        let (near, far) = (self.container_of(0)?, self.container_of(VICTIM)?);
        let (monitors, began) = (self.watch_peers(VICTIM)?, Instant::now());
        let stream = near.udp_stream(far, 5 * MILLISECONDS)?;
        stream.flows(40, FLOW)?;
        self.show.command(name, "kill -9 $(pidof sextant-agent)");
        self.agents[VICTIM].process.kill()?;
        self.wait_down(name)?;
        stream.flows(100, FLOW)?;
        let (report, took) = (stream.finish()?, began.elapsed().as_secs_f64());
        self.sextant(&["node", "list"])?;
        let (from, to, lost) = (near.name(), far.name(), report.lost.len());
        let text = format!(
            "{from} ⇄ {to}, a datagram every {:?} for {took:.1} s: {} sent, {} back, {lost} lost",
            report.interval, report.sent, report.received
        );
        self.show.outcome(&text);
        report.nothing_lost()?;
        show_changes(self, &monitors)?;
        monitors.iter().try_for_each(|(_, monitor)| monitor.quiet_since(0))
    }

    /// The host itself goes dark.
    pub(super) fn show_dead_host(&mut self) -> anyhow::Result<()> {
        let victim = self.hosts[VICTIM].clone();
        self.show.step(
            &format!("{} loses its power", victim.name()),
            "No controller can tell whether the host is dead too. Its peers ask it, some seconds long. What they do:",
        );
        let (near, far) = (self.container_of(0)?.clone(), self.container_of(VICTIM)?.clone());
        let (prefix, monitors) = (self.prefix(victim.name())?, self.watch_peers(VICTIM)?);
        victim.power_off()?;
        self.ping_for_a_while(&near, &far, prefix)?;
        show_changes(self, &monitors)?;
        let observer = &self.hosts[0];
        self.show.command(observer.name(), &format!("ip -6 route show {prefix}"));
        self.show.text(&plain(&observer.ip(&format!("-6 route show {prefix}"))?));
        self.sextant(&["status"])?;
        drop(monitors);
        let gone = format!("{}/", victim.name());
        self.containers.retain(|container| !container.name().starts_with(&gone));
        Ok(())
    }

    /// Pings until the first host refuses `prefix` or [`LOOK`] is over, and shows each new outcome.
    fn ping_for_a_while(&self, near: &Container, far: &Container, prefix: Prefix) -> anyhow::Result<()> {
        let (began, mut last) = (Instant::now(), String::new());
        while began.elapsed() < LOOK {
            self.show.waiting(&format!("{} pings {}", near.name(), far.name()));
            let outcome = near.ping(far.address())?;
            self.show.waited();
            if outcome.to_string() != last {
                last = outcome.to_string();
                let after = began.elapsed().as_secs_f64();
                self.show.text(&format!("after {after:.1} s  {} → {}: {last}", near.name(), far.name()));
            }
            let route = self.hosts[0].ip(&format!("-6 route show {prefix}"))?;
            if outcome.refused().is_ok() && route.starts_with("unreachable") {
                break;
            }
        }
        Ok(())
    }

    /// Somebody who knows that the host is gone says so.
    pub(super) fn show_forget(&self) -> anyhow::Result<()> {
        let name = self.hosts[VICTIM].name();
        self.show.step(
            &format!("{name} is forgotten"),
            "The operator ends its claim: the peers withdraw, and what is sent there is refused with an ICMPv6 unreachable.",
        );
        let router = self.router.as_ref().context("there is no router")?;
        let (prefix, monitors) = (self.prefix(name)?, self.watch_peers(VICTIM)?);
        let target = prefix.first_host();
        self.wait_down(name)?;
        self.sextant(&["node", "forget", name])?;
        for (_, monitor) in &monitors {
            monitor.removed(prefix, PATIENCE)?;
        }
        self.show.outcome(&format!(
            "the route to {prefix} is gone from the kernels of all {} peers",
            monitors.len()
        ));
        let (near, before) = (self.container_of(0)?, leaked(router)?);
        let outcome = near.ping(target)?;
        let leaked = leaked(router)? - before;
        self.show.text(&format!("{} → {target}: {outcome}", near.name()));
        self.show.text(&format!("packets that leaked to the default route: {leaked}"));
        outcome.refused().with_context(|| format!("{} → {target}", near.name()))?;
        ensure!(leaked == 0, "{leaked} packets leaked to the router");
        Ok(())
    }

    /// The host is switched on again.
    pub(super) fn show_return(&mut self) -> anyhow::Result<()> {
        let victim = self.hosts[VICTIM].clone();
        self.show.step(
            &format!("{} is back", victim.name()),
            "Its claim has ended, so its agent claims anew; it gets the same prefix if nobody else has it.",
        );
        victim.power_on()?;
        let router = self.router.as_ref().context("there is no router")?;
        victim.default_route_via(router.address())?;
        self.start_agent(VICTIM)?;
        self.wait_ready()?;
        self.wait_settled()?;
        // A peer that was just asking for the dead host's link-layer address gives up on that first.
        for peer in self.hosts.iter().filter(|host| host.name() != victim.name()) {
            try_poll(PATIENCE, || peer.ping(victim.address())?.replied())?;
        }
        self.add_containers(VICTIM)?;
        self.sextant(&["node", "list"])?;
        self.containers.sort_by(|one, other| one.name().cmp(other.name()));
        self.ping_all()
    }
}

/// What the peers' kernels did so far.
fn show_changes(cluster: &Cluster, monitors: &[(&Host, RouteMonitor)]) -> anyhow::Result<()> {
    let mut changes = Vec::new();
    for (host, monitor) in monitors {
        let signed = |event: &crate::RouteEvent| {
            format!("{} {} {}", host.name(), if event.gone { '-' } else { '+' }, event.route)
        };
        changes.extend(monitor.events()?.iter().map(signed));
    }
    match changes.len() {
        0 => cluster.show.outcome(&format!("routes that changed at the {} peers: none", monitors.len())),
        _ => cluster.show.text(&format!("routes that changed at the peers:\n{}", changes.join("\n"))),
    }
    Ok(())
}

/// How many packets the router was asked to forward to where it has no route.
fn leaked(router: &Host) -> anyhow::Result<u64> {
    let counters = router.counters()?;
    Ok(["Ip6InNoRoutes", "Ip6OutNoRoutes", "Ip6OutForwDatagrams"].iter().map(|name| counters.of(name)).sum())
}
