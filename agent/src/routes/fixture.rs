//! Fixtures of the tests of this module, and of the engine.

use std::{
    net::Ipv6Addr,
    sync::{Arc, LazyLock},
};

use sextant_proto::{Control, Incarnation, InterfaceAddress, NodeName, Peer, Pool, Prefix, Revision, Uplink};

use super::{Imports, Infrastructure, Known};
use crate::{
    cluster::{Snapshot, Verdicts, View},
    settings::{Direct, OffLink, RouteSettings, Topology},
    uplinks::{Gateways, LocalUplink, on_link_by},
};

/// The defaults.
pub(crate) const SETTINGS: RouteSettings = RouteSettings {
    metric: 512,
    unreachable_metric: 4_000_000_000,
    table: 254,
    resync_secs: 60,
    balance: false,
    direct: Direct::OnLink,
    off_link: OffLink::Refuse,
    topology: Topology::Switched,
    mark: None,
};

static NODE: LazyLock<NodeName> = LazyLock::new(|| "host1".parse().unwrap());
static INCARNATION: LazyLock<Incarnation> = LazyLock::new(Incarnation::random);
static VERDICTS: LazyLock<Verdicts> = LazyLock::new(Verdicts::default);
static GATEWAYS: LazyLock<Gateways> = LazyLock::new(Gateways::default);
static INFRASTRUCTURE: LazyLock<Infrastructure> = LazyLock::new(Infrastructure::default);
static IMPORTS: LazyLock<Imports> = LazyLock::new(Imports::default);

/// The store of all views.
pub(super) fn incarnation() -> Incarnation {
    *INCARNATION
}

/// The node "host1" with this view, and nothing else.
pub(super) fn known(view: &View) -> Known<'_> {
    Known {
        node: &NODE,
        claims: &[],
        view,
        uplinks: &[],
        gateways: &GATEWAYS,
        infrastructure: &INFRASTRUCTURE,
        controllers: &[],
        withdrawn: false,
        verdicts: &VERDICTS,
        imports: &IMPORTS,
        settings: &SETTINGS,
    }
}

/// A complete view.
pub(crate) fn view(pools: Vec<Pool>, peers: Vec<Peer>) -> View {
    let mut view = View::default();
    view.apply_snapshot(Snapshot {
        mark: None,
        incarnation: incarnation(),
        revision: Revision(1),
        linearizable: true,
        recovering: false,
        control: Control::default(),
        pools,
        peers,
    });
    view
}

/// The pool "main".
pub(crate) fn pool() -> Pool {
    Pool::new("main".parse().unwrap(), "2001:db8:8000::/40".parse().unwrap(), 64, 64).unwrap()
}

/// An uplink that works, with an address in a /64.
pub(crate) fn uplink(link: u32, address: &str) -> LocalUplink {
    let addr: Ipv6Addr = address.parse().unwrap();
    let prefix = Prefix::containing(addr, 64).unwrap();
    uplink_with(link, address, &[&format!("{prefix} dev {link}")])
}

/// An uplink that works, with an address and these routes.
pub(super) fn uplink_with(link: u32, address: &str, routes: &[&str]) -> LocalUplink {
    let addr: Ipv6Addr = address.parse().unwrap();
    let on_link = on_link_by(link, [addr], routes);
    let addresses = vec![InterfaceAddress { addr, on_link: on_link.around(addr).unwrap() }];
    LocalUplink {
        link,
        works: true,
        uplink: Uplink { interface: format!("eth{link}"), addresses },
        link_local: None,
        on_link: Arc::new(on_link),
    }
}
