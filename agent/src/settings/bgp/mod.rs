//! `[bgp]`: the agent's BGP speaker. Only in the config file: a list of neighbours does not fit into a flag.

mod communities;
mod import;
mod listening;
mod neighbour;
mod password;
mod pool;
mod timing;

use std::{collections::HashMap, net::Ipv4Addr};

use serde::{Deserialize, Serialize};

use super::{Invalid, RouteSettings, interface_name, value};

pub use import::{Accept, Import};
pub use listening::listening_address;
pub use neighbour::NeighbourSettings;
use neighbour::{MAX_RESTART_TIME, NeighbourKeys};
pub use password::Password;
use pool::PoolKeys;
pub use pool::{PoolSettings, PoolsSettings};
pub use timing::Timing;

/// After routes to peers (512), before static ones (1024).
const IMPORT_METRIC: u32 = 768;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(super) struct BgpKeys {
    local_as: u32,
    router_id: Option<Ipv4Addr>,
    listen_port: Option<u16>,
    announce: Announce,
    restart_time: Option<u16>,
    import_metric: Option<u32>,
    pool: HashMap<String, PoolKeys>,
    neighbour: Vec<NeighbourKeys>,
}

/// The prefixes that are announced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Announce {
    /// This host's own.
    #[default]
    Own,
    /// Those of all live hosts, each with its own next hop.
    All,
}

/// The BGP speaker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BgpSettings {
    /// Our AS.
    pub local_as: u32,
    /// Our BGP identifier; derived from the node id by default.
    pub router_id: Option<Ipv4Addr>,
    /// The TCP port for connections of neighbours.
    pub listen_port: u16,
    /// The prefixes that are announced.
    pub announce: Announce,
    /// The metric of routes that neighbours announce.
    pub import_metric: u32,
    /// How prefixes of single pools are announced.
    pub pools: PoolsSettings,
    /// The neighbours.
    pub neighbours: Vec<NeighbourSettings>,
}

impl BgpKeys {
    /// Checks them, and reads the passwords.
    pub(super) fn check(self, routes: &RouteSettings) -> Result<BgpSettings, Invalid> {
        if matches!(self.local_as, 0 | 23456 | u32::MAX) {
            return Err(value("[bgp] local-as", &self.local_as, &"give it this host's AS, e.g. 65001"));
        }
        if self.router_id.is_some_and(|id| id.is_unspecified()) {
            return Err(value("[bgp] router-id", &"0.0.0.0", &"omit it, or give it another value"));
        }
        if let Some(restart_time) = self.restart_time.filter(|time| *time > MAX_RESTART_TIME) {
            return Err(value("[bgp] restart-time", &restart_time, &"give it 0 (none) to 4095 seconds"));
        }
        let import_metric = import_metric(self.import_metric, routes)?;
        let (local_as, all) = (self.local_as, self.restart_time);
        let neighbours: Vec<_> =
            self.neighbour.into_iter().map(|keys| keys.check(local_as, all)).collect::<Result<_, _>>()?;
        for (nth, neighbour) in neighbours.iter().enumerate() {
            if neighbours[..nth].iter().any(|other| other.name() == neighbour.name()) {
                return Err(value("[[bgp.neighbour]] address", &neighbour.name(), &"is configured twice"));
            }
        }
        Ok(BgpSettings {
            local_as,
            router_id: self.router_id,
            listen_port: self.listen_port.unwrap_or(179),
            announce: self.announce,
            import_metric,
            pools: pool::check(self.pool)?,
            neighbours,
        })
    }
}

/// Direct routes to peers are preferred, also to a router's routes for their prefixes. Static routes and those of router
/// advertisements come after.
fn import_metric(asked: Option<u32>, routes: &RouteSettings) -> Result<u32, Invalid> {
    let metric = asked.unwrap_or(IMPORT_METRIC.max(routes.metric.saturating_add(1)));
    let marked = routes.mark.is_some_and(|mark| (mark.table, mark.metric) == (routes.table, metric));
    if metric <= routes.metric || metric >= routes.unreachable_metric || marked {
        let fix = format!(
            "must be between the metric of peers {} and that of unreachable routes {}, and not --export-metric",
            routes.metric, routes.unreachable_metric
        );
        return Err(value("[bgp] import-metric", &metric, &fix));
    }
    Ok(metric)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::settings::{Direct, OffLink, Topology};

    fn parse(text: &str) -> Result<BgpSettings, String> {
        let keys: BgpKeys = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let (topology, direct) = (Topology::Routed, Direct::OnLink);
        let (metric, unreachable_metric, table, resync_secs) = (512, 4_000_000_000, 254, 60);
        let (balance, mark) = (false, None);
        let off_link = OffLink::Refuse;
        let routes = RouteSettings {
            metric,
            unreachable_metric,
            table,
            resync_secs,
            balance,
            direct,
            off_link,
            topology,
            mark,
        };
        keys.check(&routes).map_err(|error| error.to_string())
    }

    #[test]
    fn a_neighbour_has_defaults() {
        let it =
            parse(r#"{"local-as": 65001, "neighbour": [{"address": "2001:db8::fe:1", "remote-as": 65000}]}"#);
        let it = it.unwrap();
        assert_eq!((it.listen_port, it.announce), (179, Announce::Own));
        let router = &it.neighbours[0];
        assert_eq!((router.restart_time, router.bfd), (120, None));
        assert_eq!((router.accept.import, it.import_metric), (Import::None, 768));
        assert_eq!((router.hold_time, router.passive, router.local_pref), (90, false, 100));
    }

    #[test]
    fn errors_have_key_value_and_fix() {
        let with = |more: &str| {
            parse(&format!(
                r#"{{"local-as": 65001, "neighbour": [{{"address": "2001:db8::1", "remote-as": 65000, {more}}}]}}"#
            ))
        };
        for (more, expected) in [
            (r#""hold-time": 2"#, "[[bgp.neighbour]] hold-time 2: "),
            (r#""communities": ["65536:1"]"#, "[[bgp.neighbour]] communities 65536:1: write it as 65000:1"),
            (r#""large-communities": ["1:2"]"#, "[[bgp.neighbour]] large-communities 1:2: write it as"),
            (
                r#""bfd": true, "restart-time": 60"#,
                "[[bgp.neighbour]] bfd true: neighbour 2001:db8::1 also has graceful restart (restart-time = 60)",
            ),
            (
                r#""import-max": 5"#,
                "[[bgp.neighbour]] import-max 5: neighbour 2001:db8::1: requires import = \"all\"",
            ),
            (
                r#""import": "default", "import-filter": ["::/0"]"#,
                "[[bgp.neighbour]] import-filter ::/0: neighbour 2001:db8::1: requires",
            ),
            (
                r#""import": "all", "import-filter": []"#,
                "[[bgp.neighbour]] import-filter []: accepts nothing",
            ),
            (
                r#""import": "all", "import-filter": ["2001:db8::1/32"]"#,
                "[[bgp.neighbour]] import-filter 2001:db8::1/32: ",
            ),
            (r#""import": "all", "import-max": 0"#, "[[bgp.neighbour]] import-max 0: accepts nothing"),
            (r#""import": "some""#, "unknown variant `some`"),
            (r#""bfd-interval": 50"#, "[[bgp.neighbour]] bfd-interval 50: requires bfd = true"),
            (r#""bfd": true, "bfd-interval": 9"#, "[[bgp.neighbour]] bfd-interval 9: give it 10 to 60000"),
            (r#""bfd": true, "bfd-multiplier": 0"#, "[[bgp.neighbour]] bfd-multiplier 0: give it 1 to 255"),
            (r#""restart-time": 4096"#, "[[bgp.neighbour]] restart-time 4096: give it 0 (none) to 4095"),
            (r#""password-file": "/nonexistent""#, "[[bgp.neighbour]] password-file /nonexistent: "),
            (r#""pasword-file": "x""#, "unknown field `pasword-file`"),
        ] {
            let error = with(more).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
        assert!(parse(r#"{"neighbour": []}"#).unwrap_err().starts_with("[bgp] local-as 0: "));
    }

    #[test]
    fn a_pool_has_communities_of_its_own_or_those_of_the_neighbour() {
        let of = |keys: &str| parse(&format!(r#"{{"local-as": 65001, "pool": {{{keys}}}}}"#));
        let it =
            of(r#""ula": {"communities": ["65001:7"], "large-communities": []}, "lab": {"announce": false}"#);
        let pools = it.unwrap().pools;
        let expected = |announce, communities, large_communities| PoolSettings {
            announce,
            communities,
            large_communities,
        };
        let of_pool = |name: &str| PoolSettings::clone(&pools[&name.parse().unwrap()]);
        assert_eq!(of_pool("ula"), expected(true, Some(vec![65001 << 16 | 7]), Some(vec![])));
        assert_eq!(of_pool("lab"), expected(false, None, None));
        for (wrong, expected) in [
            (r#""ula": {"communities": ["7"]}"#, "[bgp.pool] communities 7: write it as 65000:1"),
            (r#""ula": {"large-communities": ["1:2"]}"#, "[bgp.pool] large-communities 1:2: write it as"),
            (r#""ula": {"comunities": []}"#, "unknown field `comunities`"),
            (r#""ULA": {}"#, "[bgp.pool] ULA: pool name \"ULA\""),
        ] {
            let error = of(wrong).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn the_import_metric_is_between_peers_and_unreachable_routes() {
        let of = |metric: u32| {
            parse(&format!(r#"{{"local-as": 1, "import-metric": {metric}}}"#)).map(|it| it.import_metric)
        };
        assert_eq!(of(513), Ok(513));
        for wrong in [512, 4_000_000_000] {
            let error = of(wrong).unwrap_err();
            assert!(error.starts_with(&format!("[bgp] import-metric {wrong}: must be between")), "{error}");
        }
    }

    #[test]
    fn a_neighbour_has_an_address_or_an_interface_or_both_if_link_local() {
        let of = |keys: &str| {
            parse(&format!(r#"{{"local-as": 65001, "neighbour": [{{{keys}, "remote-as": 65000}}]}}"#))
                .map(|it| it.neighbours[0].name())
        };
        for (keys, name) in [
            (r#""address": "2001:db8::1""#, "2001:db8::1"),
            (r#""address": "fe80::1%eth0""#, "fe80::1%eth0"),
            (r#""address": "fe80::1", "interface": "eth0""#, "fe80::1%eth0"),
            (r#""interface": "eth0""#, "eth0"),
        ] {
            assert_eq!(of(keys).unwrap(), name);
        }
        for (keys, expected) in [
            (
                r#""address": "fe80::1""#,
                "[[bgp.neighbour]] address fe80::1: is link-local and requires an interface, e.g. fe80::1%eth0",
            ),
            (r#""address": "ff02::1%eth0""#, "[[bgp.neighbour]] address ff02::1: give it a unicast address"),
            (r#""address": "router""#, "[[bgp.neighbour]] address router: invalid IPv6 address"),
            (
                r#""address": "2001:db8::1%eth0""#,
                "[[bgp.neighbour]] interface eth0: is only for link-local addresses, and 2001:db8::1 is not",
            ),
            (
                r#""address": "fe80::1%eth0", "interface": "eth1""#,
                "[[bgp.neighbour]] interface eth1: differs from eth0",
            ),
            (
                r#""interface": "an-interface-of-17""#,
                "[[bgp.neighbour]] interface an-interface-of-17: is not an interface name",
            ),
            (
                r#""interface": "eth0", "password-file": "/x""#,
                "[[bgp.neighbour]] password-file /x: requires an address",
            ),
            (r#""passive": true"#, "[[bgp.neighbour]] address (none): set the router's address"),
        ] {
            let error = of(keys).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn a_neighbour_has_bfd_or_graceful_restart() {
        let parse = |all: &str, one: &str| {
            parse(&format!(
                r#"{{"local-as": 65001, {all} "neighbour": [{{"address": "2001:db8::1", "remote-as": 65000 {one}}}]}}"#
            ))
            .map(|it| (it.neighbours[0].restart_time, it.neighbours[0].bfd))
        };
        let fast = |millis, multiplier| Some(Timing { interval: Duration::from_millis(millis), multiplier });
        assert_eq!(parse("", r#", "bfd": true"#), Ok((0, fast(100, 3))));
        assert_eq!(
            parse("", r#", "bfd": true, "bfd-interval": 300, "bfd-multiplier": 5"#),
            Ok((0, fast(300, 5)))
        );
        assert_eq!(parse(r#""restart-time": 60,"#, ""), Ok((60, None)));
        assert_eq!(
            parse(r#""restart-time": 60,"#, r#", "bfd": true, "restart-time": 0"#),
            Ok((0, fast(100, 3)))
        );
        let error = parse(r#""restart-time": 60,"#, r#", "bfd": true"#).unwrap_err();
        assert!(error.contains("neighbour 2001:db8::1") && error.contains("set restart-time = 0"), "{error}");
    }
}
