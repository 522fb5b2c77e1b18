//! A PID namespace and a mount namespace in a host's network, for a container engine, and the process that holds them.
//!
//! Everything that the engine starts is in them, and ends with the keeper. They have this machine's root directory, or that of another
//! release of Debian.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;

use super::{
    host::Host,
    poll::{SECONDS, try_poll},
    process::Process,
};

/// Makes a root directory, whose changes are in memory, the root: containers of an engine in a chroot would see the outer root.
const PIVOT: &str = r#"
    root=$1 dir=$2
    mount -t tmpfs tmpfs /mnt && mkdir /mnt/upper /mnt/work /mnt/root &&
    mount -t overlay overlay -o "lowerdir=$root,upperdir=/mnt/upper,workdir=/mnt/work" /mnt/root &&
    mkdir -p "/mnt/root$dir" /mnt/root/outer && mount --bind "$dir" "/mnt/root$dir" &&
    mount --rbind /sys /mnt/root/sys && mount --rbind /dev /mnt/root/dev && mount -t proc proc /mnt/root/proc &&
    cd /mnt/root && pivot_root . outer && umount -l /outer || exit
"#;
/// The first process of the namespaces: it reaps what is left to it.
const KEEPER: &str = "mount -t tmpfs tmpfs /run && mkdir -p /run/docker/plugins && touch /run/keeper && trap : CHLD && \
                      while :; do sleep 1000 & wait; done";

/// The process that holds the namespaces.
#[derive(Debug)]
pub struct Keeper {
    process: Process,
}

impl Keeper {
    /// Starts it. `dir` is the same directory inside; `root` is another root directory.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(host: &Host, name: &str, dir: &Path, root: Option<&Path>) -> anyhow::Result<Self> {
        let script = if root.is_some() { format!("{PIVOT}{KEEPER}") } else { KEEPER.to_owned() };
        let root = root.map(|root| root.display().to_string()).unwrap_or_default();
        let unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
        let dir = dir.display().to_string();
        let words = [&unshare[..], &["sh", "-c", &script, "keeper", &root, &dir]].concat();
        Ok(Self { process: host.spawn(name, &words)? })
    }

    /// The words that enter the namespaces, before a command.
    ///
    /// # Errors
    /// If the namespaces do not exist yet.
    pub fn inside(&self) -> anyhow::Result<Vec<String>> {
        let child = self.child()?;
        Ok(["nsenter", "--target", &child, "--mount", "--pid", "--"].map(str::to_owned).to_vec())
    }

    /// A path inside, as this machine sees it.
    ///
    /// # Errors
    /// If the namespaces do not exist yet.
    pub fn outside(&self, path: &str) -> anyhow::Result<PathBuf> {
        Ok(format!("/proc/{}/root{path}", self.child()?).into())
    }

    /// The first process in the namespaces.
    fn child(&self) -> anyhow::Result<String> {
        let pid = self.process.pid();
        let child = try_poll(5 * SECONDS, || {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
            children.split_whitespace().next().map(str::to_owned).context("unshare has no child yet")
        })?;
        try_poll(5 * SECONDS, || fs::metadata(format!("/proc/{child}/root/run/keeper")))?;
        Ok(child)
    }
}
