//! A real etcd cluster. Each member has its own address, in the switch's namespace or on its own host.

use std::{future::Future, sync::Arc};

use anyhow::Context;
use sextant_controller::registry::{
    SharedRegistry,
    etcd::{EtcdOptions, EtcdStore},
};
use tokio::runtime::{self, Runtime};

use super::{
    Lab,
    host::Host,
    namespace::Namespace,
    poll::{SECONDS, try_poll},
    process::Process,
};

/// An etcd cluster.
#[derive(Debug)]
pub struct Etcd {
    /// The namespace of each member.
    namespaces: Vec<Namespace>,
    members: Vec<Option<Process>>,
    /// More flags for each member.
    args: Vec<String>,
}

impl Lab {
    /// Starts an etcd cluster of this many members, with additional flags.
    ///
    /// # Errors
    /// If one cannot be started.
    pub fn etcd(&self, members: usize, args: &[&str]) -> anyhow::Result<Etcd> {
        self.etcd_in(vec![self.switch().clone(); members], "br0", args)
    }

    /// As [`Lab::etcd`], with each member on one of `hosts`, so that it can be isolated.
    ///
    /// # Errors
    /// As there.
    pub fn etcd_on(&self, hosts: &[Host], args: &[&str]) -> anyhow::Result<Etcd> {
        self.etcd_in(hosts.iter().map(|host| Namespace::clone(host)).collect(), "eth0", args)
    }

    fn etcd_in(&self, namespaces: Vec<Namespace>, device: &str, args: &[&str]) -> anyhow::Result<Etcd> {
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        for (member, namespace) in namespaces.iter().enumerate() {
            namespace.ip(&format!("address replace {}/64 dev {device} nodad", address(member)))?;
        }
        let mut etcd = Etcd { members: namespaces.iter().map(|_| None).collect(), namespaces, args };
        (0..etcd.members.len()).try_for_each(|member| etcd.start_member(self, member))?;
        Ok(etcd)
    }
}

impl Etcd {
    /// Starts a member with its existing data.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start_member(&mut self, lab: &Lab, member: usize) -> anyhow::Result<()> {
        let (client, peer) = (url(member), peer_url(member));
        let data = data_dir(lab, member);
        let flags = [
            ("--name", format!("m{member}")),
            ("--data-dir", data),
            ("--listen-client-urls", client.clone()),
            ("--advertise-client-urls", client),
            ("--listen-peer-urls", peer.clone()),
            ("--initial-advertise-peer-urls", peer),
            ("--initial-cluster", self.initial_cluster()),
            ("--initial-cluster-state", "new".to_owned()),
        ];
        let mut args = vec!["etcd".to_owned()];
        args.extend(flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]));
        args.extend(self.args.clone());
        self.members[member] = None;
        self.members[member] = Some(self.namespaces[member].spawn(&format!("etcd-{member}"), &args)?);
        Ok(())
    }

    /// Restarts all members with their existing data.
    ///
    /// # Errors
    /// If one cannot be started.
    pub fn restart(&mut self, lab: &Lab) -> anyhow::Result<()> {
        (0..self.members.len()).try_for_each(|member| self.start_member(lab, member))
    }

    /// The process of a member.
    ///
    /// # Panics
    /// If there is no such member.
    pub fn member(&self, member: usize) -> &Process {
        self.members[member].as_ref().expect("all members are started with the cluster")
    }

    /// Kills all members.
    ///
    /// # Errors
    /// If one cannot be killed.
    pub fn kill(&self) -> anyhow::Result<()> {
        self.members.iter().flatten().try_for_each(Process::kill)
    }

    /// The members' URLs for clients.
    pub fn urls(&self) -> Vec<String> {
        (0..self.members.len()).map(url).collect()
    }

    /// `--store` of a controller that uses it.
    pub fn store(&self) -> String {
        format!("etcd:{}", self.urls().join(","))
    }

    /// Runs `etcdctl` on the first member; returns its output.
    ///
    /// # Errors
    /// If it fails.
    pub fn etcdctl(&self, lab: &Lab, args: &[&str]) -> anyhow::Result<String> {
        etcdctl(lab.switch(), &url(0), args)
    }

    /// The leader.
    ///
    /// # Errors
    /// If there is none for 30 seconds.
    pub fn leader(&self, lab: &Lab) -> anyhow::Result<usize> {
        try_poll(30 * SECONDS, || {
            let is_leader = |member: &usize| {
                let args = ["--command-timeout=1s", "endpoint", "status", "-w", "fields"];
                etcdctl(lab.switch(), &url(*member), &args)
                    .is_ok_and(|status| reports_itself_as_leader(&status))
            };
            (0..self.members.len()).find(is_leader).context("no member reports itself as the leader")
        })
    }

    /// Waits until the member is healthy.
    ///
    /// # Errors
    /// If it is not for 30 seconds.
    pub fn wait_healthy(&self, lab: &Lab, member: usize) -> anyhow::Result<()> {
        let args = ["--command-timeout=1s", "endpoint", "health"];
        try_poll(30 * SECONDS, || etcdctl(lab.switch(), &url(member), &args).map(drop))
    }

    /// Connects with the controller's own code.
    ///
    /// # Errors
    /// If the connection cannot be set up.
    pub fn connect(&self, lab: &Lab) -> anyhow::Result<EtcdClient> {
        // The threads start in etcd's namespace, and stay there.
        let runtime = lab.switch().enter(|| runtime::Builder::new_multi_thread().enable_all().build())??;
        let options = EtcdOptions::new(self.urls());
        let store = runtime.block_on(runtime.spawn(EtcdStore::connect(options)))??;
        Ok(EtcdClient { runtime, store: Arc::new(store) })
    }

    /// Kills all members and deletes their data. The next start creates a new, empty cluster.
    ///
    /// # Errors
    /// If one cannot be killed, or its data cannot be deleted.
    pub fn lose_data(&mut self, lab: &Lab) -> anyhow::Result<()> {
        self.kill()?;
        for member in 0..self.members.len() {
            self.members[member] = None;
            std::fs::remove_dir_all(data_dir(lab, member)).context("deleting the data of an etcd member")?;
        }
        Ok(())
    }

    /// Saves a snapshot of the first member in a file of this name.
    ///
    /// # Errors
    /// If etcd refuses.
    pub fn save_snapshot(&self, lab: &Lab, name: &str) -> anyhow::Result<()> {
        self.etcdctl(lab, &["snapshot", "save", &snapshot_file(lab, name)]).map(drop)
    }

    /// Kills all members, and restarts them from the snapshot of this name, as an operator does after a disaster.
    ///
    /// # Errors
    /// If etcd refuses the snapshot.
    pub fn restore_snapshot(&mut self, lab: &Lab, name: &str) -> anyhow::Result<()> {
        self.lose_data(lab)?;
        let initial = self.initial_cluster();
        for member in 0..self.members.len() {
            let (file, data, peer) = (snapshot_file(lab, name), data_dir(lab, member), peer_url(member));
            let member = format!("m{member}");
            let args = ["snapshot", "restore", &file, "--name", &member, "--data-dir", &data];
            let cluster = ["--initial-cluster", &initial, "--initial-advertise-peer-urls", &peer];
            self.etcdctl(lab, &[&args[..], &cluster[..]].concat())?;
        }
        self.restart(lab)
    }

    fn initial_cluster(&self) -> String {
        let members: Vec<_> = (0..self.members.len()).map(|it| format!("m{it}={}", peer_url(it))).collect();
        members.join(",")
    }

    /// Deletes every key.
    ///
    /// # Errors
    /// If the first member refuses.
    pub fn wipe(&self, lab: &Lab) -> anyhow::Result<()> {
        self.etcdctl(lab, &["del", "", "--prefix"]).context("wiping etcd").map(drop)
    }
}

/// A connection to a lab's etcd with the controller's own code.
pub struct EtcdClient {
    runtime: Runtime,
    store: SharedRegistry,
}

impl EtcdClient {
    /// Runs `action` with the store, inside the lab.
    ///
    /// # Panics
    /// If `action` panics.
    pub fn with<F>(&self, action: impl FnOnce(SharedRegistry) -> F) -> F::Output
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let done = self.runtime.block_on(self.runtime.spawn(action(Arc::clone(&self.store))));
        done.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }
}

fn reports_itself_as_leader(status: &str) -> bool {
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(&format!("\"{name}\"")));
        line.and_then(|line| line.split_once(" : ")).map(|(_, value)| value)
    };
    field("Leader").is_some() && field("Leader") == field("MemberID")
}

fn etcdctl(namespace: &Namespace, url: &str, args: &[&str]) -> anyhow::Result<String> {
    let command = ["env", "ETCDCTL_API=3", "etcdctl", "--endpoints", url];
    namespace.check(&[&command, args].concat())
}

fn data_dir(lab: &Lab, member: usize) -> String {
    lab.dir().join(format!("etcd-{member}")).display().to_string()
}

fn snapshot_file(lab: &Lab, name: &str) -> String {
    lab.dir().join(format!("{name}.snapshot")).display().to_string()
}

fn address(member: usize) -> String {
    format!("2001:db8::e:{}", member + 1)
}

fn url(member: usize) -> String {
    format!("http://[{}]:2379", address(member))
}

fn peer_url(member: usize) -> String {
    format!("http://[{}]:2380", address(member))
}
