//! What takes labs down: owns the reaper child and the record of who owns which lab.
//!
//! The reaper (`reaper.sh`) reads from a pipe whose other end only the lab's owner has (close-on-exec, so no child of the
//! owner inherits it). The kernel closes that end however the owner dies; the reaper then kills the lab's processes and
//! deletes its namespaces and its directory. The ordinary way down is the same: the owner closes the pipe and waits.

use std::{
    fs,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, SystemTime},
};

use anyhow::{Context, bail};

/// Where the labs' directories are; root's own.
const LABS: &str = "/var/lib/sextant-lab";
const SCRIPT: &str = include_str!("reaper.sh");
/// A directory without a record is one that is being made, unless it is older than this.
const BIRTH: Duration = Duration::from_secs(60);

/// A child that takes the lab down when its owner is gone.
#[derive(Debug)]
pub(crate) struct Reaper {
    child: Child,
}

impl Reaper {
    /// Starts it for a lab, whose namespaces need not exist yet.
    pub(crate) fn start(id: &str, dir: &Path) -> anyhow::Result<Self> {
        let child = Command::new("setsid")
            .args(["sh", "-c", SCRIPT, "sextant-lab-reaper", id])
            .arg(dir)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("setsid cannot be started; install util-linux")?;
        Ok(Self { child })
    }

    /// Takes the lab down, and is back when that is done.
    pub(crate) fn reap(mut self) -> anyhow::Result<()> {
        drop(self.child.stdin.take());
        self.child.wait()?;
        Ok(())
    }

    /// Ends the reaper and lets the lab stand.
    pub(crate) fn disarm(mut self) -> anyhow::Result<()> {
        let mut pipe = self.child.stdin.take().context("the reaper's pipe is closed")?;
        pipe.write_all(b"keep\n")?;
        self.child.wait()?;
        Ok(())
    }
}

/// Makes a lab's directory, with the record of this process as its owner.
pub(crate) fn make_dir(id: &str, test: &str) -> anyhow::Result<PathBuf> {
    let dir = dir_of(id);
    fs::create_dir_all(&dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    let pid = std::process::id();
    let started = start_time(pid).context("/proc does not know this process")?;
    fs::write(dir.join("owner"), format!("{pid} {started} {test}\n"))?;
    Ok(dir)
}

/// Records that a lab is to stand when its owner is gone.
pub(crate) fn mark_kept(dir: &Path) -> anyhow::Result<()> {
    Ok(fs::write(dir.join("kept"), "")?)
}

/// Takes down the lab with this id, whoever made it; for labs that were kept.
///
/// # Errors
/// If there is no such lab, or something of it is left.
pub fn remove(id: &str) -> anyhow::Result<()> {
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        bail!("\"{id}\" is no lab id; ids are the directories in {LABS}");
    }
    if !dir_of(id).exists() && namespaces(id)?.is_empty() {
        bail!("there is no lab \"{id}\"; labs: {}", ids()?.join(", "));
    }
    Reaper::start(id, &dir_of(id))?.reap()?;
    check_gone(id)
}

/// Says what is left of a lab, as an error.
pub(crate) fn check_gone(id: &str) -> anyhow::Result<()> {
    let left = namespaces(id)?;
    if !left.is_empty() || dir_of(id).exists() {
        bail!("lab {id} is not gone: namespaces {left:?}, directory {}", dir_of(id).display());
    }
    Ok(())
}

/// Takes down the labs whose owner is dead and which were not to be kept. Their reapers do that too; this is for those
/// whose reaper was killed. What another process is sweeping at the same time is no error.
pub(crate) fn sweep() -> anyhow::Result<()> {
    for id in ids()? {
        if is_leftover(&dir_of(&id)) {
            Reaper::start(&id, &dir_of(&id))?.reap()?;
        }
    }
    Ok(())
}

fn dir_of(id: &str) -> PathBuf {
    Path::new(LABS).join(id)
}

fn ids() -> anyhow::Result<Vec<String>> {
    names_in(Path::new(LABS))
}

/// The names of the lab's network namespaces.
pub(crate) fn namespaces(id: &str) -> anyhow::Result<Vec<String>> {
    let mut names = names_in(Path::new("/run/netns"))?;
    names.retain(|name| name.starts_with(&format!("sx{id}-")));
    Ok(names)
}

fn names_in(dir: &Path) -> anyhow::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    Ok(names.collect())
}

fn is_leftover(dir: &Path) -> bool {
    if dir.join("kept").exists() {
        return false;
    }
    let Ok(record) = fs::read_to_string(dir.join("owner")) else {
        return age(dir).is_some_and(|age| age > BIRTH);
    };
    let mut words = record.split(' ');
    let owner = words.next().and_then(|pid| pid.parse().ok());
    owner.and_then(start_time).as_deref() != words.next()
}

fn age(dir: &Path) -> Option<Duration> {
    let made = fs::metadata(dir).ok()?.modified().ok()?;
    SystemTime::now().duration_since(made).ok()
}

/// When a process started, in ticks since boot (proc_pid_stat(5), field 22): tells it from a later one of the same pid.
fn start_time(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(") ")?;
    after_name.split(' ').nth(19).map(str::to_owned)
}
