//! The same with the programs of later Debian releases. Of Debian 13: systemd 257, whose networkd treats forwarding and others' routes in another way, and the
//! NetworkManager and dhcpcd of that release. Of Debian testing: a Docker that takes IPv6 prefixes for networks.

use std::process::Command;

use sextant_tests::debian_root;

use crate::{machine::ROOT, pools::ENGINE};

const PACKAGES: &str = "systemd,systemd-sysv,dbus,iproute2,network-manager,dhcpcd-base,ifupdown,procps,kmod,iptables,nftables,\
                        docker.io,docker-cli,iputils-ping";
#[test]
#[ignore = "slow: makes a root directory with another release, and runs all other tests with it"]
fn all_tests_with_debian_13() {
    let root = debian_root("trixie-machine", "trixie", PACKAGES).unwrap();
    let version = Command::new("chroot").arg(&root).args(["systemctl", "--version"]).output().unwrap();
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    assert!(version.starts_with("systemd 257"), "{version}");
    let mut failed = Vec::new();
    for more in [&[][..], &["--ignored", "networkd_keeps", "ifupdown"]] {
        let mut all = Command::new(std::env::current_exe().unwrap());
        let done = all.env(ROOT, &root).args(["--test-threads", "2"]).args(more).output().unwrap();
        let text = String::from_utf8_lossy(&done.stdout).into_owned();
        println!("{text}");
        if !done.status.success() || !text.contains("managers::") {
            failed.push(text);
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
#[ignore = "slow: makes a root directory with a later engine"]
fn docker_pools_with_debian_testing() {
    let root = debian_root("testing", "testing", "docker.io,iptables").unwrap();
    let mut pools = Command::new(std::env::current_exe().unwrap());
    let done = pools.env(ENGINE, &root).args(["pools::", "--nocapture"]).output().unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    let errors = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success() && text.contains("1 passed"), "{text}{errors}");
    assert!(text.contains("pools of Docker "), "Docker is too old: {text}");
    println!("{text}");
}
