//! What is known of the neighbour table; [`crate::metrics`] shows it.

use prometheus_client::{metrics::gauge::Gauge, registry::Registry};

use crate::kernel::NeighbourTable;

/// Shared: the watch sets them, the registry shows them.
#[derive(Debug, Clone, Default)]
pub struct Meters {
    entries: Gauge,
    limit: Gauge,
    refused: Gauge,
    unanswered: Gauge,
}

impl Meters {
    /// Shows all of it in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        let gauges = [
            ("neighbours", "Entries of the IPv6 neighbour table, of all network namespaces", &self.entries),
            ("neighbours_limit", "The number of entries that the kernel keeps (gc_thresh3)", &self.limit),
            (
                "neighbours_refused",
                "Entries refused since the machine's start: the table was full",
                &self.refused,
            ),
            (
                "neighbours_unanswered",
                "Entries of this host that wait for an answer, while many addresses do not answer",
                &self.unanswered,
            ),
        ];
        for (name, help, gauge) in gauges {
            registry.register(name, help, gauge.clone());
        }
    }

    pub(super) fn stand(&self, table: &NeighbourTable, unanswered: u32) {
        self.entries.set(table.entries.into());
        self.limit.set(table.limit.into());
        self.refused.set(i64::try_from(table.refused).unwrap_or(i64::MAX));
        self.unanswered.set(unanswered.into());
    }
}
