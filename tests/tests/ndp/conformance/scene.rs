//! A host with containers that answers by one of three programs, and somebody on its link.

use std::{
    fs,
    net::Ipv6Addr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use sextant_proto::Prefix;
use sextant_tests::{
    Answer, Asker, BRIDGE, Container, Host, Lab, Process, SECONDS, Solicitation,
    cluster::{Cluster, PoolArgs},
    solicited_node, try_poll,
};

use super::super::{end, outsider, start_in};

/// Wide enough for a scan.
const POOL: PoolArgs = PoolArgs { prefix: "2001:db8:0:0:8000::/65", host_len: "66", container_len: "80" };
/// Its first host prefix.
const HOST_PREFIX: &str = "2001:db8:0:0:8000::/80";
/// A neighbour asks three times, once a second (RFC 4861 §10).
const TIMES: usize = 3;
/// No answer comes any more.
const QUIET: Duration = Duration::from_millis(1200);

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    Sextant,
    Kernel,
    Ndppd,
}

pub(super) const WHO: [Who; 3] = [Who::Sextant, Who::Kernel, Who::Ndppd];

/// What it runs on.
enum Bed {
    Sextant(Cluster),
    /// The kernel has no process.
    Other {
        process: Option<Process>,
        _lab: Lab,
    },
}

pub(super) struct Scene {
    who: Who,
    bed: Bed,
    pub(super) host: Host,
    pub(super) asker: Asker,
    pub(super) prefix: Prefix,
    /// The address that most rows ask for.
    pub(super) target: Ipv6Addr,
    /// A container that was in use before.
    pub(super) container: Container,
    /// One that has never sent anything, where the program knows of it.
    pub(super) silent: Container,
    pub(super) outsider: Host,
}

impl Scene {
    /// Asks for the address of a container.
    pub(super) fn start(who: Who) -> anyhow::Result<Self> {
        Self::start_with(who, &[])
    }

    /// Asks the agent for an address that the kernel does not answer for, since no container has it.
    pub(super) fn start_unused() -> anyhow::Result<Self> {
        let scene = Self::start_with(Who::Sextant, &["--ndp-answer", "all"])?;
        Ok(Self { target: scene.unused(0), ..scene })
    }

    fn start_with(who: Who, flags: &[&str]) -> anyhow::Result<Self> {
        let prefix: Prefix = HOST_PREFIX.parse()?;
        let (bed, host, outsider) = match who {
            Who::Sextant => {
                let cluster = start_in("ndp conformance", 1, POOL, flags);
                let (host, outsider) = (cluster.hosts[0].clone(), outsider(&cluster));
                (Bed::Sextant(cluster), host, outsider)
            }
            Who::Kernel | Who::Ndppd => {
                let lab = Lab::new("ndp conformance")?;
                let host = lab.hosts(1)?.remove(0);
                host.make_bridge(prefix)?;
                let outsider = lab.router()?;
                let process = (who == Who::Ndppd).then(|| ndppd(&host, prefix)).transpose()?;
                if who == Who::Kernel {
                    host.sysctl("net/ipv6/conf/eth0/proxy_ndp", "1")?;
                }
                (Bed::Other { process, _lab: lab }, host, outsider)
            }
        };
        let (container, silent) = (host.container("a")?, host.container("s")?);
        let asker = outsider.asker("eth0", outsider.address())?;
        let target = container.address();
        let scene = Self { target, who, bed, host, asker, prefix, container, silent, outsider };
        scene.add_by_hand(&scene.container)?;
        scene.add_by_hand(&scene.silent)?;
        try_poll(10 * SECONDS, || scene.outsider.ping(scene.container.address())?.replied())?;
        Ok(scene)
    }

    /// A valid solicitation of the address that is asked for.
    pub(super) fn ask(&self) -> Solicitation {
        self.asker.solicitation(self.target)
    }

    /// What Docker's guide has operators do for each container.
    pub(super) fn add_by_hand(&self, container: &Container) -> anyhow::Result<()> {
        if self.who == Who::Kernel {
            self.host.ip(&format!("-6 neighbour add proxy {} dev eth0", container.address()))?;
        }
        Ok(())
    }

    /// The host's link-layer address.
    pub(super) fn mac(&self) -> anyhow::Result<[u8; 6]> {
        let address = self.host.address();
        Ok(self.asker.ask(&self.asker.solicitation(address), 3 * SECONDS)?.0.from)
    }

    /// An address of the container prefix that is not in use.
    pub(super) fn unused(&self, number: u32) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.prefix.addr().to_bits() + 0x1_0000 + u128::from(number))
    }

    /// The first answer; it is asked as often as neighbours do.
    pub(super) fn answer(&self, ask: &Solicitation) -> anyhow::Result<Answer> {
        let mut tries = (0..TIMES).map(|_| self.asker.ask(ask, SECONDS));
        tries.find_map(Result::ok).map(|(answer, _)| answer).context("no answer")
    }

    /// Nobody answers.
    pub(super) fn no_answer(&self, ask: &Solicitation) -> anyhow::Result<()> {
        let all = self.asker.answers(ask, QUIET)?;
        ensure!(all.is_empty(), "{} answers", all.len());
        Ok(())
    }

    /// Starts a container that sends a packet.
    pub(super) fn speaking(&self, name: &str) -> anyhow::Result<Container> {
        let container = self.host.container(name)?;
        let gateway = self.host.bridge_address()?.0;
        try_poll(5 * SECONDS, || container.ping(gateway)?.replied())?;
        self.add_by_hand(&container)?;
        Ok(container)
    }

    pub(super) fn end(&self, container: &Container) {
        end(&self.host, container);
    }

    /// Whether the uplink is in the group of this address.
    pub(super) fn is_in_group(&self, target: Ipv6Addr) -> anyhow::Result<bool> {
        let group = solicited_node(target);
        let shown = self.host.ip("-6 maddress show dev eth0")?;
        Ok(shown.split_whitespace().any(|word| word == group.to_string()))
    }

    /// The resident memory of the program; nothing for the kernel.
    pub(super) fn memory(&self) -> anyhow::Result<u64> {
        let pid = match &self.bed {
            Bed::Sextant(cluster) => cluster.agents[0].process.pid(),
            Bed::Other { process: Some(process), .. } => process.pid(),
            Bed::Other { process: None, .. } => return Ok(0),
        };
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    /// Kills the program; the kernel has none.
    pub(super) fn kill(&mut self) -> anyhow::Result<()> {
        match &mut self.bed {
            Bed::Sextant(cluster) => cluster.agents.remove(0).process.kill(),
            Bed::Other { process, .. } => process.as_ref().map_or(Ok(()), Process::kill),
        }
    }

    /// Sends so many frames a second for a while.
    pub(super) fn flood(
        &self,
        per_second: u32,
        during: Duration,
        mut frame: impl FnMut(u32) -> Vec<u8> + Send,
    ) -> anyhow::Result<()> {
        let sender = self.asker.also()?;
        let (mut number, began) = (0, Instant::now());
        while began.elapsed() < during {
            for _ in 0..per_second / 1000 {
                // A full queue drops it.
                let _ = sender.send(&frame(number));
                number += 1;
            }
            let due = began + Duration::from_millis(u64::from(number / (per_second / 1000)));
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        Ok(())
    }
}

/// As its manual has it: answers for what is found on the bridge.
fn ndppd(host: &Host, prefix: Prefix) -> anyhow::Result<Process> {
    let config = host.dir().join("ndppd.conf");
    let rule = format!("rule {prefix} {{ iface {BRIDGE} }}");
    fs::write(&config, format!("proxy eth0 {{\n router yes\n timeout 500\n ttl 30000\n {rule}\n}}\n"))?;
    host.spawn("ndppd", &["ndppd", "-c", &config.display().to_string()]).context("install ndppd")
}
