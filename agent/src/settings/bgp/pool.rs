//! `[bgp.pool.NAME]`: how prefixes of one pool are announced.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use sextant_proto::PoolName;

use super::{
    Invalid,
    communities::{communities, large_communities},
    value,
};

/// `[bgp.pool.NAME]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(super) struct PoolKeys {
    announce: bool,
    communities: Option<Vec<String>>,
    large_communities: Option<Vec<String>>,
}

impl Default for PoolKeys {
    fn default() -> Self {
        Self { announce: true, communities: None, large_communities: None }
    }
}

/// How prefixes of one pool are announced.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PoolSettings {
    /// Whether they are announced at all.
    pub announce: bool,
    /// Their communities (RFC 1997); `None`: those of the neighbour.
    pub communities: Option<Vec<u32>>,
    /// Their large communities (RFC 8092); `None`: those of the neighbour.
    pub large_communities: Option<Vec<[u32; 3]>>,
}

/// The pools that have settings of their own.
pub type PoolsSettings = BTreeMap<PoolName, Arc<PoolSettings>>;

/// The checked settings of all pools.
pub(super) fn check(pools: HashMap<String, PoolKeys>) -> Result<PoolsSettings, Invalid> {
    let one = |(name, keys): (String, PoolKeys)| {
        let name = name.parse().map_err(|error| value("[bgp.pool]", &name, &error))?;
        Ok((name, Arc::new(keys.check()?)))
    };
    pools.into_iter().map(one).collect()
}

impl PoolKeys {
    fn check(self) -> Result<PoolSettings, Invalid> {
        let all = self.communities.map(|texts| communities("[bgp.pool] communities", &texts));
        let large =
            self.large_communities.map(|texts| large_communities("[bgp.pool] large-communities", &texts));
        Ok(PoolSettings {
            announce: self.announce,
            communities: all.transpose()?,
            large_communities: large.transpose()?,
        })
    }
}
