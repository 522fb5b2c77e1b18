//! Containers with static addresses: their engine puts them on the agent's bridge, or the operator does.

use std::{
    fs,
    net::Ipv6Addr,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use sextant_tests::{
    AgentOptions, Container, Docker, Host, Namespace, SECONDS,
    cluster::{Cluster, GUIDE},
    poll,
};

/// The bridge of the first host, which its agent makes.
const OWN: &str = "sextant0";

/// A cluster of two hosts, with a container on the second one that is reached, and reaches.
struct Bed {
    cluster: Cluster,
    peer: Container,
    /// The address of a new container on the first host, and the gateway, as the documents' examples have them.
    address: String,
    gateway: String,
    len: u8,
}

impl Bed {
    fn start(test: &str) -> Self {
        let mut cluster = Cluster::without_agents(test, 2, GUIDE);
        // An engine of Docker without a default bridge deletes a docker0 that it finds.
        cluster.start_agent_with(0, AgentOptions { bridge: OWN.to_owned(), ..AgentOptions::default() });
        cluster.start_agent(1);
        cluster.settle();
        let peer = cluster.hosts[1].container("peer").unwrap();
        let (gateway, len) = cluster.hosts[0].address_of(OWN).unwrap();
        let address = Ipv6Addr::from_bits(gateway.to_bits() + 0x99);
        Self { cluster, peer, address: address.to_string(), gateway: gateway.to_string(), len }
    }

    fn host(&self) -> &Host {
        &self.cluster.hosts[0]
    }

    /// A name for files and cgroups, by which the lab's reaper finds them.
    fn unique(&self, name: &str) -> String {
        format!("{}-{name}", Namespace::name(self.host()))
    }

    fn is_reached(&self) {
        let address: Ipv6Addr = self.address.parse().unwrap();
        poll("the container is reached from another host's", 20 * SECONDS, || {
            self.peer.ping(address)?.replied()
        });
    }
}

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
    let (root, script) = (
        root(bed.host()),
        format!(
            "ip link set host0 up && ip addr add {}/{} dev host0 && ip -6 route add default via {} && exec sleep 1000",
            bed.address, bed.len, bed.gateway
        ),
    );
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
    let group = bed.unique("lxc");
    let (rootfs, address, len, gateway) = (text(&root), &bed.address, bed.len, &bed.gateway);
    let config = format!(
        "lxc.uts.name = web
         lxc.cgroup.dir = {group}
         lxc.rootfs.path = dir:{rootfs}
         lxc.apparmor.profile = unconfined
         lxc.net.0.type = veth
         lxc.net.0.link = {OWN}
         lxc.net.0.flags = up
         lxc.net.0.ipv6.address = {address}/{len}
         lxc.net.0.ipv6.gateway = {gateway}"
    );
    let config: Vec<_> = config.lines().map(str::trim).collect();
    fs::write(containers.join("web/config"), config.join("\n") + "\n").unwrap();
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
    let run = ["run", "-d", "--name", "web", "--network", "none", "lab", "sleep", "1000"];
    docker.run(&run).unwrap();
    let pid = docker.run(&["inspect", "-f", "{{.State.Pid}}", "web"]).unwrap();
    let (pid, address, len, gateway) = (pid.trim(), &bed.address, bed.len, &bed.gateway);
    let script = format!(
        "ip link add ve-web type veth peer name eth0 netns {pid} && ip link set ve-web master {OWN} up &&
         nsenter -t {pid} -n sysctl -qw net.ipv6.conf.eth0.disable_ipv6=0 &&
         nsenter -t {pid} -n ip link set eth0 up && nsenter -t {pid} -n ip addr add {address}/{len} dev eth0 &&
         nsenter -t {pid} -n ip -6 route add default via {gateway}"
    );
    let inside = docker.inside().unwrap();
    let inside: Vec<_> = inside.iter().map(String::as_str).collect();
    let done = bed.host().run(&[&inside[..], &["sh", "-c", &script]].concat()).unwrap();
    assert!(done.status.success(), "{done:?}");
    bed.is_reached();
}
