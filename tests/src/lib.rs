//! The lab: the kernel's routing in network namespaces of one machine, for tests, benchmarks and the demo.
//!
//! A [`Lab`] is a switch with hosts, and containers on the hosts' bridges, addressed as in Docker's IPv6 cluster guide. It
//! needs root, `ip` and `ping`. It changes nothing in the machine's own network namespace, and it is removed when the process
//! that created it ends, even if that is killed: see [`lab`].
//!
//! ```no_run
//! use sextant_tests::{ControllerOptions, AgentOptions, Lab, RouteMonitor, SECONDS, expect_text, poll};
//!
//! # fn main() -> anyhow::Result<()> {
//! let lab = Lab::new("two hosts reach each other")?;
//! let hosts = lab.hosts(2)?; // h1 has 2001:db8::1/64 on eth0, h2 has 2001:db8::2/64
//! let controller = lab.controller(ControllerOptions::default())?;
//! controller.wait_ready(10 * SECONDS)?;
//! lab.cli(&["pool", "add", "default", "2001:db8:1::/48", "--host-len", "64"])?.succeeded()?;
//! let monitor = RouteMonitor::start(&hosts[0])?;
//! let _agents = hosts.iter().map(|host| lab.agent(host, AgentOptions::default())).collect::<Result<Vec<_>, _>>()?;
//!
//! // Polls a condition; on the deadline, panics with the expected and the actual state.
//! expect_text("h1's routes", 10 * SECONDS, "2001:db8:1:1::/64 via 2001:db8::2 dev eth0 proto 66 metric 512", || {
//!     hosts[0].routes_of(66).map(|routes| routes.join("\n"))
//! });
//! let (a, b) = (hosts[0].container("a")?, hosts[1].container("b")?); // on the bridge that the agent created
//! poll("a reaches b", SECONDS, || a.ping(b.address())?.replied());
//!
//! let stream = a.udp_stream(&b, 5 * sextant_tests::MILLISECONDS)?;
//! controller.process.kill()?;
//! stream.finish()?.nothing_lost()?; // a controller's death costs no packet
//! println!("{:?}", monitor.events()?);
//! # Ok(())
//! # }
//! ```
//!
//! A test that panics while it owns a lab prints the last lines of all logs of that lab.

#![warn(missing_docs)]

pub mod bench;
pub mod catalogue;
pub mod cluster;
pub mod demo;
pub mod history;
pub mod lab;
pub mod soak;
pub mod stub_nodes;

pub use lab::{
    authority::{Joined, OwnAuthority, tls_url},
    binary::{Build, bin},
    booted::Booted,
    cgroup::in_own as in_own_cgroup,
    counters::Counters,
    daemons::{Agent, AgentOptions, CliOutput, Controller, ControllerOptions, StoreKind},
    disk::SmallDisk,
    docker::Docker,
    etcd::{Etcd, EtcdClient},
    flood::Flood,
    host::{BRIDGE, Container, Host},
    monitor::{RouteEvent, RouteMonitor},
    namespace::{Namespace, enter_at},
    neighbours::{Answer, Asker, Mac, Solicitation, link_layer_option, solicited_node},
    ping::{PingOutcome, ping_matrix},
    podman::Podman,
    poll::{MILLISECONDS, SECONDS, expect_text, poll, try_poll},
    process::{LogLine, Process},
    roots::debian_root,
    routers::{Bird, Frr},
    routes::{Hop, Route, difference},
    segment::Segment,
    stream::{StreamReport, UdpStream},
    tcp::tcp_matrix,
    {Lab, remove},
};
