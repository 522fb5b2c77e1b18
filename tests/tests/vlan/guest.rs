//! What the virtual machine runs: a host whose uplink is VLAN 7 of its interface, and a router in that VLAN and in another one.

use std::net::Ipv6Addr;

use sextant_tests::{
    AgentOptions, Asker, Container, Host, SECONDS, Solicitation, bin,
    cluster::{Cluster, PoolArgs},
    poll,
};

/// The name of this module, and the number of its tests.
pub(super) const MODULE: &str = "guest";
pub(super) const TESTS: usize = 3;

/// Inside of the VLAN's link; agents reach the controller without a tag.
const POOL: PoolArgs = PoolArgs { prefix: "2001:db8:0:7::c000/116", host_len: "125", container_len: "125" };
const UPLINK: &str = "eth0.7";
const ROUTER: &str = "2001:db8:0:7::fe";
const OTHER: &str = "2001:db8:0:7::ff";

struct Bed {
    cluster: Cluster,
    host: Host,
    router: Host,
}

impl Bed {
    fn start(test: &str, flags: &[&str]) -> Self {
        let mut cluster = Cluster::without_agents(test, 1, POOL);
        let (host, router) = (cluster.hosts[0].clone(), cluster.lab.router().unwrap());
        make_uplink(&host);
        add_vlan(&router, 7, ROUTER);
        add_vlan(&router, 8, OTHER);
        let args = ["--topology", "ndp-proxy"].iter().chain(flags).map(|&flag| flag.to_owned()).collect();
        cluster
            .start_agent_with(0, AgentOptions { uplink: UPLINK.to_owned(), args, ..AgentOptions::default() });
        cluster.settle();
        Self { cluster, host, router }
    }

    /// A neighbour in this VLAN.
    fn asker(&self, vlan: &str) -> Asker {
        self.router.asker(&format!("eth0.{vlan}"), ROUTER.parse().unwrap()).unwrap()
    }

    fn is_reached(&self, container: &Container) {
        poll("it is reached from the VLAN", 20 * SECONDS, || {
            self.router.ping(container.address())?.replied()
        });
        poll("the kernel answers for it there", 10 * SECONDS, || {
            let shown = self.entries(UPLINK)?;
            anyhow::ensure!(shown.contains(&container.address().to_string()), "{shown}");
            Ok(())
        });
        assert_eq!(self.entries("eth0").unwrap(), "", "the link without a tag is another one");
    }

    fn entries(&self, interface: &str) -> anyhow::Result<String> {
        self.host.ip(&format!("-6 neighbour show proxy dev {interface}"))
    }

    fn nothing_is_reported(&self) {
        poll("nothing is reported", 20 * SECONDS, || {
            let found = self.cluster.node("h1")["applied"]["problems"].to_string();
            anyhow::ensure!(found == "[]", "{found}");
            Ok(())
        });
    }
}

fn add_vlan(host: &Host, vlan: u16, address: &str) {
    host.ip(&format!("link add link eth0 name eth0.{vlan} type vlan id {vlan}")).unwrap();
    host.ip(&format!("address add {address}/64 dev eth0.{vlan} nodad")).unwrap();
    host.ip(&format!("link set eth0.{vlan} up")).unwrap();
}

fn make_uplink(host: &Host) {
    add_vlan(host, 7, "2001:db8:0:7::1");
}

/// Each is answered by as many on each of the two VLANs of the router.
fn answered(bed: &Bed, ask: &Solicitation, from: &Asker) -> [usize; 2] {
    ["7", "8"].map(|vlan| {
        let listener = bed.asker(vlan);
        listener.forget().unwrap();
        from.send(&ask.octets()).unwrap();
        let end = std::time::Instant::now() + SECONDS;
        let mut count = 0;
        while let Some(it) = listener.next(end).unwrap() {
            count += usize::from(it.target == ask.target);
        }
        count
    })
}

#[test]
#[ignore = "runs in the virtual machine"]
fn containers_are_reached_through_a_vlan_that_is_removed_and_made_again() {
    let bed = Bed::start("vlan reached", &[]);
    let container = bed.host.container("c").unwrap();
    bed.is_reached(&container);
    bed.nothing_is_reported();
    bed.host.ip("link del eth0.7").unwrap();
    make_uplink(&bed.host);
    bed.is_reached(&container);
    let later = bed.host.container("d").unwrap();
    bed.is_reached(&later);
    bed.nothing_is_reported();
}

#[test]
#[ignore = "runs in the virtual machine"]
fn only_the_vlan_of_the_uplink_is_answered() {
    let bed = Bed::start("vlan answered", &["--ndp-answer", "all"]);
    let container = bed.host.container("c").unwrap();
    bed.is_reached(&container);
    // The kernel answers for the one, and the agent for the other.
    let unused = Ipv6Addr::from_bits(bed.cluster.prefix("h1").addr().to_bits() + 5);
    let (inside, outside) = (bed.asker("7"), bed.router.asker("eth0", bed.router.address()).unwrap());
    for target in [container.address(), unused] {
        let ask = inside.solicitation(target);
        let (answer, _) = inside.ask(&ask, 2 * SECONDS).unwrap();
        assert_eq!(answer.mac, Some(answer.from), "{answer:?}");
        let tagged = |vlan: u16| Solicitation { vlan: Some(vlan), ..ask.clone() };
        assert_eq!(answered(&bed, &tagged(7), &outside), [1, 0], "{target}: with the tag of the uplink");
        assert_eq!(answered(&bed, &tagged(8), &outside), [0, 0], "{target}: with another tag");
        assert_eq!(answered(&bed, &tagged(0), &outside), [0, 0], "{target}: with a priority only");
        assert_eq!(answered(&bed, &ask, &outside), [0, 0], "{target}: without a tag");
        assert_eq!(answered(&bed, &tagged(8), &inside), [0, 0], "{target}: with two tags");
        assert!(outside.ask(&outside.solicitation(target), SECONDS).is_err(), "{target}: without a tag");
    }
    bed.nothing_is_reported();
}

/// An interface's name with a dot in it has a form of its own in sysctl(8).
#[test]
#[ignore = "runs in the virtual machine"]
fn a_fix_of_the_doctor_can_be_typed_as_it_is() {
    let mut bed = Bed::start("vlan doctor", &[]);
    bed.cluster.agents.remove(0).process.kill().unwrap();
    let (host, path) = (&bed.host, format!("net/ipv6/conf/{UPLINK}/proxy_ndp"));
    host.sysctl(&path, "0").unwrap();
    let (program, state) = (bin("sextant-agent").unwrap(), bed.cluster.lab.state_dir(host));
    let fixed = ["--topology", "ndp-proxy", "--uplink", UPLINK, "--bridge", "docker0", "--state-dir"];
    let words = [&[program.to_str().unwrap()][..], &fixed, &[state.to_str().unwrap(), "doctor"]].concat();
    let output = host.run(&words).unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let fix = printed.split("sysctl -w ").nth(1).and_then(|rest| rest.split(';').next());
    host.check(&["sysctl", "-w", fix.unwrap_or_else(|| panic!("no fix in: {printed}"))]).unwrap();
    assert_eq!(host.check(&["cat", &format!("/proc/sys/{path}")]).unwrap().trim(), "1", "{printed}");
}
