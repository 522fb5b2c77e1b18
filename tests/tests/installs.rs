//! Each script installs the Debian packages that it needs, and no others.
//!
//! The unmodified scripts run up to their first call of cargo. Fakes are first in PATH: a dpkg-query that reports nothing as
//! installed, and an apt-get that records its command line. A mount namespace protects the machine's directories.
#![allow(clippy::unwrap_used)] // Clippy does not see that a test's own functions are of a test.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

const BUILD: &[&str] = &["gcc", "libc6-dev", "protobuf-compiler", "libprotobuf-dev"];
const PACKAGE: &[&str] = &["debhelper", "dpkg-dev"];
const LINT: &[&str] = &["lintian"];
const LAB: &[&str] = &["iproute2", "iputils-ping", "procps", "util-linux", "kmod", "nftables"];
const ETCD: &[&str] = &["etcd-server", "etcd-client"];
const ROUTERS: &[&str] = &["bird2", "frr", "gobgpd", "exabgp", "radvd"];
const SYSTEMD: &[&str] = &["systemd", "systemd-container"];
const MANAGERS: &[&str] = &["dbus", "network-manager", "dhcpcd-base", "ifupdown"];
const CLOCK: &[&str] = &["faketime", "libfaketime"];
const CONTAINERS: &[&str] = &["lxc", "busybox-static"];
const DOCKER: &[&str] = &["docker.io", "iptables", "busybox-static"];
const COMPOSE: &[&str] = &["docker-compose"];
const NDP: &[&str] = &["ndppd"];
const PROMETHEUS: &[&str] = &["prometheus"];
const ROOTS: &[&str] = &["debootstrap"];
const MACHINES: &[&str] = &["qemu-system-x86", "busybox-static"];

/// Records its arguments and the exit code of policy-rc.d; fails if the file `failing` exists.
const APT_GET: &str = r#"#!/bin/sh
echo "$@" >>"$HERE/apt"
[ -x /usr/sbin/policy-rc.d ] && /usr/sbin/policy-rc.d || echo "$?" >>"$HERE/policy"
echo "Reading package lists"
echo "a package manager's warning" >&2
[ ! -e "$HERE/failing" ]
"#;

/// A directory with the fake programs.
struct Fakes(TempDir);

impl Fakes {
    fn new() -> Self {
        let fakes = Self(tempfile::tempdir().unwrap());
        fs::create_dir(fakes.path("bin")).unwrap();
        fakes.program("dpkg-query", "#!/bin/sh\nexit 1\n");
        fakes.program("apt-get", APT_GET);
        fakes.program("cargo", "#!/bin/sh\necho no build here >&2\nexit 1\n");
        for dir in ["sbin", "etc", "lib"] {
            fs::create_dir(fakes.path(dir)).unwrap();
        }
        fakes
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn program(&self, name: &str, text: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Runs a script of the repository.
    fn run(&self, line: &str) -> Output {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mounts = "mount --bind \"$HERE/sbin\" /usr/sbin && mkdir -p /etc/systemd/system /lib/systemd/system \
                      && mount --bind \"$HERE/etc\" /etc/systemd/system && mount --bind \"$HERE/lib\" /lib/systemd/system";
        Command::new("unshare")
            .args(["--mount", "sh", "-c", &format!("{mounts} && exec {line}")])
            .current_dir(root)
            .env("HERE", self.0.path())
            .env("PATH", format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap()))
            .env_remove("SUDO_USER")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// The packages of a script's first call of apt-get.
    fn installed_by(&self, line: &str) -> BTreeSet<String> {
        let output = self.run(line);
        let calls = fs::read_to_string(self.path("apt"))
            .unwrap_or_else(|_| panic!("{line} installs nothing: {output:?}"));
        let (_, packages) = calls.lines().next().unwrap().split_once("DPkg::Lock::Timeout=300 ").unwrap();
        packages.split(' ').map(str::to_owned).collect()
    }
}

fn installs(line: &str, groups: &[&[&str]]) {
    let expected: BTreeSet<_> = groups.concat().into_iter().map(str::to_owned).collect();
    assert_eq!(Fakes::new().installed_by(line), expected, "{line}");
}

#[test]
fn each_script_installs_the_packages_that_it_needs() {
    installs("deploy/demo", &[BUILD, LAB]);
    installs("deploy/demo --store embedded", &[BUILD, LAB]);
    installs("deploy/demo --hosts 4 --store etcd --keep", &[BUILD, LAB, ETCD]);
    installs("deploy/demo --store=etcd", &[BUILD, LAB, ETCD]);
    installs("deploy/demo --docker --hosts 4", &[BUILD, LAB, DOCKER]);
    let all = [
        BUILD, PACKAGE, LINT, LAB, ETCD, ROUTERS, SYSTEMD, MANAGERS, CLOCK, DOCKER, CONTAINERS, COMPOSE, NDP,
        PROMETHEUS, ROOTS, MACHINES,
    ];
    installs("tests/run", &all);
    installs("deploy/package", &[BUILD, PACKAGE]);
    installs("tests/soak", &[BUILD, LAB, ETCD]);
    installs("tests/bench", &[BUILD, LAB, ETCD, ROUTERS, DOCKER, NDP]);
    installs("tests/bench ndp", &[BUILD, LAB, NDP]);
    installs("tests/bench docker", &[BUILD, LAB, DOCKER]);
    installs("tests/bench idle join", &[BUILD, LAB]);
    installs("tests/bench join --store etcd", &[BUILD, LAB, ETCD]);
    installs("tests/bench routes --only bird", &[BUILD, LAB, ROUTERS]);
    installs("tests/bench bgp claims", &[BUILD, LAB, ETCD, ROUTERS]);
}

#[test]
fn output_of_apt_get_is_shown_only_if_it_fails() {
    let text = |output: Output| String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    let fakes = Fakes::new();
    let good = text(fakes.run("deploy/demo"));
    assert!(good.contains("Installing Debian packages: gcc "), "{good}");
    assert!(!good.contains("Reading package lists") && !good.contains("warning"), "{good}");

    fs::write(fakes.path("failing"), "").unwrap();
    let bad = text(fakes.run("deploy/demo"));
    for expected in
        ["Reading package lists", "a package manager's warning", "These packages cannot be installed: gcc "]
    {
        assert!(bad.contains(expected), "{expected}: {bad}");
    }
}

#[test]
fn installed_daemons_are_masked_and_not_started() {
    let fakes = Fakes::new();
    let output = fakes.run("tests/run");
    let routers =
        ["bird.service", "exabgp.service", "frr.service", "gobgpd.service", "ndppd.service", "radvd.service"];
    let docker = ["docker.service", "docker.socket", "containerd.service"];
    let managers = ["NetworkManager.service", "networking.service"];
    for unit in routers.iter().chain(&docker).chain(&managers) {
        let mask = fs::read_link(fakes.path(&format!("etc/{unit}")));
        assert_eq!(mask.ok().as_deref(), Some(Path::new("/dev/null")), "{unit}: {output:?}");
        let reported = String::from_utf8_lossy(&output.stderr).contains(&format!("Masked {unit},"));
        assert!(reported, "{output:?}");
    }
    assert_eq!(
        fs::read_to_string(fakes.path("policy")).unwrap(),
        "101\n",
        "policy-rc.d forbids starts while apt-get runs"
    );
    assert!(!fakes.path("sbin/policy-rc.d").exists(), "policy-rc.d is removed afterwards");

    let demo = Fakes::new();
    demo.run("deploy/demo");
    assert_eq!(
        fs::read_dir(demo.path("etc")).unwrap().count(),
        0,
        "the demo's packages contain no such daemons"
    );
}
