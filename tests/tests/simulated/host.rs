//! A simulated host: its kernel, its state directory, and its agent while that runs.

use std::{collections::BTreeMap, net::Ipv6Addr, path::PathBuf, time::Duration};

use futures::FutureExt;
use sextant_agent::kernel::{Kernel, NeighbourState, RouteTarget, fake::FakeKernel};
use sextant_proto::Prefix;

use crate::{parts, process::Process, schedule::Setting};

/// The uplink's index: the first link after the loopback interface.
pub const UPLINK: u32 = 2;

/// When the last host joins.
const LATE: Duration = Duration::from_secs(12);

pub struct Host {
    pub kernel: FakeKernel,
    pub state_dir: PathBuf,
    pub agent: Option<Process>,
    /// When its agent is to start (again).
    pub starts_at: Option<Duration>,
    pub setting: Option<Setting>,
    pub clock_ahead: i64,
    /// The prefixes that it holds, in order, while nothing has ended its claims.
    pub holds: Vec<Prefix>,
    /// Which of its claims were ended by a command, by hold-down, or with a store that was lost while it was silent.
    pub ended: Ended,
}

/// Which claims of a host have ended, or may have.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Ended {
    pub all: bool,
    pub ula: bool,
}

impl Ended {
    pub fn any(self) -> bool {
        self.all || self.ula
    }

    /// Whether the claim of this prefix has.
    pub fn of(self, prefix: Prefix) -> bool {
        self.all || (self.ula && parts::is_ula(prefix))
    }
}

impl Host {
    pub fn new(number: usize, hosts: usize, state_dir: PathBuf) -> Self {
        let kernel = FakeKernel::with_uplink("eth0", &format!("{}/64", address(number)));
        for peer in (0..hosts).filter(|peer| *peer != number) {
            kernel.set_probe_result(UPLINK, address(peer), NeighbourState::Reachable);
        }
        Self {
            kernel,
            state_dir,
            agent: None,
            // The last one joins late: snapshots of the store may be from before that.
            starts_at: Some(if number + 1 == hosts { LATE } else { Duration::ZERO }),
            setting: None,
            clock_ahead: 0,
            holds: Vec::new(),
            ended: Ended::default(),
        }
    }

    /// The container prefixes that its bridges have, in order.
    pub fn on_bridges(&self) -> Vec<Prefix> {
        let addresses = self.kernel.addresses().now_or_never();
        let addresses = addresses.expect("it answers at once").expect("no fault is injected");
        let of_bridges = addresses.iter().filter(|address| address.link > UPLINK && address.global);
        let mut prefixes: Vec<_> =
            of_bridges.filter_map(|address| Prefix::containing(address.addr, address.len)).collect();
        prefixes.sort();
        prefixes
    }

    /// What its kernel routes to other hosts.
    pub fn routes(&self) -> BTreeMap<Prefix, Ipv6Addr> {
        let routes = self.kernel.routes_of_ours();
        let via = |target: &RouteTarget| match target {
            RouteTarget::Via(hops) => hops.iter().find_map(|hop| hop.gateway),
            _ => None,
        };
        routes.iter().filter_map(|route| Some((route.key.destination, via(&route.target)?))).collect()
    }
}

/// A host's address on the uplink.
pub fn address(number: usize) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::try_from(number + 1).expect("few hosts"))
}
