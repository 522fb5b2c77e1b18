//! A healthy cluster: prefixes, routes, pings, and one more host.

use std::time::Duration;

use anyhow::{Context, bail};
use sextant_proto::ROUTE_PROTOCOL;

use super::{
    cluster::{Cluster, TIMEOUT},
    columns,
    matrix::Matrix,
};
use crate::{Agent, Host, RouteMonitor, lab::poll::try_poll};

/// About how many routes are shown in all.
const MAX_ROUTES: usize = 30;

impl Cluster {
    /// Shows the hosts and their prefixes.
    pub(super) fn show_nodes(&self) -> anyhow::Result<()> {
        self.terminal.step("Hosts and their prefixes", "");
        self.sextant(&["node", "list"])
    }

    /// Shows the routes that the agents have put into the kernels.
    pub(super) fn show_routes(&self) -> anyhow::Result<()> {
        self.terminal.step(
            "The routes in each kernel",
            "One route to each peer's prefix. The unreachable routes refuse packets to unassigned prefixes\n\
             and to addresses that no container has. Such packets would follow the default route otherwise.",
        );
        let shown = (MAX_ROUTES / self.hosts.len()).max(1);
        for host in self.hosts.iter().take(shown) {
            self.show_routes_of(host)?;
        }
        if let Some(more) = self.hosts.len().checked_sub(shown).filter(|more| *more > 0) {
            self.terminal.text(&format!("and the same on {more} more hosts"));
        }
        Ok(())
    }

    fn show_routes_of(&self, host: &Host) -> anyhow::Result<()> {
        let command = format!("ip -6 route show proto {ROUTE_PROTOCOL}");
        self.terminal.command(host.name(), &command);
        let routes = host.ip(command.trim_start_matches("ip "))?;
        routes.lines().for_each(|route| self.terminal.text(&plain(route)));
        Ok(())
    }

    /// Shows pings from every container to every other one.
    pub(super) fn show_pings(&self) -> anyhow::Result<()> {
        self.terminal.step("Each container pings each other one", "Round-trip times in milliseconds:");
        self.ping_all()
    }

    /// As [`Cluster::show_pings`], without its heading.
    pub(super) fn ping_all(&self) -> anyhow::Result<()> {
        let containers = &self.containers;
        self.terminal.progress(&format!("{} pings", containers.len() * (containers.len() - 1)));
        let matrix = Matrix::ping(containers);
        self.terminal.clear_progress();
        let matrix = matrix?;
        self.terminal.text(&matrix.to_string());
        let failures = matrix.failures();
        if !failures.is_empty() {
            bail!(
                "{} of {} pings were not answered:\n{}",
                failures.len(),
                matrix.sent(),
                failures.join("\n")
            );
        }
        self.terminal.outcome(&format!("{} of {} pings answered", matrix.sent(), matrix.sent()));
        Ok(())
    }

    /// Adds a host, and shows how soon its peers have the route to it.
    pub(super) fn show_join(&mut self) -> anyhow::Result<()> {
        let late = self.add_late_host()?;
        let name = self.hosts[late].name().to_owned();
        self.terminal.step(
            &format!("{name} joins"),
            "The time from the new agent's announcement (by its log) to the route in each peer's kernel (by netlink):",
        );
        let monitors = self.hosts[..late].iter().map(|host| Ok((host.clone(), RouteMonitor::start(host)?)));
        let monitors = monitors.collect::<anyhow::Result<Vec<_>>>()?;
        self.terminal.command(&name, "sextant-agent …");
        self.start_agent(late)?;
        self.wait_ready()?;
        self.show_delays(&self.agents[late], &monitors)?;
        self.add_containers(late)?;
        let (near, far) = (self.container_of(0)?, self.container_of(late)?);
        for (from, to) in [(near, far), (far, near)] {
            let outcome = from.ping(to.address())?;
            self.terminal.text(&format!("{} → {}: {outcome}", from.name(), to.name()));
            outcome.replied().with_context(|| format!("{} → {}", from.name(), to.name()))?;
        }
        Ok(())
    }

    fn show_delays(&self, agent: &Agent, monitors: &[(Host, RouteMonitor)]) -> anyhow::Result<()> {
        let (name, announced) = (agent.host().name(), agent.announced_at(TIMEOUT)?);
        let prefix = self.prefix(name)?;
        let mut delays = Vec::new();
        for (host, monitor) in monitors {
            let added = monitor.added(prefix, TIMEOUT)?;
            delays.push((added.after(announced), host.name(), added.route.to_string()));
        }
        delays.sort();
        let row = |(delay, host, route): &(Duration, &str, String)| {
            vec![(*host).to_owned(), format!("{:.1} ms", delay.as_secs_f64() * 1e3), route.clone()]
        };
        let rows: Vec<_> = delays.iter().rev().take(8).rev().map(row).collect();
        self.terminal.text(&columns(&rows, |column| column == 1));
        if let Some((last, host, _)) = delays.last() {
            let millis = last.as_secs_f64() * 1e3;
            self.terminal.outcome(&format!(
                "all {} peers have the route after {millis:.1} ms; {host} was the last one",
                delays.len()
            ));
        }
        Ok(())
    }

    /// Waits until all agents have applied all changes.
    pub(super) fn wait_settled(&self) -> anyhow::Result<()> {
        try_poll(TIMEOUT, || self.asked(&["wait", "--timeout", "5s"])).map(drop)
    }
}

/// A route as `ip` prints it, without words that add nothing here.
pub(super) fn plain(route: &str) -> String {
    let words = ["dev lo ", "pref medium", "error -113 "];
    let text = words.iter().fold(route.to_owned(), |text, word| text.replace(word, ""));
    text.trim_end().to_owned()
}
