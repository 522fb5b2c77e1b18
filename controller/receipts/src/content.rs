//! What a receipt says.

use std::time::{Duration, SystemTime};

use sextant_proto::{
    Claim, Epoch, Incarnation, NodeId, NodeName, Pool, PoolName, Prefix,
    convert::{self, MessageError},
    v1,
};

/// The version of receipts.
const VERSION: u32 = 1;
/// The most incarnations that a receipt names.
const MOST_ANCESTORS: usize = 64;

/// What a receipt says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// The cluster.
    pub cluster: PoolName,
    /// The node that holds the claim.
    pub node: NodeName,
    /// Its id.
    pub node_id: NodeId,
    /// The claim, with the definition of its pool.
    pub claim: Claim,
    /// The incarnations of the store before that of the claim's epoch, as far as they are known.
    pub ancestors: Vec<Incarnation>,
    /// When it was signed.
    pub signed: SystemTime,
}

/// The node that shows a receipt.
#[derive(Debug, Clone, Copy)]
pub struct Bearer<'a> {
    /// Its name.
    pub node: &'a NodeName,
    /// Its id.
    pub node_id: NodeId,
}

/// How a receipt differs from the claim that it is shown for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// It is of another cluster.
    #[error("it is of cluster {0}")]
    Cluster(PoolName),
    /// It is of another node.
    #[error("it is of node {0}")]
    Node(NodeName),
    /// It is of another node id.
    #[error("it is of node id {0}")]
    NodeId(NodeId),
    /// It is of another prefix.
    #[error("it is of the claim of {0}")]
    Prefix(Prefix),
    /// It is of another epoch.
    #[error("it is of the claim since {0}")]
    Epoch(Epoch),
}

impl Content {
    /// Whether it proves that `bearer` was granted the claim of `prefix` at `epoch` by `cluster`.
    ///
    /// # Errors
    /// A [`Mismatch`] if it does not.
    pub fn covers(
        &self,
        cluster: &PoolName,
        bearer: Bearer<'_>,
        prefix: Prefix,
        epoch: Epoch,
    ) -> Result<(), Mismatch> {
        if self.cluster != *cluster {
            return Err(Mismatch::Cluster(self.cluster.clone()));
        }
        if self.node != *bearer.node {
            return Err(Mismatch::Node(self.node.clone()));
        }
        if self.node_id != bearer.node_id {
            return Err(Mismatch::NodeId(self.node_id));
        }
        if self.claim.prefix != prefix {
            return Err(Mismatch::Prefix(self.claim.prefix));
        }
        if self.claim.epoch != epoch {
            return Err(Mismatch::Epoch(self.claim.epoch));
        }
        Ok(())
    }

    /// Whether `other` says the same of the claim, whenever each was signed.
    pub fn is_same(&self, other: &Self) -> bool {
        let Self { cluster, node, node_id, claim, ancestors, signed: _ } = self;
        (cluster, node, node_id, claim, ancestors)
            == (&other.cluster, &other.node, &other.node_id, &other.claim, &other.ancestors)
    }
}

impl TryFrom<v1::ReceiptContent> for Content {
    type Error = MessageError;

    fn try_from(message: v1::ReceiptContent) -> Result<Self, MessageError> {
        let v1::ReceiptContent { version, cluster, node, node_id, claim, ancestors, signed_unix_ms } =
            message;
        if version != VERSION {
            return Err(MessageError::new(
                "version",
                format!("is {version}, and this version reads {VERSION}"),
            ));
        }
        if ancestors.len() > MOST_ANCESTORS {
            return Err(MessageError::new("ancestors", format!("are more than {MOST_ANCESTORS}")));
        }
        let ancestors = ancestors.iter().map(|it| convert::id("ancestors", it));
        Ok(Self {
            cluster: convert::parse("cluster", &cluster)?,
            node: convert::parse("node", &node)?,
            node_id: convert::id("node_id", &node_id)?,
            claim: convert::required("claim", claim)?,
            ancestors: ancestors.collect::<Result<_, _>>()?,
            signed: SystemTime::UNIX_EPOCH + Duration::from_millis(signed_unix_ms),
        })
    }
}

impl From<&Content> for v1::ReceiptContent {
    fn from(content: &Content) -> Self {
        let Content { cluster, node, node_id, claim, ancestors, signed } = content;
        // Whether a pool is closed changes, and is not the holder's.
        let pool = Pool { draining: false, ..claim.pool.clone() };
        let since = signed.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self {
            version: VERSION,
            cluster: cluster.to_string(),
            node: node.to_string(),
            node_id: (*node_id).into(),
            claim: Some((&Claim { pool, ..claim.clone() }).into()),
            ancestors: ancestors.iter().map(|it| (*it).into()).collect(),
            signed_unix_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        }
    }
}
