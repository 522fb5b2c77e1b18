//! Removal of labs: owns the reaper process and the record of each lab's owner.
//!
//! The reaper (`reaper.sh`) reads from a pipe of which only the lab's owner holds the other end (close-on-exec, so no child
//! of the owner inherits it). The kernel closes that end however the owner dies; then the reaper kills the lab's processes
//! and deletes its namespaces and its directory. An orderly removal is the same: the owner closes the pipe and waits.

use std::{
    fs,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, SystemTime},
};

use anyhow::{Context, bail};

/// The directory of the labs' directories; owned by root.
const LABS: &str = "/var/lib/sextant-lab";
const SCRIPT: &str = include_str!("reaper.sh");
/// A directory without a record belongs to a lab that is being created, unless it is older than this.
const CREATION_TIMEOUT: Duration = Duration::from_secs(60);

/// A child process that removes the lab when its owner ends.
#[derive(Debug)]
pub(crate) struct Reaper {
    child: Child,
}

impl Reaper {
    /// Starts a reaper for a lab; the namespaces need not exist yet.
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

    /// Removes the lab, and waits until that is done.
    pub(crate) fn reap(mut self) -> anyhow::Result<()> {
        drop(self.child.stdin.take());
        self.child.wait()?;
        Ok(())
    }

    /// Ends the reaper without removing the lab.
    pub(crate) fn disarm(mut self) -> anyhow::Result<()> {
        let mut pipe = self.child.stdin.take().context("the reaper's pipe is closed")?;
        pipe.write_all(b"keep\n")?;
        self.child.wait()?;
        Ok(())
    }
}

/// Creates a lab's directory, with a record of this process as its owner.
pub(crate) fn make_dir(id: &str, test: &str) -> anyhow::Result<PathBuf> {
    let dir = dir_of(id);
    fs::create_dir_all(&dir).with_context(|| format!("{} cannot be created", dir.display()))?;
    let pid = std::process::id();
    let started = start_time(pid).context("this process is not in /proc")?;
    fs::write(dir.join("owner"), format!("{pid} {started} {test}\n"))?;
    Ok(dir)
}

/// Records that a lab is kept when its owner ends.
pub(crate) fn mark_kept(dir: &Path) -> anyhow::Result<()> {
    Ok(fs::write(dir.join("kept"), "")?)
}

/// Removes the lab with this id, of any owner; for kept labs.
///
/// # Errors
/// If there is no such lab, or its removal is incomplete.
pub fn remove(id: &str) -> anyhow::Result<()> {
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        bail!("\"{id}\" is not a lab id; the ids are the directories in {LABS}");
    }
    if !dir_of(id).exists() && namespaces(id)?.is_empty() {
        bail!("there is no lab \"{id}\"; labs: {}", ids()?.join(", "));
    }
    Reaper::start(id, &dir_of(id))?.reap()?;
    check_removed(id)
}

/// Checks that nothing of a lab is left.
pub(crate) fn check_removed(id: &str) -> anyhow::Result<()> {
    let left = namespaces(id)?;
    if !left.is_empty() || dir_of(id).exists() {
        bail!("lab {id} is not removed completely: namespaces {left:?}, directory {}", dir_of(id).display());
    }
    Ok(())
}

/// Removes leftover labs: their owner has ended, and they are not kept. Usually their reaper does that; this is for labs
/// whose reaper was killed. Several processes may sweep at the same time.
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
        return age(dir).is_some_and(|age| age > CREATION_TIMEOUT);
    };
    let mut words = record.split(' ');
    let owner = words.next().and_then(|pid| pid.parse().ok());
    owner.and_then(start_time).as_deref() != words.next()
}

fn age(dir: &Path) -> Option<Duration> {
    let made = fs::metadata(dir).ok()?.modified().ok()?;
    SystemTime::now().duration_since(made).ok()
}

/// The start time of a process in ticks since boot (proc_pid_stat(5), field 22). It differs for a later process of the same pid.
fn start_time(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(") ")?;
    after_name.split(' ').nth(19).map(str::to_owned)
}
