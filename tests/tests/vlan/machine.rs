//! A virtual machine without a network, which ends with its test.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

/// By translation of its instructions: that works on each machine, also on one that is virtual itself.
const MACHINE: &[&str] = &[
    "-accel",
    "tcg",
    "-cpu",
    "max",
    "-m",
    "2048",
    "-nic",
    "none",
    "-nographic",
    "-no-reboot",
    "-append",
    "console=ttyS0 quiet panic=-1",
];

struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Boots it, and returns what it has written on its console when it has ended.
pub(super) fn run(kernel: &Path, image: &Path, limit: Duration) -> anyhow::Result<String> {
    // It is killed with the thread that starts it: the test's.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]).args(MACHINE);
    command.arg("-kernel").arg(kernel).arg("-initrd").arg(image);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn();
    let mut machine = Machine(child.context("setpriv cannot be started; install util-linux")?);
    let console = machine.0.stdout.take().context("the machine has no console")?;
    let (lines, received) = mpsc::channel();
    let reader = thread::spawn(move || {
        for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
            let _ = lines.send(String::from_utf8_lossy(&line).trim_end().to_owned());
        }
    });
    let (ends, mut all) = (Instant::now() + limit, String::new());
    loop {
        match received.recv_timeout(ends.saturating_duration_since(Instant::now())) {
            Ok(line) => all += &(line + "\n"),
            Err(mpsc::RecvTimeoutError::Timeout) => bail!("not ended after {limit:?}:\n{all}"),
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    let _ = reader.join();
    Ok(all)
}
