//! Domain types in JSON: as the text that people read, a revision as a number.

use serde::{Serialize, Serializer};

use crate::{ClaimPhase, Incarnation, NodeId, NodeName, NodeState, PoolName, Prefix, Revision};

macro_rules! as_text {
    ($($type:ty),+) => {
        $(impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        })+
    };
}

as_text!(ClaimPhase, Incarnation, NodeId, NodeName, NodeState, PoolName, Prefix);

impl Serialize for Revision {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}
