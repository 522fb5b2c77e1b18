//! `[export]`: routes that export the own prefixes to a routing daemon.

use clap::Args;
use serde::{Deserialize, Serialize};

use super::{Invalid, RouteSettings, routes::check_table, value};

/// `[export]`
#[derive(Debug, Default, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(super) struct ExportKeys {
    /// Table of an unreachable route to each prefix of this host, kept for a routing daemon while the prefix is announced
    /// [default: no such routes]
    #[arg(id = "export-table", long = "export-table", env = "SEXTANT_EXPORT_TABLE", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    table: Option<u32>,
    /// Metric of these routes [default: one less than the metric of the other unreachable routes]
    #[arg(id = "export-metric", long = "export-metric", env = "SEXTANT_EXPORT_METRIC", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    metric: Option<u32>,
}

/// The unreachable routes that export the own prefixes to a routing daemon, each while its prefix is announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Their table.
    pub table: u32,
    /// Their metric, which differs from those of the other routes.
    pub metric: u32,
}

/// The configured mark.
pub(super) fn mark(keys: &ExportKeys, routes: &RouteSettings) -> Result<Option<Mark>, Invalid> {
    let Some(table) = keys.table else {
        return match keys.metric {
            Some(metric) => Err(value("--export-metric", &metric, &"requires --export-table")),
            None => Ok(None),
        };
    };
    check_table("--export-table", table)?;
    let metric = keys.metric.unwrap_or(routes.unreachable_metric - 1);
    if metric <= routes.metric || metric >= routes.unreachable_metric {
        let fix = format!(
            "must be between the metric of peers {} and that of unreachable routes {}",
            routes.metric, routes.unreachable_metric
        );
        return Err(value("--export-metric", &metric, &fix));
    }
    Ok(Some(Mark { table, metric }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Direct, Topology};

    #[test]
    fn a_mark_has_a_metric_between_peers_and_unreachable_routes() {
        let routes = RouteSettings {
            metric: 512,
            unreachable_metric: 4_000_000_000,
            table: 254,
            resync_secs: 60,
            off_link: Default::default(),
            direct: Direct::OnLink,
            balance: false,
            topology: Topology::Switched,
            mark: None,
        };
        let of = |table, metric| mark(&ExportKeys { table, metric }, &routes);
        assert_eq!(of(Some(66), None).unwrap(), Some(Mark { table: 66, metric: 3_999_999_999 }));
        assert!(of(None, Some(7)).is_err() && of(Some(255), None).is_err());
        let error = of(Some(254), Some(512)).unwrap_err().to_string();
        assert!(
            error.starts_with("--export-metric 512: must be between the metric of peers 512 and"),
            "{error}"
        );
    }
}
