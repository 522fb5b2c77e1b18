//! A machine with systemd as PID 1, in a namespace of the lab, with Sextant installed as in docs/operations.md.
//!
//! systemd-nspawn boots it with this machine's own `/usr`, or with that of a root directory of another release, read-only, and all
//! else empty and in memory: no image is needed, and nothing is left. Its cgroups and its name are the namespace's, by which the lab's reaper finds them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use sextant_tests::{Lab, MILLISECONDS, Namespace, Process, SECONDS, bin, in_own_cgroup, poll};

/// The variable that names a root directory with another release of Debian.
pub const ROOT: &str = "SEXTANT_MACHINE_ROOT";
/// What the machine boots to: no service of this machine's `/usr`, as there may be any.
const TARGET: &str = "[Unit]\nRequires=basic.target\nAfter=basic.target\n";
/// What the units say is too long for a test. (The agent's start takes its grace of 20 seconds.)
const SHORT: [(&str, &str); 3] = [
    ("sextant-agent.service", "[Service]\nWatchdogSec=4s\n"),
    ("sextant-agent-prepare.service", ""),
    ("sextant-controller.service", "[Service]\nWatchdogSec=4s\nTimeoutStartSec=4s\n"),
];

/// Units that are installed as they are.
const MORE: [&str; 2] = ["sextant-docker-setup.path", "sextant-docker-setup.service"];

/// A booted machine.
pub struct Machine {
    namespace: Namespace,
    nspawn: Process,
    dir: PathBuf,
}

impl Machine {
    /// Boots a machine whose network is `namespace`, with `configs` (name and content) in `/etc/sextant`.
    pub fn boot(lab: &Lab, namespace: &Namespace, configs: &[(&str, &str)]) -> Self {
        Self::boot_keeping(lab, namespace, configs, &[])
    }

    /// As [`boot`](Self::boot). The directories `kept` have the same files at the next boot.
    pub fn boot_keeping(lab: &Lab, namespace: &Namespace, configs: &[(&str, &str)], kept: &[&str]) -> Self {
        Self::boot_showing(lab, namespace, configs, kept, &[])
    }

    /// As [`boot_keeping`](Self::boot_keeping). The machine has the directories `shown` of this one, at these places.
    pub fn boot_showing(
        lab: &Lab,
        namespace: &Namespace,
        configs: &[(&str, &str)],
        kept: &[&str],
        shown: &[(PathBuf, &str)],
    ) -> Self {
        let dir = lab.dir().join(format!("machine-{}", namespace.name()));
        lay_out(&dir, configs).unwrap();
        let kept: Vec<_> = kept.iter().map(|path| (dir.join("kept").join(&path[1..]), *path)).collect();
        kept.iter().for_each(|(from, _)| fs::create_dir_all(from).unwrap());
        let nspawn = namespace
            .spawn_with(
                &format!("nspawn-{}", namespace.name()),
                &nspawn_words(namespace, &dir, &kept, shown),
                &[("SYSTEMD_NSPAWN_API_VFS_WRITABLE".to_owned(), "network".to_owned())],
            )
            .unwrap();
        let machine = Self { namespace: namespace.clone(), nspawn, dir };
        poll("systemd has booted", 20 * SECONDS, || match machine.nspawn.ended()? {
            Some(status) => panic!("systemd-nspawn: {status}: {}", machine.nspawn.log()),
            None => machine.run(&["systemctl", "is-active", "lab.target"]),
        });
        machine
    }

    /// Runs a command in the machine; its standard output, without white space around it.
    pub fn run(&self, args: &[&str]) -> anyhow::Result<String> {
        let pid = self.init()?.to_string();
        let inside = [&["nsenter", "--target", &pid, "--all", "--"], args].concat();
        Ok(self.namespace.check(&inside)?.trim().to_owned())
    }

    /// `systemctl` with these arguments, which must succeed.
    pub fn systemctl(&self, args: &[&str]) -> String {
        let done = self.run(&[&["systemctl"], args].concat());
        done.unwrap_or_else(|error| {
            panic!("{error:#}: {}", self.shell("journalctl --no-pager --lines=40 --output=cat"))
        })
    }

    /// A property of a unit.
    pub fn property(&self, unit: &str, name: &str) -> String {
        self.systemctl(&["show", "--value", "--property", name, unit])
    }

    /// Waits until the unit is active with another main process than `before`, which has taken `restarts` restarts.
    pub fn wait_restarted(&self, unit: &str, before: &str, restarts: &str) {
        poll(&format!("{unit} is active again"), 20 * SECONDS, || {
            let now = ["ActiveState", "MainPID", "NRestarts"].map(|name| self.property(unit, name));
            let done = now[0] == "active" && now[1] != before && now[2] == restarts;
            if done { Ok(()) } else { Err(format!("{now:?}")) }
        });
    }

    /// Writes a file in the machine, with this mode.
    pub fn write(&self, path: &str, mode: &str, text: &str) {
        let write = "mkdir -p \"${1%/*}\" && printf %s \"$3\" >\"$1\" && chmod \"$2\" \"$1\"";
        self.run(&["sh", "-c", write, "sh", path, mode, text]).unwrap();
    }

    /// Lets programs in the machine write beside the lab's files of the agent, as they may on a real one.
    pub fn etc_is_writable(&self) {
        let line = "for dir in /etc/sextant /etc/systemd/system/sextant-agent.service.d; do rm -rf /root/copy && cp -a $dir /root/copy \
                    && mount -t tmpfs tmpfs $dir && cp -a /root/copy/. $dir; done";
        self.run(&["sh", "-c", line]).unwrap();
    }

    /// Runs a line of a shell in the machine, whether it succeeds or not; its output.
    pub fn shell(&self, line: &str) -> String {
        self.run(&["sh", "-c", &format!("{{ {line}; }} 2>&1 || true")]).unwrap()
    }

    /// Sends the unit's main process a signal, and waits until systemd has started another; `restarts` is how many it has
    /// then started.
    pub fn signal_until_restarted(&self, unit: &str, signal: &str, restarts: &str) {
        let pid = self.property(unit, "MainPID");
        self.run(&["/bin/kill", "-s", signal, &pid]).unwrap();
        self.wait_restarted(unit, &pid, restarts);
    }

    /// Replaces an installed binary as an upgrade does: beside it, and renamed. Returns its inode.
    pub fn replace(&self, program: &str) -> String {
        let (new, installed) = (self.dir.join("bin/new"), self.dir.join("bin").join(program));
        fs::copy(bin(program).unwrap(), &new).unwrap();
        fs::rename(&new, &installed).unwrap();
        self.run(&["stat", "--format=%i", &format!("/usr/local/bin/{program}")]).unwrap()
    }

    /// The inode of what the unit's main process runs.
    pub fn running_inode(&self, unit: &str) -> String {
        let exe = format!("/proc/{}/exe", self.property(unit, "MainPID"));
        self.run(&["stat", "--dereference", "--format=%i", &exe]).unwrap()
    }

    /// Lines of `/proc/PID/status` of the unit's main process, by name.
    pub fn process_status(&self, unit: &str, field: &str) -> String {
        let status = self.run(&["cat", &format!("/proc/{}/status", self.property(unit, "MainPID"))]).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(&format!("{field}:")));
        line.unwrap_or_else(|| panic!("no {field} in {status}")).trim().to_owned()
    }

    /// What systemd and the daemons have logged of a unit.
    pub fn journal(&self, unit: &str) -> String {
        self.run(&["journalctl", "--no-pager", "--output=cat", "--unit", unit]).unwrap()
    }

    /// The machine's PID 1, as this machine counts.
    fn init(&self) -> anyhow::Result<u32> {
        let pid = self.nspawn.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        let child = children.split_whitespace().next_back().context("systemd-nspawn has no child yet")?;
        let name = fs::read_to_string(format!("/proc/{child}/comm"))?;
        ensure!(name.trim() == "systemd", "systemd-nspawn's child is still {name}");
        Ok(child.parse()?)
    }
}

impl Drop for Machine {
    /// The journal is in the machine's memory, and goes with it.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let journal = self.run(&["journalctl", "--no-pager", "--lines=400", "--unit=sextant-*"]);
            let journal = journal.unwrap_or_else(|error| format!("{error:#}"));
            eprintln!("---- the end of the journal of {} ----\n{journal}", self.namespace.name());
        }
    }
}

/// The unit files of this tree.
pub fn deploy_systemd() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/systemd")
}

/// What the machine is to have, but for `/usr`.
fn lay_out(dir: &Path, configs: &[(&str, &str)]) -> anyhow::Result<()> {
    for below in ["bin", "etc"] {
        fs::create_dir_all(dir.join(below))?;
    }
    for program in ["sextant-agent", "sextant-controller"] {
        fs::copy(bin(program)?, dir.join("bin").join(program))?;
    }
    for (name, content) in configs {
        fs::write(dir.join("etc").join(name), content)?;
    }
    fs::write(dir.join("lab.target"), TARGET)?;
    fs::write(dir.join("none.preset"), "disable *\n")?;
    for (unit, drop_in) in SHORT {
        fs::create_dir_all(dir.join(unit))?;
        fs::write(dir.join(unit).join("lab.conf"), drop_in)?;
    }
    Ok(())
}

fn nspawn_words(
    namespace: &Namespace,
    dir: &Path,
    kept: &[(PathBuf, &str)],
    shown: &[(PathBuf, &str)],
) -> Vec<String> {
    let (name, units) = (namespace.name(), "/etc/systemd/system");
    let mut words = in_own_cgroup(namespace).to_vec();
    words.extend(["systemd-nspawn", "--quiet", "--volatile=yes", "--boot"].map(str::to_owned));
    words.push(format!("--directory={}", std::env::var(ROOT).unwrap_or_else(|_| "/".to_owned())));
    // No machined and no D-Bus of this machine are asked for anything.
    words.extend(["--register=no", "--keep-unit", "--console=pipe"].map(str::to_owned));
    // As a machine has them, for its own network; nspawn takes them away where the network is not of its making.
    words.push("--capability=CAP_NET_ADMIN,CAP_NET_RAW".to_owned());
    words.push(format!("--machine={name}"));
    words.push(format!("--network-namespace-path={}", namespace.path().display()));
    let mut bind = |from: PathBuf, to: &str| words.push(format!("--bind-ro={}:{to}", from.display()));
    bind(dir.join("none.preset"), "/etc/systemd/system-preset/00-none.preset");
    bind(dir.join("lab.target"), &format!("{units}/lab.target"));
    bind(dir.join("bin"), "/usr/local/bin");
    bind(dir.join("etc"), "/etc/sextant");
    bind(deploy_systemd().join("rt_protos.d"), "/etc/iproute2/rt_protos.d");
    for (unit, _) in SHORT {
        bind(deploy_systemd().join(unit), &format!("{units}/{unit}"));
        bind(dir.join(unit), &format!("{units}/{unit}.d"));
    }
    for unit in MORE {
        bind(deploy_systemd().join(unit), &format!("{units}/{unit}"));
    }
    shown.iter().for_each(|(from, to)| bind(from.clone(), to));
    words.extend(kept.iter().map(|(from, to)| format!("--bind={}:{to}", from.display())));
    words.extend(["systemd.unit=lab.target", "systemd.firstboot=no"].map(str::to_owned));
    words
}

/// How long nothing must be lost while a service goes and comes.
pub const INTERVAL: std::time::Duration = MILLISECONDS.saturating_mul(5);
