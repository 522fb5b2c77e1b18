//! `[docker] mode = "pools"` with a real engine as a service: networks get prefixes of the host prefix by themselves, and new ones of
//! the next host prefix after a change.

use sextant_proto::Prefix;
use sextant_tests::{AgentOptions, Container, Host, Lab, SECONDS, poll};

use crate::{agent::start_controller, docker::follows, machine::Machine};

const CONFIG: &str = r#"
    controller = ["http://[2001:db8::c:1]:7300"]
    insecure = true
    node = "h1"
    [uplink]
    interface = ["eth0"]
    [docker]
    restart = true
"#;
/// The variable that names a root directory with a later engine, as debootstrap makes it.
pub const ENGINE: &str = "SEXTANT_DOCKER_ROOT";
/// As Debian's unit, with a storage driver for a machine in memory.
const DOCKER: &str = "[Service]\nType=notify\nExecStart=/usr/sbin/dockerd --storage-driver vfs --iptables=false\nDelegate=yes\n";
/// The same with the root directory of a later engine.
const LATER: &str =
    "[Service]\nType=notify\nPrivateMounts=yes\nExecStart=/var/lib/later-dockerd\nDelegate=yes\n";
/// Starts the engine in that. Containers would see the machine's own root after a chroot.
const LATER_DOCKERD: &str = r#"#!/bin/sh -e
    mount --make-rprivate /
    mkdir -p /run/engine
    mount -t tmpfs tmpfs /run/engine
    cd /run/engine
    mkdir upper work root
    mount -t overlay overlay -o lowerdir=/var/lib/engine,upperdir=upper,workdir=work root
    cd root
    for dir in sys dev proc run etc/docker var/lib/docker; do
        mkdir -p $dir /$dir
        mount --rbind /$dir $dir
    done
    pivot_root . mnt
    umount -l /mnt
    exec dockerd --storage-driver vfs
"#;
/// The first version that takes IPv6 prefixes for networks.
const SINCE: u32 = 27;

fn boot(lab: &Lab, host: &Host) -> Machine {
    let later = std::env::var_os(ENGINE).map(|root| (root.into(), "/var/lib/engine"));
    let shown: Vec<_> = later.into_iter().collect();
    let machine = Machine::boot_showing(lab, host, &[("agent.toml", CONFIG)], &[], &shown);
    machine.etc_is_writable();
    // Debian's alternatives, which a machine without files in /etc lacks.
    machine.shell(
        "mkdir -p /etc/alternatives; for name in iptables ip6tables; do for what in '' -save -restore; do \
         ln -s /usr/sbin/$name-nft$what /etc/alternatives/$name$what; done; done",
    );
    machine.write("/var/lib/later-dockerd", "755", LATER_DOCKERD);
    let unit = if shown.is_empty() { DOCKER } else { LATER };
    machine.write("/etc/systemd/system/docker.service", "644", unit);
    machine.systemctl(&["daemon-reload"]);
    let started = machine.run(&["systemctl", "start", "docker"]);
    started.unwrap_or_else(|error| panic!("{error:#}; {}", machine.journal("docker")));
    machine.systemctl(&["enable", "--now", "sextant-agent"]);
    machine
}

fn setup(machine: &Machine, args: &str) -> String {
    machine.shell(&format!("sextant-agent docker setup {args}"))
}

/// The IPv6 prefix of a network.
fn network(machine: &Machine, name: &str) -> Prefix {
    let format = "{{range .IPAM.Config}}{{.Subnet}} {{end}}";
    let subnets = machine.run(&["docker", "network", "inspect", "-f", format, name]).unwrap();
    subnets.split(' ').find_map(|it| it.parse().ok()).unwrap_or_else(|| panic!("{name}: {subnets}"))
}

/// A network with IPv6, and a namespace on its bridge, which the container of another host reaches. (The engine could not run a container
/// here: the machine's cgroups are read-only.)
fn reached_on_a_new_network(machine: &Machine, name: &str, from: &Container) -> Prefix {
    let id = machine.run(&["docker", "network", "create", "--ipv6", name]).unwrap();
    let (prefix, bridge) = (network(machine, name), format!("br-{}", &id[..12]));
    let (gateway, address) = (prefix.first_host(), prefix.nth(128, 0x99).unwrap().addr());
    for line in [
        format!("netns add {name}"),
        format!("link add v-{name} type veth peer name eth0 netns {name}"),
        format!("link set v-{name} master {bridge} up"),
        format!("-n {name} link set eth0 up"),
        format!("-n {name} address add {address}/{} dev eth0 nodad", prefix.len()),
        format!("-n {name} route add default via {gateway}"),
    ] {
        machine.run(&[&["ip"], &line.split(' ').collect::<Vec<_>>()[..]].concat()).unwrap();
    }
    poll(&format!("{address} on {name} is reached"), 20 * SECONDS, || from.ping(address)?.replied());
    prefix
}

/// The host prefix of the machine.
fn host_prefix(lab: &Lab) -> Prefix {
    lab.cli_json(&["node", "show", "h1"]).unwrap()["claims"][0]["host_prefix"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap()
}

#[test]
fn new_networks_get_parts_of_the_host_prefix_also_after_a_change() {
    let lab = Lab::new("systemd docker pools").unwrap();
    let hosts = lab.hosts(2).unwrap();
    let _controller = start_controller(&lab);
    let machine = boot(&lab, &hosts[0]);
    let shown = poll("the host has a prefix", 30 * SECONDS, || {
        let shown = setup(&machine, "--mode pools --dry-run");
        anyhow::ensure!(!shown.contains("no claim"), "{shown}");
        Ok(shown)
    });
    let version = machine.run(&["docker", "version", "-f", "{{.Server.Version}}"]).unwrap();
    if version.split('.').next().unwrap().parse::<u32>().unwrap() < SINCE {
        assert!(shown.contains(&format!("Docker {version} takes no IPv6 prefixes")), "{shown}");
        return;
    }
    println!("pools of Docker {version}");
    let done = setup(&machine, "--mode pools --restart");
    assert!(done.contains("done: Docker restarted") && done.contains("done: agent restarted"), "{done}");
    machine.systemctl(&["enable", "--now", "sextant-docker-setup.path"]);
    let (first, before) = (follows(&machine, &lab, ""), host_prefix(&lab));
    let again = setup(&machine, "");
    assert!(again.contains("nothing to do"), "{again}");

    let _agent = lab.agent(&hosts[1], AgentOptions::default()).unwrap();
    poll("both are ready", 20 * SECONDS, || lab.cli(&["wait", "--timeout", "2s"])?.succeeded());
    let other = hosts[1].container("b").unwrap();
    let web = reached_on_a_new_network(&machine, "web", &other);
    assert!(before.covers(web) && web.to_string() != first, "{web} in {before}, beside {first}");

    lab.cli(&["node", "reassign", "h1"]).unwrap().succeeded().unwrap();
    follows(&machine, &lab, &first);
    let after = host_prefix(&lab);
    let later = reached_on_a_new_network(&machine, "later", &other);
    assert!(after.covers(later) && !after.covers(web), "{later} in {after}");
    poll("status names the network of the former prefix", 20 * SECONDS, || {
        let status = lab.cli(&["status"])?.stdout;
        anyhow::ensure!(status.contains(&web.to_string()), "{status}");
        Ok(())
    });
    // The fix.
    machine.run(&["ip", "netns", "del", "web"]).unwrap();
    machine.run(&["docker", "network", "rm", "web"]).unwrap();
    assert!(after.covers(reached_on_a_new_network(&machine, "web", &other)));
    poll("status is silent", 20 * SECONDS, || {
        let status = lab.cli(&["status"])?.stdout;
        anyhow::ensure!(!status.contains("Docker") && !status.contains("docker"), "{status}");
        Ok(())
    });
}
