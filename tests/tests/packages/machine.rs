//! A machine on which packages can be installed.

use std::fs;

use sextant_tests::{Booted, Lab, Namespace, in_own_cgroup};

use crate::built::Packages;

/// What the machine boots to: no service of this machine, as there may be any.
const TARGET: &str = "[Unit]\nRequires=basic.target\nAfter=basic.target\n";
/// Mounts this machine's root as the lower layer of a directory, whose changes are in memory, and boots it. A policy of this machine that
/// keeps services from running is not of it, its manual pages need no index, and nothing waits for networks of NetworkManager.
const BOOT: &str = "mount -t tmpfs tmpfs \"$1\" && mkdir \"$1/changes\" \"$1/work\" \"$1/root\" \
    && mount -t overlay overlay -o \"lowerdir=/,upperdir=$1/changes,workdir=$1/work\" \"$1/root\" \
    && rm -rf \"$1/root/etc/sextant\" \"$1/root/var/lib/sextant\" \"$1/root/var/lib/private\" \
    && rm -f \"$1/root/usr/sbin/policy-rc.d\" \"$1/root/var/lib/man-db/auto-update\" \
    && ln -sf /dev/null \"$1/root/etc/systemd/system/NetworkManager-wait-online.service\" && shift && exec systemd-nspawn \"$@\"";

/// Boots a machine with the files of this one, of which nothing is changed, in a network namespace.
pub fn boot(lab: &Lab, namespace: &Namespace) -> Booted {
    let name = namespace.name();
    let layers = lab.dir().join(format!("layers-{name}"));
    fs::create_dir_all(&layers).unwrap();
    let units = lab.dir().join(format!("units-{name}"));
    fs::create_dir_all(&units).unwrap();
    fs::write(units.join("lab.target"), TARGET).unwrap();
    let mut words = in_own_cgroup(namespace).to_vec();
    words.extend(["unshare", "--mount", "sh", "-c", BOOT, "sh"].map(str::to_owned));
    words.push(layers.display().to_string());
    words.push(format!("--directory={}", layers.join("root").display()));
    words.extend(["--quiet", "--boot", "--register=no", "--keep-unit", "--console=pipe"].map(str::to_owned));
    words.push("--capability=CAP_NET_ADMIN,CAP_NET_RAW".to_owned());
    words.push(format!("--machine={name}"));
    words.push(format!("--network-namespace-path={}", namespace.path().display()));
    words.push(format!("--bind-ro={}:/etc/systemd/system/lab.target", units.join("lab.target").display()));
    words.push(format!("--bind-ro={}:/packages/present", Packages::present().dir().display()));
    words.push(format!("--bind-ro={}:/packages/earlier", Packages::earlier().dir().display()));
    words.push("systemd.unit=lab.target".to_owned());
    let environment = [("SYSTEMD_NSPAWN_API_VFS_WRITABLE".to_owned(), "network".to_owned())];
    let nspawn = namespace.spawn_with(&format!("nspawn-{name}"), &words, &environment).unwrap();
    Booted::wait(namespace, nspawn)
}

/// Installs packages of a directory, as `apt-get install ./FILE` does with their dependencies there.
pub fn install(machine: &Booted, version: &str, packages: &[&str]) {
    let files: Vec<_> = packages.iter().map(|name| format!("/packages/{version}/{name}.deb")).collect();
    dpkg(machine, &format!("dpkg --force-confdef --install {}", files.join(" ")));
}

/// Runs a line with dpkg; its output.
pub fn dpkg(machine: &Booted, line: &str) -> String {
    let line = format!("export DEBIAN_FRONTEND=noninteractive; {line} 2>&1");
    machine.run(&["sh", "-c", &line]).unwrap()
}
