//! A real process in a namespace, and its log.

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, ExitStatus},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use anyhow::{Context, anyhow, bail, ensure};
use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};

use super::{
    Site,
    poll::{SECONDS, try_poll},
};

/// A process; killed when dropped, unless its lab is kept.
#[derive(Debug)]
pub struct Process {
    site: Arc<Site>,
    name: String,
    pid: u32,
    child: Mutex<Child>,
    log: PathBuf,
}

/// A line of a log, and when it was read (within some milliseconds of its writing).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When it was read.
    pub seen: SystemTime,
    /// The line.
    pub text: String,
}

impl Process {
    pub(crate) fn new(site: &Arc<Site>, name: &str, child: Child, log: PathBuf) -> Self {
        Self { site: Arc::clone(site), name: name.to_owned(), pid: child.id(), child: Mutex::new(child), log }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// If the process has ended.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        // The lock prevents the reaping of the child, so the pid is still its own.
        let mut child = self.lock();
        if let Some(status) = child.try_wait()? {
            bail!("{} has already ended: {status}; last log lines:\n{}", self.name, tail(&self.log, 10));
        }
        self.site.changed();
        let pid = Pid::from_raw(i32::try_from(self.pid).context("process id")?);
        signal::kill(pid, signal).with_context(|| format!("{signal} to {}", self.name))
    }

    /// Kills it (SIGKILL) and waits for its end.
    ///
    /// # Errors
    /// If it has already ended.
    pub fn kill(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.lock().wait()?;
        Ok(())
    }

    /// Sends SIGTERM and waits for its end.
    ///
    /// # Errors
    /// If it has already ended, or on the deadline.
    pub fn terminate(&self, deadline: Duration) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.wait(deadline)
    }

    /// Freezes it (SIGSTOP) until [`Process::thaw`]. It has stopped when this returns: a thread that runs stops a moment after the signal.
    ///
    /// # Errors
    /// If it has ended.
    pub fn freeze(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGSTOP)?;
        try_poll(SECONDS, || {
            for thread in fs::read_dir(format!("/proc/{}/task", self.pid()))? {
                let stat = fs::read_to_string(thread?.path().join("stat"))?;
                let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
                ensure!(state == Some('T'), "a thread is in state {state:?}");
            }
            Ok(())
        })
    }

    /// Continues it (SIGCONT).
    ///
    /// # Errors
    /// If it has ended.
    pub fn thaw(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// Its exit status, if it has ended.
    ///
    /// # Errors
    /// If waitpid(2) fails.
    pub fn ended(&self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.lock().try_wait()?)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// On the deadline.
    pub fn wait(&self, deadline: Duration) -> anyhow::Result<ExitStatus> {
        try_poll(deadline, || {
            self.ended()?.ok_or_else(|| {
                anyhow!(
                    "{} still runs after {deadline:?}; last log lines:\n{}",
                    self.name,
                    tail(&self.log, 10)
                )
            })
        })
    }

    /// Its standard output and standard error so far.
    pub fn log(&self) -> String {
        fs::read(&self.log)
            .map_or_else(|error| error.to_string(), |text| String::from_utf8_lossy(&text).into_owned())
    }

    /// The number of lines of level info and above in a daemon's log.
    pub fn logged_lines(&self) -> usize {
        super::logs::count(&self.log())
    }

    /// The length of its log in octets, for [`Process::wait_for_line_after`].
    pub fn log_len(&self) -> usize {
        fs::metadata(&self.log).map_or(0, |file| usize::try_from(file.len()).unwrap_or(usize::MAX))
    }

    /// Waits for the first line of its log that contains `pattern`.
    ///
    /// # Errors
    /// On the deadline, or if the process ends without such a line.
    pub fn wait_for_line(&self, pattern: &str, deadline: Duration) -> anyhow::Result<LogLine> {
        self.wait_for_line_after(0, pattern, deadline)
    }

    /// As [`Process::wait_for_line`], without the first `skip` octets of the log.
    ///
    /// # Errors
    /// As there.
    pub fn wait_for_line_after(
        &self,
        skip: usize,
        pattern: &str,
        deadline: Duration,
    ) -> anyhow::Result<LogLine> {
        let line = || {
            // Checked before the log is read, so that the last lines are not missed.
            let ended = self.ended()?;
            let log = fs::read(&self.log)?;
            let text = String::from_utf8_lossy(log.get(skip..).unwrap_or_default()).into_owned();
            let seen = SystemTime::now();
            match text.lines().find(|line| line.contains(pattern)) {
                Some(line) => Ok(Some(LogLine { seen, text: line.to_owned() })),
                None if ended.is_some() => Ok(None),
                None => Err(anyhow!("no such line yet")),
            }
        };
        let end = match try_poll(deadline, line) {
            Ok(Some(line)) => return Ok(line),
            Ok(None) => "when it ended".to_owned(),
            Err(_) => format!("after {deadline:?}"),
        };
        bail!("{} has no line with \"{pattern}\" {end}; last log lines:\n{}", self.name, tail(&self.log, 10))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.site.is_kept() {
            self.site.changed();
            let mut child = self.lock();
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Whether this signal ended the process.
pub fn ended_by(status: ExitStatus, signal: Signal) -> bool {
    status.signal() == Some(signal as i32)
}

/// The last `lines` lines of a file.
pub(crate) fn tail(path: &Path, lines: usize) -> String {
    let text = match fs::read(path) {
        Ok(text) => String::from_utf8_lossy(&text).into_owned(),
        Err(error) => return format!("{}: {error}", path.display()),
    };
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
