//! Podman of a host, from a root directory of a release of Debian. It has no daemon: each command starts in the host's namespace, and
//! in the [keeper's](super::keeper).

use std::path::{Path, PathBuf};

use super::{host::Host, image, keeper::Keeper};

/// Its settings, and an image that has the name of one that documents use. Its containers have no cgroups: crun takes those of version 2
/// only, and refuses a machine with both.
const SET_UP: &str = r#"
    [ -e /sys/fs/cgroup/cgroup.controllers ] || mount -t cgroup2 cgroup2 /sys/fs/cgroup || exit
    mkdir -p /etc/containers/networks && cd /etc/containers &&
    printf '[storage]\ndriver = "vfs"\nrunroot = "/run/containers/storage"\ngraphroot = "/var/lib/containers/storage"\n' >storage.conf &&
    printf '[containers]\ncgroups = "disabled"\n[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n' >containers.conf &&
    printf '[network]\nnetwork_backend = "netavark"\n' >>containers.conf &&
    podman import --quiet --change 'CMD ["sleep", "100000"]' "$1" docker.io/library/nginx
"#;

/// Podman on a host, and its containers.
#[derive(Debug)]
pub struct Podman {
    host: Host,
    keeper: Keeper,
}

impl Podman {
    /// Sets it up in this root directory, whose changes are in memory.
    ///
    /// # Errors
    /// If it cannot import the image for containers.
    pub fn start(host: &Host, root: &Path) -> anyhow::Result<Self> {
        let dir = host.dir().join(format!("podman-{}", host.name()));
        std::fs::create_dir_all(&dir)?;
        let keeper = Keeper::start(host, &format!("podman-{}-keeper", host.name()), &dir, Some(root))?;
        let podman = Self { host: host.clone(), keeper };
        podman.inside(&["sh", "-c", SET_UP, "sh", &image::archive(&dir)?.display().to_string()])?;
        Ok(podman)
    }

    /// Writes a file of its root directory.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, path: &str, text: &str) -> anyhow::Result<()> {
        Ok(std::fs::write(self.keeper.outside(path)?, text)?)
    }

    /// Runs a script of a shell as root of the host, until its first failure; its standard output, without white space around it.
    ///
    /// # Errors
    /// If a command fails; with its output.
    pub fn shell(&self, script: &str) -> anyhow::Result<String> {
        self.inside(&["sh", "-ec", script])
    }

    /// Runs `podman` with these arguments; its standard output, without white space around it.
    ///
    /// # Errors
    /// If it fails; with its output.
    pub fn run(&self, args: &[&str]) -> anyhow::Result<String> {
        self.inside(&[&["podman"], args].concat())
    }

    /// The network namespace of a container.
    ///
    /// # Errors
    /// If the container does not run.
    pub fn namespace_of(&self, container: &str) -> anyhow::Result<PathBuf> {
        let pid = self.run(&["inspect", "-f", "{{.State.Pid}}", container])?;
        self.keeper.outside(&format!("/proc/{pid}/ns/net"))
    }

    fn inside(&self, words: &[&str]) -> anyhow::Result<String> {
        let inside = self.keeper.inside()?;
        let inside: Vec<_> = inside.iter().map(String::as_str).collect();
        Ok(self.host.check(&[&inside[..], words].concat())?.trim().to_owned())
    }
}
