//! A machine that has booted with systemd as PID 1, in a namespace of the lab.

use std::fs;

use anyhow::{Context, ensure};

use super::{
    namespace::Namespace,
    poll::{SECONDS, poll},
    process::Process,
};

/// A booted machine, by its systemd-nspawn.
#[derive(Debug)]
pub struct Booted {
    namespace: Namespace,
    nspawn: Process,
}

impl Booted {
    /// Waits until the machine has reached `lab.target`.
    ///
    /// # Panics
    /// If it does not, or systemd-nspawn ends.
    pub fn wait(namespace: &Namespace, nspawn: Process) -> Self {
        let machine = Self { namespace: namespace.clone(), nspawn };
        poll("systemd has booted", 20 * SECONDS, || match machine.nspawn.ended()? {
            Some(status) => panic!("systemd-nspawn: {status}: {}", machine.nspawn.log()),
            None => machine.run(&["systemctl", "is-active", "lab.target"]),
        });
        machine
    }

    /// Runs a command in the machine; its standard output, without white space around it.
    ///
    /// # Errors
    /// If it fails.
    pub fn run(&self, args: &[&str]) -> anyhow::Result<String> {
        let pid = self.init()?.to_string();
        let inside = [&["nsenter", "--target", &pid, "--all", "--"], args].concat();
        Ok(self.namespace.check(&inside)?.trim().to_owned())
    }

    /// `systemctl` with these arguments.
    ///
    /// # Panics
    /// If it fails, with the end of the journal.
    pub fn systemctl(&self, args: &[&str]) -> String {
        let done = self.run(&[&["systemctl"], args].concat());
        done.unwrap_or_else(|error| {
            panic!("{error:#}: {}", self.shell("journalctl --no-pager --lines=40 --output=cat"))
        })
    }

    /// A property of a unit.
    ///
    /// # Panics
    /// If systemd does not answer, as the following.
    pub fn property(&self, unit: &str, name: &str) -> String {
        self.systemctl(&["show", "--value", "--property", name, unit])
    }

    /// Writes a file in the machine, with this mode.
    pub fn write(&self, path: &str, mode: &str, text: &str) {
        let write = "mkdir -p \"${1%/*}\" && printf %s \"$3\" >\"$1\" && chmod \"$2\" \"$1\"";
        self.run(&["sh", "-c", write, "sh", path, mode, text]).expect("the file is written");
    }

    /// Runs a line of a shell in the machine, whether it succeeds or not; its output.
    pub fn shell(&self, line: &str) -> String {
        self.run(&["sh", "-c", &format!("{{ {line}; }} 2>&1 || true")]).expect("the machine has a shell")
    }

    /// Lines of `/proc/PID/status` of the unit's main process, by name.
    pub fn process_status(&self, unit: &str, field: &str) -> String {
        let status = self
            .run(&["cat", &format!("/proc/{}/status", self.property(unit, "MainPID"))])
            .expect("the unit runs");
        let line = status.lines().find_map(|line| line.strip_prefix(&format!("{field}:")));
        line.unwrap_or_else(|| panic!("no {field} in {status}")).trim().to_owned()
    }

    /// What systemd and the daemons have logged of a unit.
    pub fn journal(&self, unit: &str) -> String {
        self.run(&["journalctl", "--no-pager", "--output=cat", "--unit", unit])
            .expect("the machine has a journal")
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

impl Drop for Booted {
    /// The journal is in the machine's memory, and goes with it.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let journal = self.run(&["journalctl", "--no-pager", "--lines=400", "--unit=sextant-*"]);
            let journal = journal.unwrap_or_else(|error| format!("{error:#}"));
            eprintln!("---- the end of the journal of {} ----\n{journal}", self.namespace.name());
        }
    }
}
