//! The demo's store and controllers, its pool, and the join token of its hosts.

use super::{
    Topology,
    cluster::{Cluster, TIMEOUT},
    ndp,
};
use crate::{ControllerOptions, Etcd, StoreKind};

/// The pool: a /64 for each host, and a /80 of that for its containers.
const POOL: [&str; 8] =
    ["pool", "add", "main", "2001:db8:8000::/40", "--host-len", "64", "--container-len", "80"];
/// The controllers' `--down-after`, in seconds: shorter than the default, so that the demo is short.
pub(super) const DOWN_AFTER: &str = "2";

impl Cluster {
    /// Controllers, and a pool.
    pub(super) fn start_control_plane(&mut self) -> anyhow::Result<()> {
        self.start_controllers()?;
        let (pool, text) = match self.topology {
            Topology::Switched => {
                (POOL, "Each host gets a /64 from the pool. A /80 of that /64 is for the host's containers.")
            }
            Topology::NdpProxy => {
                (ndp::POOL, "It is a part of the link's own prefix. Each host gets a /125.")
            }
        };
        self.terminal.step("A pool of prefixes", text);
        self.sextant(&pool)?;
        self.make_token()
    }

    /// For all hosts, and the one that joins later.
    fn make_token(&self) -> anyhow::Result<()> {
        if !self.access.is_tls() {
            return Ok(());
        }
        self.terminal.step(
            "A join token for the hosts",
            "Each agent gets the certificate of its node for it, once. The token names the authority, which the agent checks\n\
             before it sends anything.",
        );
        let hosts = u16::try_from(self.hosts.len())? + 1;
        self.access.make_token(&self.lab, &self.terminal, hosts)
    }

    fn start_controllers(&mut self) -> anyhow::Result<()> {
        match self.store {
            StoreKind::Embedded => {
                self.announce("A controller", "It records in one file which host holds which prefix.")
            }
            StoreKind::Etcd => {
                self.announce(
                    "An etcd cluster with three members, and two controllers",
                    "etcd records which host holds which prefix. Agents connect to either controller.",
                );
                self.etcd = Some(self.lab.etcd(3, &[])?);
            }
        }
        let (number, store) = match &self.etcd {
            Some(etcd) => (2, etcd.store()),
            None => (1, "embedded:PATH".to_owned()),
        };
        for number in 1..=number {
            self.start_controller(number, &store)?;
        }
        self.terminal.progress("starting the store and the controllers");
        let ready = self.controllers.iter().try_for_each(|controller| controller.wait_ready(TIMEOUT));
        self.terminal.clear_progress();
        ready?;
        let (url, person) = (self.access.url(1), self.access.shown_for_people());
        self.terminal.command("", &format!("export SEXTANT_CONTROLLER={url} {person}"));
        Ok(())
    }

    fn announce(&self, title: &str, text: &str) {
        let plain = "\n--insecure permits plain text: this network is the demo's own.";
        let plain = if self.access.is_tls() { "" } else { plain };
        self.terminal.step(title, &format!("{text}{plain}"));
    }

    fn start_controller(&mut self, number: u16, store: &str) -> anyhow::Result<()> {
        let url = self.access.url(number);
        let (_, listen) = url.split_once("//").unwrap_or_default();
        let access = self.access.shown_for_controllers();
        let command = format!(
            "sextant-controller --store {store} --listen '{listen}' --down-after {DOWN_AFTER} {access}"
        );
        self.terminal.command("", &command);
        let down_after = ["--down-after", DOWN_AFTER].map(str::to_owned).to_vec();
        let args = [down_after, self.access.controller_args(number)].concat();
        let store = self.etcd.as_ref().map(Etcd::store);
        let options = ControllerOptions { number, store, args, ..ControllerOptions::default() };
        self.controllers.push(self.lab.controller(options)?);
        Ok(())
    }
}
