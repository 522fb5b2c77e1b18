//! Debian's kernel for virtual machines: downloaded and unpacked, not installed, and kept for the next run.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};

/// Where the unpacked packages are.
const KERNELS: &str = "/var/cache/sextant-kernels";
/// The package that depends on the present version.
const LATEST: &str = "linux-image-cloud-amd64";

/// An unpacked kernel.
pub(super) struct Kernel {
    /// What is booted.
    pub(super) program: PathBuf,
    root: PathBuf,
    version: String,
}

/// The present version. One that was not finished is downloaded again.
pub(super) fn unpacked() -> anyhow::Result<Kernel> {
    let depends = output(Command::new("apt-cache").args(["depends", LATEST]))?;
    let package = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: linux-image-"));
    let version =
        package.with_context(|| format!("{LATEST} is not in the package lists: {depends}"))?.to_owned();
    let root = Path::new(KERNELS).join(&version);
    let kernel = Kernel { program: root.join(format!("boot/vmlinuz-{version}")), root, version };
    if !kernel.root.exists() {
        kernel.download()?;
    }
    Ok(kernel)
}

impl Kernel {
    fn download(&self) -> anyhow::Result<()> {
        let partial = self.root.with_extension("partial");
        let _none = fs::remove_dir_all(&partial);
        fs::create_dir_all(&partial)?;
        let package = format!("linux-image-{}", self.version);
        output(Command::new("apt-get").args(["download", "-q", &package]).current_dir(&partial))?;
        let mut files = fs::read_dir(&partial)?.flatten().map(|file| file.path());
        let file = files.next().with_context(|| format!("apt-get has not downloaded {package}"))?;
        output(Command::new("dpkg-deb").arg("-x").args([&file, &partial]))?;
        fs::remove_file(&file)?;
        output(Command::new("depmod").arg("-b").arg(&partial).arg(&self.version))?;
        Ok(fs::rename(&partial, &self.root)?)
    }

    /// The files of these modules, each after those that it needs.
    pub(super) fn modules(&self, names: &[&str]) -> anyhow::Result<Vec<PathBuf>> {
        let mut all = Vec::new();
        for name in names {
            let mut modprobe = Command::new("modprobe");
            let shown =
                output(modprobe.args(["-S", &self.version, "--show-depends", name, "-d"]).arg(&self.root))?;
            let files = shown.lines().filter_map(|line| line.trim().strip_prefix("insmod "));
            for file in files.map(|file| PathBuf::from(file.trim())) {
                if !all.contains(&file) {
                    all.push(file);
                }
            }
        }
        Ok(all)
    }
}

pub(super) fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("{command:?} cannot be started"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}
