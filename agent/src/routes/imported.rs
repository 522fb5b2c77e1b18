//! Which of the routes that routers announce this host can use, and over which of its uplinks.

use sextant_proto::Prefix;

use super::desired::{Desired, Host, pools};
use crate::{
    cluster::View,
    kernel::{NextHop, RouteKey, RouteTarget},
    routes::{Hop, Imports},
    settings::RouteSettings,
    uplinks::LocalUplink,
};

/// What a route that a router announces must not touch.
struct Reserved {
    /// Nothing inside of these: the own prefix, pools that are refused here, on-link prefixes.
    all: Vec<Prefix>,
    /// Nothing that is longer inside of these: it would win over the route to a peer.
    longer: Vec<(Prefix, u8)>,
}

impl Reserved {
    fn of(host: &Host<'_>, view: &View, desired: &Desired) -> Self {
        let on_link = host.uplinks.iter().flat_map(|local| &local.uplink.addresses).map(|it| it.on_link);
        let mut all: Vec<_> = on_link.chain(host.claim.map(|claim| claim.prefix)).collect();
        let pools = pools(host, view);
        all.extend(pools.iter().map(|pool| pool.prefix).filter(|pool| desired.refuses(host, *pool)));
        Self { all, longer: pools.iter().map(|pool| (pool.prefix, pool.host_len)).collect() }
    }

    fn covers(&self, prefix: Prefix) -> bool {
        let longer = |(pool, host_len): &(Prefix, u8)| prefix.len() > *host_len && pool.covers(prefix);
        self.all.iter().any(|it| it.covers(prefix)) || self.longer.iter().any(longer)
    }
}

impl Desired {
    /// Adds what `imports` has and this host can use: not what would take traffic for itself, for its peers or for the link
    /// away from where it belongs. A direct route to a peer wins by its metric. Returns how many have a next hop that is on
    /// none of the uplinks.
    pub fn import(&mut self, host: &Host<'_>, view: &View, imports: &Imports) -> usize {
        if imports.routes.is_empty() {
            return 0;
        }
        let reserved = Reserved::of(host, view, self);
        let (mut usable, mut unresolved) = (Vec::new(), 0);
        for (prefix, path) in imports.routes.iter().filter(|(prefix, _)| !reserved.covers(**prefix)) {
            let Some(hop) = next_hop(&path.hop, host.uplinks) else {
                unresolved += 1;
                continue;
            };
            let (table, metric) = (host.settings.table, imports.metric);
            let key = RouteKey { table, destination: *prefix, metric };
            usable.push((key, Some(RouteTarget::Via(hop.into()))));
        }
        self.routes.change(usable);
        unresolved
    }
}

/// Whether a route of ours that is not desired may go as far as routers are concerned: none that may be a router's does,
/// before it is known that it is not. An earlier start may have had another import metric: only a route to a peer, or one
/// inside a pool, is certainly none. It may go as soon as the route that takes its place is desired.
pub fn may_go(
    key: &RouteKey,
    imports: &Imports,
    settings: &RouteSettings,
    view: &View,
    desired: &Desired,
) -> bool {
    let of_a_peer =
        || key.metric == settings.metric || view.pools().any(|pool| pool.prefix.covers(key.destination));
    let replaced = || {
        let now = RouteKey { table: settings.table, metric: imports.metric, ..*key };
        now != *key && desired.routes.contains_key(&now)
    };
    imports.complete || replaced() || (key.metric != imports.metric && of_a_peer())
}

/// By the global address where that is on-link, else by the one of the link that the router is on. Never to this host itself.
fn next_hop(hop: &Hop, uplinks: &[LocalUplink]) -> Option<NextHop> {
    let on_link = |address| {
        uplinks.iter().find(|local| local.uplink.addresses.iter().any(|it| it.on_link.contains(address)))
    };
    let own =
        |address| uplinks.iter().any(|local| local.uplink.addresses.iter().any(|it| it.addr == address));
    let global = hop
        .global
        .filter(|address| !own(*address))
        .and_then(|gateway| Some(NextHop { gateway: Some(gateway), link: on_link(gateway)?.link }));
    global.or_else(|| {
        let gateway = hop.link_local?;
        let local = match &hop.interface {
            Some(name) => uplinks.iter().find(|local| *local.uplink.interface == **name)?,
            None => on_link(hop.router)?,
        };
        Some(NextHop { gateway: Some(gateway), link: local.link })
    })
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv6Addr, sync::Arc};

    use sextant_proto::{Claim, Control, Epoch, Incarnation, InterfaceAddress, Pool, Revision, Uplink};

    use super::*;
    use crate::{
        cluster::Snapshot,
        cluster::Verdicts,
        routes::ReceivedPath,
        settings::{Direct, RouteSettings, Topology},
    };

    fn settings(topology: Topology) -> RouteSettings {
        RouteSettings {
            metric: 512,
            unreachable_metric: 4_000_000_000,
            table: 254,
            resync_secs: 60,
            balance: false,
            direct: Direct::OnLink,
            topology,
            mark: None,
        }
    }

    fn uplink(link: u32, address: &str) -> LocalUplink {
        let addr: Ipv6Addr = address.parse().unwrap();
        let addresses = vec![InterfaceAddress { addr, on_link: Prefix::containing(addr, 64).unwrap() }];
        LocalUplink {
            link,
            works: true,
            uplink: Uplink { interface: format!("eth{link}"), addresses },
            link_local: None,
        }
    }

    fn hop(global: Option<&str>, link_local: Option<&str>, interface: Option<&str>) -> Hop {
        Hop {
            global: global.map(|it| it.parse().unwrap()),
            link_local: link_local.map(|it| it.parse().unwrap()),
            router: "2001:db8::fe:1".parse().unwrap(),
            interface: interface.map(Arc::from),
        }
    }

    fn imports(routes: &[(&str, Hop)]) -> Imports {
        let path = |hop: &Hop| {
            let (origin, external, med) = (0, true, 0);
            let (local_pref, as_path_len, neighbour_as) = (100, 1, 65000);
            Arc::new(ReceivedPath {
                hop: hop.clone(),
                local_pref,
                as_path_len,
                origin,
                external,
                neighbour_as,
                med,
            })
        };
        let routes = routes.iter().map(|(prefix, hop)| (prefix.parse().unwrap(), path(hop))).collect();
        Imports { routes, metric: 768, complete: true }
    }

    fn view(pool: Pool) -> View {
        let mut view = View::default();
        view.apply_snapshot(Snapshot {
            mark: None,
            incarnation: Incarnation::random(),
            revision: Revision(1),
            linearizable: true,
            recovering: false,
            control: Control::default(),
            pools: vec![pool],
            peers: vec![],
        });
        view
    }

    /// What comes of `routes`, each as "prefix via gateway link", and how many have no usable next hop.
    fn imported(topology: Topology, routes: &[(&str, Hop)]) -> (Vec<String>, usize) {
        let pool = Pool::new("main".parse().unwrap(), "2001:db8:8000::/40".parse().unwrap(), 64, 64).unwrap();
        let epoch = Epoch { incarnation: Incarnation::random(), revision: Revision(1) };
        let claim = Claim { prefix: "2001:db8:8000:1::/64".parse().unwrap(), epoch, pool: pool.clone() };
        let view = view(pool);
        let host = Host {
            node: &"host1".parse().unwrap(),
            claim: Some(&claim),
            uplinks: &[uplink(2, "2001:db8::1"), uplink(3, "2001:db8:0:3::1")],
            controllers: &[],
            withdrawn: false,
            verdicts: &Verdicts::default(),
            settings: &settings(topology),
        };
        let mut desired = crate::routes::desired(&host, &view);
        let unresolved = desired.import(&host, &view, &imports(routes));
        let line = |(key, target): (&RouteKey, &RouteTarget)| match target {
            RouteTarget::Via(hops) => {
                let hop = hops.as_slice()[0];
                assert_eq!((key.metric, key.table), (768, 254));
                format!("{} via {} {}", key.destination, hop.gateway.unwrap(), hop.link)
            }
            other => panic!("{other:?}"),
        };
        let imported = desired.routes.iter().filter(|(key, _)| key.metric == 768);
        (imported.map(line).collect(), unresolved)
    }

    #[test]
    fn next_hops_are_global_on_an_uplink_or_on_the_sessions_link() {
        for (hop, expected) in [
            (hop(Some("2001:db8::fe:1"), None, None), Some("2001:db8::fe:1 2")),
            (hop(Some("2001:db8::fe:1"), Some("fe80::1"), None), Some("2001:db8::fe:1 2")),
            (hop(Some("2001:db8:0:3::9"), None, None), Some("2001:db8:0:3::9 3")),
            (hop(None, Some("fe80::1"), None), Some("fe80::1 2")),
            (hop(None, Some("fe80::1"), Some("eth3")), Some("fe80::1 3")),
            (hop(Some("2001:db8:7::1"), Some("fe80::1"), Some("eth3")), Some("fe80::1 3")),
            (hop(None, Some("fe80::1"), Some("eth9")), None),
            (hop(Some("2001:db8:7::1"), None, None), None),
            (hop(Some("2001:db8::1"), None, None), None),
        ] {
            let expected = expected.map(|hop| format!("::/0 via {hop}"));
            let unresolved = usize::from(expected.is_none());
            let found = imported(Topology::Switched, &[("::/0", hop.clone())]);
            assert_eq!(found, (expected.into_iter().collect(), unresolved), "{hop:?}");
        }
    }

    #[test]
    fn nothing_takes_traffic_for_the_host_its_peers_or_its_link_away() {
        let all = [
            "::/0",
            "2001:db8::/32",
            "2001:db8:8000::/40",
            "2001:db8:8000::/48",
            "2001:db8:8000:1::/64",
            "2001:db8:8000:1:8000::/80",
            "2001:db8:8000:2::/64",
            "2001:db8:8000:2:8000::/80",
            "2001:db8::/64",
            "2001:db8::2/128",
            "2001:db8:9000::/48",
        ];
        let routes = all.map(|it| (it, hop(Some("2001:db8::fe:1"), None, None)));
        let of = |topology| {
            let taken = imported(topology, &routes).0;
            taken.into_iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(of(Topology::Switched), ["::/0", "2001:db8::/32", "2001:db8:9000::/48"]);
        assert_eq!(
            of(Topology::Routed),
            [
                "::/0",
                "2001:db8::/32",
                "2001:db8:8000::/40",
                "2001:db8:8000::/48",
                "2001:db8:8000:2::/64",
                "2001:db8:9000::/48"
            ]
        );
    }

    #[test]
    fn what_may_be_a_routers_stays_until_it_is_known_whether_it_is() {
        let settings = settings(Topology::Switched);
        let pool = Pool::new("main".parse().unwrap(), "2001:db8:8000::/40".parse().unwrap(), 64, 64).unwrap();
        let view = view(pool);
        let key =
            |prefix: &str, metric, table| RouteKey { destination: prefix.parse().unwrap(), metric, table };
        let mut incomplete = imports(&[]);
        incomplete.complete = false;
        let mut desired = Desired::default();
        let there = RouteTarget::Via(NextHop { gateway: None, link: 1 }.into());
        desired.routes.change(vec![(key("2001:db8:f000::/36", 768, 254), Some(there))]);
        for (name, key, may) in [
            ("an import", key("2001:db8:f100::/40", 768, 254), false),
            ("one of an earlier metric", key("2001:db8:f100::/40", 700, 254), false),
            ("one of an earlier metric and table", key("::/0", 700, 100), false),
            ("one of an earlier metric that is replaced", key("2001:db8:f000::/36", 700, 254), true),
            ("one of an earlier table that is replaced", key("2001:db8:f000::/36", 768, 100), true),
            ("a peer's", key("2001:db8:8000:1::/64", 512, 254), true),
            ("a peer's of an earlier metric", key("2001:db8:8000:1::/64", 400, 254), true),
            ("a peer's of a pool that is gone", key("2001:db8:9000:1::/64", 512, 254), true),
            ("the pool's", key("2001:db8:8000::/40", 4_000_000_000, 254), true),
        ] {
            assert_eq!(may_go(&key, &incomplete, &settings, &view, &desired), may, "{name}");
            assert!(may_go(&key, &imports(&[]), &settings, &view, &desired), "{name}: all is known");
        }
    }
}
