//! What the speaker counts of each neighbour; [`crate::metrics`] shows it.

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

type Labels = Vec<(&'static str, String)>;

/// Shared: the neighbours' tasks count, the registry shows.
#[derive(Debug, Clone, Default)]
pub struct Meters {
    established: Family<Labels, Gauge>,
    since: Family<Labels, Gauge>,
    flaps: Family<Labels, Counter>,
    announced: Family<Labels, Gauge>,
    imported: Family<Labels, Gauge>,
    updates: Family<Labels, Counter>,
    notifications: Family<Labels, Counter>,
    bfd_up: Family<Labels, Gauge>,
    bfd_failures: Family<Labels, Counter>,
}

impl Meters {
    /// Shows all of it in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        let gauges = [
            ("bgp_established", "Whether there is a BGP session with the neighbour", &self.established),
            ("bgp_since", "Since when that is so, in seconds of Unix time", &self.since),
            ("bgp_prefixes_announced", "Prefixes that are announced to the neighbour", &self.announced),
            ("bgp_prefixes_imported", "Prefixes that it announces and that are taken in", &self.imported),
            ("bfd_up", "Whether the BFD session with the neighbour is up", &self.bfd_up),
        ];
        for (name, help, family) in gauges {
            registry.register(name, help, family.clone());
        }
        let counters = [
            ("bgp_flaps", "Sessions with the neighbour that ended", &self.flaps),
            ("bgp_updates", "UPDATE messages, by direction", &self.updates),
            ("bgp_notifications", "NOTIFICATION messages, by direction", &self.notifications),
            ("bfd_failures", "Failures of the path to the neighbour", &self.bfd_failures),
        ];
        for (name, help, family) in counters {
            registry.register(name, help, family.clone());
        }
    }

    /// Those of one neighbour, all of which are shown from now on.
    pub(super) fn of(&self, neighbour: &str, bfd: bool) -> Counts {
        let labels = || vec![("neighbour", neighbour.to_owned())];
        let gauge = |family: &Family<Labels, Gauge>| family.get_or_create(&labels()).clone();
        let counter = |family: &Family<Labels, Counter>| family.get_or_create(&labels()).clone();
        let by_direction = |family: &Family<Labels, Counter>, direction: &str| {
            let labels = [labels(), vec![("direction", direction.to_owned())]].concat();
            family.get_or_create(&labels).clone()
        };
        Counts {
            established: gauge(&self.established),
            since: gauge(&self.since),
            flaps: counter(&self.flaps),
            announced: gauge(&self.announced),
            imported: gauge(&self.imported),
            updates_sent: by_direction(&self.updates, "sent"),
            updates_received: by_direction(&self.updates, "received"),
            notifications_sent: by_direction(&self.notifications, "sent"),
            notifications_received: by_direction(&self.notifications, "received"),
            bfd: bfd.then(|| (gauge(&self.bfd_up), counter(&self.bfd_failures))),
        }
    }
}

/// What is counted of one neighbour.
#[derive(Debug, Clone)]
pub(super) struct Counts {
    pub(super) established: Gauge,
    pub(super) since: Gauge,
    pub(super) flaps: Counter,
    pub(super) announced: Gauge,
    pub(super) imported: Gauge,
    pub(super) updates_sent: Counter,
    pub(super) updates_received: Counter,
    pub(super) notifications_sent: Counter,
    pub(super) notifications_received: Counter,
    /// Whether the path is up, and how often it failed; with BFD only.
    pub(super) bfd: Option<(Gauge, Counter)>,
}
