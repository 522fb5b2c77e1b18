//! The settings of routes.

use super::{Direct, Invalid, MAIN_TABLE, Mark, OffLink, Topology, export::mark, keys::Keys, value};

/// After the kernel's connected routes (256), before static ones (1024).
const PEER_METRIC: u32 = 512;
/// After all other routes.
const UNREACHABLE_METRIC: u32 = 4_000_000_000;

/// The settings of routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteSettings {
    /// The metric of routes to peers.
    pub metric: u32,
    /// The metric of unreachable routes.
    pub unreachable_metric: u32,
    /// The routing table.
    pub table: u32,
    /// Seconds between two comparisons with the kernel's routes.
    pub resync_secs: u32,
    /// Whether routes use all uplinks to a peer, instead of the first one that works.
    pub balance: bool,
    /// Whether on-link peers get a direct route.
    pub direct: Direct,
    /// What becomes of peers that are not on-link.
    pub off_link: OffLink,
    /// Whether packets to unassigned prefixes are refused here, or left to the router.
    pub topology: Topology,
    /// The routes that export the own prefixes to a routing daemon.
    pub mark: Option<Mark>,
}

pub(super) fn route_settings(all: &Keys) -> Result<RouteSettings, Invalid> {
    let keys = &all.routes;
    let settings = RouteSettings {
        metric: keys.metric.unwrap_or(PEER_METRIC),
        unreachable_metric: keys.unreachable_metric.unwrap_or(UNREACHABLE_METRIC),
        table: keys.table.unwrap_or(MAIN_TABLE),
        resync_secs: keys.resync.unwrap_or(60),
        balance: all.uplink.balance.unwrap_or(false),
        direct: keys.direct.unwrap_or_default(),
        off_link: keys.off_link.unwrap_or_default(),
        topology: all.topology.unwrap_or_default(),
        mark: None,
    };
    if settings.metric == 0 || settings.metric == u32::MAX {
        return Err(value("--routes-metric", &settings.metric, &"give it 1 to 4294967294"));
    }
    if settings.unreachable_metric <= settings.metric || settings.unreachable_metric == u32::MAX {
        let fix =
            format!("must be higher than the metric of peers {}, and at most 4294967294", settings.metric);
        return Err(value("--routes-unreachable-metric", &settings.unreachable_metric, &fix));
    }
    check_table("--routes-table", settings.table)?;
    if !(1..=86_400).contains(&settings.resync_secs) {
        return Err(value("--routes-resync", &settings.resync_secs, &"give it 1 to 86400 seconds"));
    }
    Ok(RouteSettings { mark: mark(&all.export, &settings)?, ..settings })
}

pub(super) fn check_table(key: &'static str, table: u32) -> Result<(), Invalid> {
    match table {
        0 | 255 => Err(value(key, &table, &"is reserved by the kernel; use 254 (main) or another table")),
        _ => Ok(()),
    }
}
