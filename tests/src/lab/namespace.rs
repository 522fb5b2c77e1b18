//! A network namespace: owns its name, and runs code and commands in it.
//!
//! A thread enters it by setns(2); sockets and processes that the thread creates stay in the namespace. So a command runs in
//! the namespace from its first instruction, and sees the machine's own mounts, unlike with `ip netns exec`.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{PipeWriter, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::Arc,
    thread,
};

use anyhow::{Context, bail, ensure};
use nix::{
    sched::{CloneFlags, setns},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    Site, loops,
    poll::{SECONDS, try_poll},
    process::Process,
};

/// A network namespace of a lab.
#[derive(Debug, Clone)]
pub struct Namespace {
    site: Arc<Site>,
    name: String,
}

/// Runs an action in a thread in the network namespace with this file.
///
/// # Errors
/// If the namespace is gone.
///
/// # Panics
/// If `action` panics.
pub fn enter_at<T: Send>(path: &Path, action: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
    let file = File::open(path).with_context(|| format!("namespace {} is gone", path.display()))?;
    thread::scope(|scope| {
        let inside = scope.spawn(move || {
            setns(file, CloneFlags::CLONE_NEWNET).context("setns")?;
            Ok(action())
        });
        inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

impl Namespace {
    pub(crate) fn add(site: &Arc<Site>, suffix: &str) -> anyhow::Result<Self> {
        let name = format!("sx{}-{suffix}", site.id);
        let mut command = command_of(site, &["ip", "netns", "add", &name])?;
        succeeded(
            &["ip netns add", &name],
            &command.output().context("ip cannot be started; install iproute2")?,
        )?;
        Ok(Self { site: Arc::clone(site), name })
    }

    /// A namespace that exists already.
    pub(crate) fn existing(site: &Arc<Site>, name: &str) -> Self {
        Self { site: Arc::clone(site), name: name.to_owned() }
    }

    /// Kills the processes in it, and deletes it.
    pub(crate) fn delete(&self) -> anyhow::Result<()> {
        try_poll(10 * SECONDS, || {
            let left = self.processes()?;
            for pid in &left {
                // The process may have ended meanwhile.
                let _ = kill(*pid, Signal::SIGKILL);
            }
            ensure!(left.is_empty(), "processes {left:?} in {} do not end", self.name);
            Ok(())
        })?;
        let args = ["ip", "netns", "delete", &self.name];
        succeeded(&args, &command_of(&self.site, &args)?.output()?)
    }

    /// The processes in it, without zombies.
    fn processes(&self) -> anyhow::Result<Vec<Pid>> {
        let own = fs::metadata(self.path())?;
        let is_inside = |pid: &i32| {
            let its = fs::metadata(format!("/proc/{pid}/ns/net"));
            its.is_ok_and(|its| (its.dev(), its.ino()) == (own.dev(), own.ino()))
        };
        let names = fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let pids = names.filter_map(|name| name.parse().ok()).filter(is_inside);
        Ok(pids.map(Pid::from_raw).collect())
    }

    /// Its name in `/run/netns`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its file, for `nsenter --net=`.
    pub fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    /// The lab's directory.
    pub fn dir(&self) -> &Path {
        &self.site.dir
    }

    /// Runs `action` on a thread in the namespace. Sockets that it creates stay in the namespace.
    ///
    /// # Errors
    /// If the namespace is gone.
    ///
    /// # Panics
    /// If `action` panics.
    pub fn enter<T: Send>(&self, action: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
        enter_at(&self.path(), action)
    }

    /// Runs a command and waits for its end.
    ///
    /// # Errors
    /// If it cannot be started; not if it fails.
    pub fn run<S: AsRef<OsStr> + Sync>(&self, args: &[S]) -> anyhow::Result<Output> {
        let mut command = self.command(args)?;
        self.enter(|| command.stdin(Stdio::null()).output())?
            .with_context(|| format!("{} cannot be started", shown(args)))
    }

    /// Runs a command, waits for its end, and returns its standard output.
    ///
    /// # Errors
    /// If it fails, with its output.
    pub fn check<S: AsRef<OsStr> + Sync>(&self, args: &[S]) -> anyhow::Result<String> {
        let output = self.run(args)?;
        succeeded(args, &output)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs `ip` with these arguments (words without quoting): `ip("-6 route add unreachable 2001:db8:9::/48")`.
    ///
    /// # Errors
    /// If it fails, with its output.
    pub fn ip(&self, args: &str) -> anyhow::Result<String> {
        self.check(&[&["ip"], args.split_whitespace().collect::<Vec<_>>().as_slice()].concat())
    }

    /// Runs many `ip` commands, one per line.
    ///
    /// # Errors
    /// If one fails; the later ones do not run.
    pub fn ip_batch(&self, lines: &str) -> anyhow::Result<()> {
        let args = ["ip", "-batch", "-"];
        self.site.changed();
        let mut command = self.command(&args)?;
        let output = self.enter(|| {
            let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = piped.spawn()?;
            let mut pipe = child.stdin.take().expect("standard input is piped");
            let written = pipe.write_all(lines.as_bytes());
            drop(pipe);
            let output = child.wait_with_output()?;
            if output.status.success() { written.map(|()| output) } else { Ok(output) }
        })??;
        succeeded(&args, &output).with_context(|| format!("in {}:\n{lines}", self.name))
    }

    /// Sets a kernel parameter of the namespace, e.g. `net/ipv6/conf/all/forwarding` (with slashes).
    ///
    /// # Errors
    /// If it does not exist, or does not accept the value.
    pub fn sysctl(&self, key: &str, value: &str) -> anyhow::Result<()> {
        self.site.changed();
        let path = Path::new("/proc/sys").join(key);
        self.enter(|| fs::write(&path, value))?.with_context(|| format!("{key} = {value} in {}", self.name))
    }

    /// Starts a process; it is killed when the [`Process`] is dropped. Its output goes to `<name>.log` in the lab's directory.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn spawn<S: AsRef<OsStr> + Sync>(&self, name: &str, args: &[S]) -> anyhow::Result<Process> {
        self.spawn_with(name, args, &[])
    }

    /// As [`Namespace::spawn`], with more environment variables.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn spawn_with<S: AsRef<OsStr> + Sync>(
        &self,
        name: &str,
        args: &[S],
        environment: &[(String, String)],
    ) -> anyhow::Result<Process> {
        self.spawn_to(name, args, environment, None)
    }

    /// As [`Namespace::spawn_with`], with standard error to a pipe instead of the log.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn spawn_to<S: AsRef<OsStr> + Sync>(
        &self,
        name: &str,
        args: &[S],
        environment: &[(String, String)],
        stderr: Option<&PipeWriter>,
    ) -> anyhow::Result<Process> {
        self.site.changed();
        let log = self.site.new_log(name);
        let file = File::create(&log).with_context(|| format!("{} cannot be created", log.display()))?;
        let mut command = self.command(args)?;
        command.envs(environment.iter().map(|(key, value)| (key, value)));
        command.stdin(Stdio::null()).stdout(file.try_clone()?);
        match stderr {
            Some(pipe) => command.stderr(pipe.try_clone()?),
            None => command.stderr(file),
        };
        let child =
            self.enter(|| command.spawn())?.with_context(|| format!("{} cannot be started", shown(args)))?;
        Ok(Process::new(&self.site, name, child, log))
    }

    pub(crate) fn site(&self) -> &Arc<Site> {
        &self.site
    }

    fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> anyhow::Result<Command> {
        command_of(&self.site, args)
    }
}

fn command_of<S: AsRef<OsStr>>(site: &Site, args: &[S]) -> anyhow::Result<Command> {
    if loops::changes_something(args) {
        site.changed();
    }
    let Some((program, args)) = args.split_first() else {
        bail!("the command is empty");
    };
    let mut command = Command::new(program);
    // The settings of the user who runs the tests must not have an effect.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"SEXTANT_"))
    {
        command.env_remove(name);
    }
    // The reaper finds the lab's processes by SX_LAB.
    command.args(args).env("SX_LAB", &site.id).env("LC_ALL", "C");
    Ok(command)
}

fn succeeded<S: AsRef<OsStr>>(args: &[S], output: &Output) -> anyhow::Result<()> {
    ensure!(
        output.status.success(),
        "{}: {}: {}{}",
        shown(args),
        output.status,
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout)
    );
    Ok(())
}

pub(crate) fn shown<S: AsRef<OsStr>>(args: &[S]) -> String {
    let words: Vec<_> = args.iter().map(|arg| arg.as_ref().to_string_lossy()).collect();
    words.join(" ")
}
