//! Pools that only the BGP settings know. Pure.

use crate::{cluster::View, problems::Finding, settings::PoolsSettings};

/// `[bgp.pool.NAME]` of no pool of the cluster has no effect: a mistyped name would announce what the operator keeps back.
pub(super) fn unknown(settings: &PoolsSettings, view: &View) -> Option<Finding> {
    view.incarnation()?;
    let is_known = |name: &&_| view.pools().any(|pool| pool.name == **name);
    let unknown: Vec<_> = settings.keys().filter(|name| !is_known(name)).map(ToString::to_string).collect();
    let known: Vec<_> = view.pools().map(|pool| pool.name.to_string()).collect();
    (!unknown.is_empty()).then(|| {
        Finding::new(
            "bgp-pool",
            format!("[bgp.pool.{}] has no effect: the cluster has no such pool", unknown.join("], [bgp.pool.")),
            format!(
                "correct the name in agent.toml (pools of the cluster: {}), add the pool, or remove the section",
                known.join(", ")
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use sextant_proto::Pool;

    use super::*;
    use crate::{routes::fixture, settings::PoolSettings};

    fn view(pools: &[&str]) -> View {
        let pool =
            |name: &&str| Pool::new(name.parse().unwrap(), "fd00::/48".parse().unwrap(), 64, 64).unwrap();
        fixture::view(pools.iter().map(pool).collect(), vec![])
    }

    fn settings(names: &[&str]) -> PoolsSettings {
        let all = Arc::new(PoolSettings { announce: false, communities: None, large_communities: None });
        names.iter().map(|name| (name.parse().unwrap(), all.clone())).collect::<BTreeMap<_, _>>()
    }

    #[test]
    fn a_section_of_no_pool_is_named_with_the_pools_that_there_are() {
        let view = view(&["main", "ula"]);
        assert_eq!(unknown(&settings(&["ula"]), &view), None);
        let found = unknown(&settings(&["main", "lua", "old"]), &view).unwrap();
        assert!(found.saw.contains("[bgp.pool.lua], [bgp.pool.old] has no effect"), "{found:?}");
        assert!(found.fix.contains("main, ula") && !found.unready, "{found:?}");
    }

    #[test]
    fn nothing_is_unknown_before_the_cluster_is_known() {
        assert_eq!(unknown(&settings(&["lua"]), &View::default()), None);
    }
}
