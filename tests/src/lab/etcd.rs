//! A real etcd of some members, each on an address of its own in the switch's namespace.

use anyhow::Context;

use super::{Lab, namespace::Namespace, process::Process};

/// An etcd cluster.
#[derive(Debug)]
pub struct Etcd {
    members: Vec<Option<Process>>,
    /// More flags for each member.
    args: Vec<String>,
}

impl Lab {
    /// Starts an etcd of so many members, with these flags beside those that make it a cluster.
    ///
    /// # Errors
    /// If one cannot be started.
    pub fn etcd(&self, members: usize, args: &[&str]) -> anyhow::Result<Etcd> {
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        let mut etcd = Etcd { members: (0..members).map(|_| None).collect(), args };
        for member in 0..members {
            self.switch().ip(&format!("address replace {}/64 dev br0 nodad", address(member)))?;
        }
        (0..members).try_for_each(|member| etcd.start_member(self, member))?;
        Ok(etcd)
    }
}

impl Etcd {
    /// Starts a member, on the data that it had.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start_member(&mut self, lab: &Lab, member: usize) -> anyhow::Result<()> {
        let all = 0..self.members.len();
        let initial: Vec<_> = all.map(|it| format!("m{it}={}", peer_url(it))).collect();
        let (client, peer) = (url(member), peer_url(member));
        let data = lab.dir().join(format!("etcd-{member}")).display().to_string();
        let flags = [
            ("--name", format!("m{member}")),
            ("--data-dir", data),
            ("--listen-client-urls", client.clone()),
            ("--advertise-client-urls", client),
            ("--listen-peer-urls", peer.clone()),
            ("--initial-advertise-peer-urls", peer),
            ("--initial-cluster", initial.join(",")),
            ("--initial-cluster-state", "new".to_owned()),
        ];
        let mut args = vec!["etcd".to_owned()];
        args.extend(flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]));
        args.extend(self.args.clone());
        self.members[member] = None;
        self.members[member] = Some(lab.switch().spawn(&format!("etcd-{member}"), &args)?);
        Ok(())
    }

    /// Starts all members anew, on the data that they had.
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

    /// `--store` of a controller over it.
    pub fn store(&self) -> String {
        format!("etcd:{}", self.urls().join(","))
    }

    /// Runs `etcdctl` at the first member; what it prints.
    ///
    /// # Errors
    /// If it fails.
    pub fn etcdctl(&self, lab: &Lab, args: &[&str]) -> anyhow::Result<String> {
        etcdctl(lab.switch(), &url(0), args)
    }

    /// Takes away every key.
    ///
    /// # Errors
    /// If the first member does not do so.
    pub fn wipe(&self, lab: &Lab) -> anyhow::Result<()> {
        self.etcdctl(lab, &["del", "", "--prefix"]).context("wiping etcd").map(drop)
    }
}

fn etcdctl(namespace: &Namespace, url: &str, args: &[&str]) -> anyhow::Result<String> {
    let command = ["env", "ETCDCTL_API=3", "etcdctl", "--endpoints", url];
    namespace.check(&[&command, args].concat())
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
