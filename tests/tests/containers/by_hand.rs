//! Containers with static addresses: their engine puts them on the agent's bridge, or the operator does.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use sextant_tests::{Docker, Host};

use crate::{
    bed::{Bed, OWN},
    documented::{blocks, by_hand},
};

/// A root directory with busybox.
fn root(host: &Host) -> PathBuf {
    let root = host.dir().join("root");
    for dir in ["bin", "dev", "etc", "proc", "run", "sbin", "sys", "tmp", "usr", "var", "root"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    for program in ["sh", "sleep", "ip", "ping"] {
        symlink("busybox", root.join("bin").join(program)).unwrap();
    }
    fs::write(root.join("etc/os-release"), "ID=lab\n").unwrap();
    root
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn systemd_nspawn_puts_containers_on_the_bridge() {
    let bed = Bed::start("nspawn");
    let root = root(bed.host());
    let inside = blocks("systemd-nspawn", "sh", bed.prefix).remove(1);
    let script = format!("set -e\n{inside}exec sleep 1000");
    let name = format!("--machine={}", bed.unique("nspawn"));
    let (directory, run) = (format!("--directory={}", text(&root)), ["--as-pid2", "/bin/sh", "-c", &script]);
    let bridge = format!("--network-bridge={OWN}");
    let nspawn = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", &bridge];
    let words = [&nspawn[..], &[name.as_str(), directory.as_str()], &run].concat();
    let container = bed.host().spawn("nspawn", &words).unwrap();
    bed.is_reached();
    drop(container);
}

/// Its own tool mounts the host's `/sys` to find the bridge, so it gets the one of this namespace.
#[test]
fn lxc_puts_containers_on_the_bridge() {
    let bed = Bed::start("lxc");
    let (root, containers) = (root(bed.host()), bed.host().dir().join("lxc"));
    fs::create_dir_all(containers.join("web")).unwrap();
    let config = format!(
        "lxc.uts.name = web\nlxc.cgroup.dir = {}\nlxc.rootfs.path = dir:{}\nlxc.apparmor.profile = unconfined\n{}",
        bed.unique("lxc"),
        text(&root),
        blocks("lxc", "text", bed.prefix).remove(0)
    );
    fs::write(containers.join("web/config"), config).unwrap();
    let script = format!(
        "mount --rbind /sys/fs/cgroup /mnt && mount -t sysfs sysfs /sys && mount --move /mnt /sys/fs/cgroup &&
         exec lxc-start --foreground --lxcpath {} --name web -- /bin/sleep 1000",
        text(&containers)
    );
    let words =
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", &script];
    let container = bed.host().spawn("lxc", &words).unwrap();
    bed.is_reached();
    drop(container);
    remove_pivot();
}

/// LXC leaves a cgroup that all its containers share. It cannot be removed while one runs, and is made again by the next one.
fn remove_pivot() {
    let root = Path::new("/sys/fs/cgroup");
    let controllers = fs::read_dir(root).into_iter().flatten().flatten().map(|it| it.path());
    for parent in controllers.chain([root.to_owned()]) {
        let _busy_or_absent = fs::remove_dir(parent.join("lxc.pivot"));
    }
}

/// As Docker's IPv6 guide does it.
#[test]
fn a_container_without_a_network_gets_one_by_hand() {
    let bed = Bed::start("docker run --network none");
    let docker = Docker::start(bed.host(), &[]).unwrap();
    // The image of the lab has no command of its own.
    let commands = by_hand(bed.prefix, "docker").replace("none nginx", "none lab sleep 1000");
    let script = format!("export DOCKER_HOST=unix://{}\n{commands}", docker.socket().display());
    let inside = docker.inside().unwrap();
    let inside: Vec<_> = inside.iter().map(String::as_str).collect();
    bed.host().check(&[&inside[..], &["sh", "-ec", &script]].concat()).unwrap();
    bed.is_reached();
}
