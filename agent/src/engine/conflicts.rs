//! Others' routes that take packets from ours, as the agent reports them.

use std::collections::BTreeSet;

use sextant_proto::Conflict;

use super::{Engine, inputs::Latest};
use crate::{
    advice::leads,
    kernel::{LOCAL_TABLE, Link, Route, RouteTarget},
    routes::{Capture, Entry, Ground, networks},
};

/// So many are reported: controllers read no more.
const REPORTED: usize = 256;

/// The links and the networks of this host's containers.
pub(super) struct Own {
    pub(super) links: BTreeSet<u32>,
    pub(super) networks: Vec<Entry>,
}

impl Engine {
    /// Those that take packets come first. Those of a container engine are reported by its checks alone.
    pub(super) fn conflicts(&self, latest: &Latest) -> Vec<Conflict> {
        let own = self.own();
        let mut captures = self.ground(&own).captures(self.state.actual());
        captures.retain(|capture| !self.is_engines(latest, capture));
        captures.sort_by_key(|capture| capture.ours_wins);
        captures.iter().take(REPORTED).map(|capture| conflict(capture, self.state.links())).collect()
    }

    /// Whether a route of another process takes packets from ours.
    pub(super) fn captures(&self, route: &Route) -> bool {
        self.ground(&self.own()).is_capturing(route)
    }

    /// What this host's containers are on.
    pub(super) fn own(&self) -> Own {
        let claims = self.planner.claims();
        let links = self.state.container_links(claims);
        Own { networks: networks(&self.state.actual().foreign, claims, &links), links }
    }

    fn ground<'a>(&'a self, own: &'a Own) -> Ground<'a> {
        Ground {
            desired: self.planner.desired(),
            table: self.settings.routes.table,
            before: self.state.looked_up_before(),
            pools: self.planner.refused_pools(),
            claims: self.planner.claims(),
            imports: self.planner.imports(),
            uplinks: self.planner.uplinks(),
            inside: &own.links,
            networks: &own.networks,
        }
    }
}

fn conflict(capture: &Capture<'_>, links: &[Link]) -> Conflict {
    let Capture { key, protocol, target, ours, ours_wins } = capture;
    Conflict {
        destination: key.destination,
        protocol: protocol.to_string(),
        metric: key.metric,
        ours_wins: *ours_wins,
        ours: (*ours != key.destination).then_some(*ours),
        leads: shown(key.table, target, links),
    }
}

/// Where it leads, as `ip -6 route` shows it, with its kind where that leads nowhere.
fn shown(table: u32, target: &RouteTarget, links: &[Link]) -> String {
    let kind = match target {
        RouteTarget::Via(_) => return leads(target, links).trim_start().to_owned(),
        RouteTarget::Unreachable => "unreachable",
        &RouteTarget::PROHIBIT => "prohibit",
        &RouteTarget::BLACKHOLE => "blackhole",
        &RouteTarget::THROW => "throw",
        &RouteTarget::LOCAL if table == LOCAL_TABLE => "an address of this host",
        RouteTarget::Other(kind) => return format!("type {kind}"),
    };
    kind.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{NextHop, RouteKey, RouteProtocol};

    #[test]
    fn a_conflict_shows_where_the_route_leads() {
        let link = Link { index: 2, name: "eth0".into(), ..Link::default() };
        let hop = |gateway: Option<&str>| {
            let gateway = gateway.map(|it| it.parse().unwrap());
            RouteTarget::Via(NextHop { gateway, link: 2, onlink: false }.into())
        };
        for (table, target, expected) in [
            (254, hop(None), "dev eth0"),
            (254, hop(Some("fe80::1")), "via fe80::1 dev eth0"),
            (254, RouteTarget::Other(6), "blackhole"),
            (254, RouteTarget::Unreachable, "unreachable"),
            (255, RouteTarget::LOCAL, "an address of this host"),
            (254, RouteTarget::Other(77), "type 77"),
        ] {
            let destination = "2001:db8:8001:5::/64".parse().unwrap();
            let capture = Capture {
                key: RouteKey { table, destination, metric: 7 },
                protocol: RouteProtocol(4),
                target: &target,
                ours: "2001:db8:8001::/48".parse().unwrap(),
                ours_wins: false,
            };
            let shown = conflict(&capture, std::slice::from_ref(&link)).to_string();
            let text = format!(
                "2001:db8:8001:5::/64 proto static metric 7 {expected}: theirs wins over 2001:db8:8001::/48"
            );
            assert_eq!(shown, text);
        }
    }
}
