//! etcd clusters of Debian's packages, each on loopback addresses of its own and in a directory of its own.
//!
//! Members die with the test, also if it is killed: `setpriv` ties them to its thread.

use std::{
    fs::File,
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sextant_controller::registry::{
    Registry,
    etcd::{EtcdOptions, EtcdStore, Timeouts, Tls},
};
use tempfile::TempDir;

use crate::certificates;

/// How long to wait for what must happen.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// The time-out of a read with [`Cluster::hasty_options`].
pub const HASTY_READ: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(20);

/// Polls until there is something; panics, with what was looked for, if there never is.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) if start.elapsed() > PATIENCE => {
                panic!("{what}: not within {PATIENCE:?}; last seen: {seen}")
            }
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}

/// How to start a cluster.
#[derive(Default)]
pub struct Plan {
    pub members: usize,
    pub flags: Vec<&'static str>,
    pub tls: bool,
    /// Whether what is written is on the disk before it is answered, as it is outside of tests.
    pub durable: bool,
}

impl Plan {
    pub fn members(members: usize) -> Self {
        Self { members, ..Self::default() }
    }

    pub fn flag(mut self, flag: &'static str) -> Self {
        self.flags.push(flag);
        self
    }
}

/// A running cluster.
pub struct Cluster {
    directory: TempDir,
    plan: Plan,
    hosts: Vec<String>,
    members: Vec<Option<Child>>,
}

impl Cluster {
    /// Starts all members; they may need a moment to find each other.
    pub fn start(plan: Plan) -> Self {
        let mut cluster = Self::planned(plan);
        (0..cluster.hosts.len()).for_each(|member| cluster.run(member));
        cluster
    }

    /// Only the addresses: nobody is there yet.
    pub fn planned(plan: Plan) -> Self {
        let hosts = hosts(plan.members);
        let directory = tempfile::tempdir().unwrap();
        if plan.tls {
            certificates::write(directory.path(), &hosts);
        }
        Self { directory, members: hosts.iter().map(|_| None).collect(), plan, hosts }
    }

    /// Starts one member.
    pub fn run(&mut self, member: usize) {
        let file = |name: String| File::create(self.path(&name)).unwrap();
        let log =
            File::options().append(true).create(true).open(self.path(&format!("m{member}.log"))).unwrap();
        let peer = |number: usize| format!("http://{}:2380", self.hosts[number]);
        let peers: Vec<String> =
            (0..self.hosts.len()).map(|number| format!("m{number}={}", peer(number))).collect();
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "etcd", "--log-level", "warn"])
            .args(["--name", &format!("m{member}")])
            .arg("--data-dir")
            .arg(self.path(&format!("m{member}")))
            .args(["--listen-client-urls", &self.url(member)])
            .args(["--advertise-client-urls", &self.url(member)])
            .args(["--listen-peer-urls", &peer(member)])
            .args(["--initial-advertise-peer-urls", &peer(member)])
            .args(["--initial-cluster", &peers.join(",")])
            .args(["--initial-cluster-token", &self.hosts[0]])
            .args(&self.plan.flags);
        if !self.plan.durable {
            command.arg("--unsafe-no-fsync");
        }
        if self.plan.tls {
            command.arg("--client-cert-auth");
            for (flag, name) in
                [("--trusted-ca-file", "ca.pem"), ("--cert-file", "server.pem"), ("--key-file", "server.key")]
            {
                command.arg(flag).arg(self.path(name));
            }
        }
        command.stdin(Stdio::null()).stdout(file(format!("m{member}.out"))).stderr(log);
        self.members[member] = Some(command.spawn().expect("setpriv and etcd are installed"));
    }

    /// Replaces all certificates, the CA's too.
    pub fn renew_certificates(&self) {
        certificates::write(self.directory.path(), &self.hosts);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn len(&self) -> usize {
        self.hosts.len()
    }

    /// The member's client URL.
    pub fn url(&self, member: usize) -> String {
        let scheme = if self.plan.tls { "https" } else { "http" };
        format!("{scheme}://{}:2379", self.hosts[member])
    }

    /// Kills a member, and waits until it is gone.
    pub fn kill(&mut self, member: usize) {
        if let Some(mut child) = self.members[member].take() {
            let _gone_already = child.kill();
            child.wait().unwrap();
        }
    }

    pub fn freeze(&self, member: usize) {
        self.signal(member, Signal::SIGSTOP);
    }

    pub fn thaw(&self, member: usize) {
        self.signal(member, Signal::SIGCONT);
    }

    fn signal(&self, member: usize, signal: Signal) {
        let child = self.members[member].as_ref().expect("it runs");
        kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
    }

    /// What to connect with; the members in this order.
    pub fn options(&self, order: &[usize]) -> EtcdOptions {
        let mut options = EtcdOptions::new(order.iter().map(|member| self.url(*member)));
        options.spread = false;
        options.tls = self.plan.tls.then(|| Tls {
            ca: self.path("ca.pem"),
            identity: Some((self.path("client.pem"), self.path("client.key"))),
        });
        options
    }

    /// With limits for tests that wait until they are over.
    pub fn hasty_options(&self, order: &[usize]) -> EtcdOptions {
        let mut options = self.options(order);
        options.timeouts =
            Timeouts { read: HASTY_READ, stale: Duration::from_secs(2), ..Timeouts::default() };
        options
    }

    /// A store over all members, once the cluster takes requests.
    pub async fn store(&self) -> EtcdStore {
        let all: Vec<usize> = (0..self.len()).collect();
        self.store_with(self.options(&all)).await
    }

    /// A store, once the cluster takes requests.
    pub async fn store_with(&self, options: EtcdOptions) -> EtcdStore {
        let store = EtcdStore::connect(options).await.unwrap();
        until("the cluster takes requests", async || {
            let lease = store.grant(Duration::from_secs(60)).await;
            lease.map(drop).map_err(|error| format!("{error}\n{}", self.logs()))
        })
        .await;
        store
    }

    /// Runs etcdctl on one member.
    pub fn try_ctl(&self, member: usize, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &self.url(member)]);
        if self.plan.tls {
            for (flag, name) in [("--cacert", "ca.pem"), ("--cert", "client.pem"), ("--key", "client.key")] {
                command.arg(flag).arg(self.path(name));
            }
        }
        let output = command.args(arguments).stdin(Stdio::null()).output().unwrap();
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(text(&output.stderr)),
        }
    }

    /// Runs etcdctl, which must succeed.
    pub fn ctl(&self, arguments: &[&str]) -> String {
        self.try_ctl(0, arguments).unwrap_or_else(|error| panic!("etcdctl {arguments:?}: {error}"))
    }

    /// The member that leads.
    pub async fn leader(&self) -> usize {
        until("there is a leader", async || {
            let running = (0..self.len()).filter(|member| self.members[*member].is_some());
            for member in running {
                let status =
                    self.try_ctl(member, &["--command-timeout=1s", "endpoint", "status", "-w", "fields"])?;
                let field = |name: &str| {
                    let line = status.lines().find(|line| line.starts_with(&format!("\"{name}\"")));
                    line.and_then(|line| line.split_once(" : ")).map(|(_, value)| value.to_owned())
                };
                if field("Leader").is_some() && field("Leader") == field("MemberID") {
                    return Ok(member);
                }
            }
            Err("none says that it leads".to_owned())
        })
        .await
    }

    /// The last that the members said.
    pub fn logs(&self) -> String {
        let tail = |member: usize| {
            let log = std::fs::read_to_string(self.path(&format!("m{member}.log"))).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            format!("m{member}:\n{}", lines[lines.len().saturating_sub(5)..].join("\n"))
        };
        (0..self.len()).map(tail).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        (0..self.len()).for_each(|member| self.kill(member));
    }
}

/// Loopback addresses that nobody else uses: the ports stay free over a restart, unlike those that the kernel hands out.
fn hosts(count: usize) -> Vec<String> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let free =
        |host: &String| [2379, 2380].iter().all(|port| TcpListener::bind((host.as_str(), *port)).is_ok());
    loop {
        let [net, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let hosts: Vec<String> = (1..=count)
            .map(|member| format!("127.{}.{}.{member}", 100 + net, low ^ (std::process::id() % 251) as u8))
            .collect();
        if hosts.iter().all(free) {
            return hosts;
        }
    }
}
