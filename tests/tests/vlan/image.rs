//! The files of the virtual machine: busybox, the kernel's modules, this test executable with the programs of the build, and what
//! a lab runs, each with its libraries.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context;
use sextant_tests::bin;

use super::{
    archive::Archive,
    guest,
    kernel::{Kernel, output},
};

const MODULES: [&str; 6] = ["8021q", "bridge", "veth", "nf_tables", "nfnetlink", "tun"];
/// What a lab runs and busybox has not, or not with these flags. The setsid of busybox runs its own shell, and that all programs of its own.
const PROGRAMS: [&str; 11] =
    ["setsid", "sh", "ip", "ping", "grep", "sysctl", "awk", "stat", "find", "xargs", "rm"];
const BUSYBOX: &str = "/bin/busybox";
/// Where a test executable is, beside its build's programs.
const TESTS: &str = "/sextant/deps";

/// The archive that the kernel unpacks.
pub(super) fn of(kernel: &Kernel) -> anyhow::Result<Vec<u8>> {
    let mut archive = Archive::default();
    for directory in ["/dev", "/proc", "/sys", "/run", "/tmp", "/var/lib", "/etc", "/usr/bin", "/sbin"] {
        archive.directory(directory);
    }
    archive.device("/dev/console", (5, 1));
    archive.file(BUSYBOX, &fs::read(BUSYBOX).context("install busybox-static")?);
    archive.file("/init", init().as_bytes());
    let modules = kernel.modules(&MODULES)?;
    for (number, module) in modules.iter().enumerate() {
        archive.file(&format!("/modules/{number:02}.ko"), &fs::read(module)?);
    }
    let mut libraries = BTreeSet::new();
    for program in PROGRAMS {
        let path = which(program)?;
        add(&mut archive, &mut libraries, &format!("/usr/bin/{program}"), &path)?;
    }
    for program in ["sextant", "sextant-agent", "sextant-controller"] {
        add(&mut archive, &mut libraries, &format!("/sextant/{program}"), &bin(program)?)?;
    }
    add(&mut archive, &mut libraries, &format!("{TESTS}/vlan"), &env::current_exe()?)?;
    for library in libraries {
        archive.file(&library.display().to_string(), &fs::read(&library)?);
    }
    Ok(archive.finish())
}

fn add(
    archive: &mut Archive,
    libraries: &mut BTreeSet<PathBuf>,
    name: &str,
    program: &Path,
) -> anyhow::Result<()> {
    archive.file(name, &fs::read(program)?);
    let shown = output(Command::new("ldd").arg(program))?;
    libraries.extend(shown.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from));
    Ok(())
}

fn which(program: &str) -> anyhow::Result<PathBuf> {
    let directories = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"].map(|it| Path::new(it).join(program));
    directories
        .into_iter()
        .find(|path| path.exists())
        .with_context(|| format!("there is no program {program}"))
}

/// The first process of the virtual machine: runs the tests, and ends it.
fn init() -> String {
    let module = guest::MODULE;
    format!(
        "#!{BUSYBOX} sh
{BUSYBOX} --install -s /sbin
export PATH=/usr/bin:/sbin RUST_BACKTRACE=0
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
for module in /modules/*; do insmod $module; done
ip link set lo up
{TESTS}/vlan --ignored --nocapture --test-threads 1 {module}::
poweroff -f
"
    )
}
