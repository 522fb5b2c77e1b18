//! A join token, as the store has it. Whether a host may use it is decided here. Pure.

use bytes::Bytes;
use prost::Message;
use sextant_identity::SecretHash;
use sextant_proto::{
    NodeName, PoolName,
    convert::{self, MessageError},
    store::v1 as stored,
};

use super::pattern::NodePattern;
use crate::records::{Record, RecordError};

/// `tokens/…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRecord {
    /// The hash of its secret.
    pub secret_hash: SecretHash,
    /// The nodes that it is for.
    pub nodes: NodePattern,
    /// How many hosts may use it.
    pub count: u32,
    /// When it was made, by the wall clock.
    pub created_unix_ms: u64,
    /// When it ends, by the wall clock.
    pub expires_unix_ms: u64,
    /// What to claim from, and how much of it, where the agent's settings say nothing.
    pub wish: Wish,
    /// The hosts that used it.
    pub uses: Vec<Use>,
}

/// What a host is to claim.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    /// The pool; `None`: the default.
    pub pool: Option<PoolName>,
    /// The length of its prefix; `None`: the pool's.
    pub host_len: Option<u32>,
}

/// A host that used a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// Its node.
    pub node: NodeName,
    /// The SHA-256 of its public key.
    pub key_hash: [u8; 32],
    /// When, by the wall clock.
    pub unix_ms: u64,
}

/// Why a host may not use a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// The secret is another one.
    #[error("the secret of the join token is wrong; copy the whole line that `sextant token create` printed")]
    Secret,
    /// Its time is over.
    #[error("the join token ended {} ago; make another: sextant token create --node {node}", ago(*.ended_secs))]
    Expired {
        /// Since when.
        ended_secs: u64,
        /// Whose host asks.
        node: NodeName,
    },
    /// It is for other nodes.
    #[error(
        "the join token is for node {nodes}, and this is node {node}; make one for this node, or set --node to the name of the token"
    )]
    Node {
        /// Whose host asks.
        node: NodeName,
        /// The nodes that it is for.
        nodes: String,
    },
    /// As many hosts as may have used it.
    #[error("the join token was used by {used_by}; make another: sextant token create --node {node}")]
    Spent {
        /// Whose host asks.
        node: NodeName,
        /// Who used it.
        used_by: String,
    },
}

fn ago(secs: u64) -> String {
    match secs {
        0..120 => format!("{secs}s"),
        120..7200 => format!("{}m", secs / 60),
        _ => format!("{}h", secs / 3600),
    }
}

/// What the use of a token changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The host has used it before, and asks again.
    Again,
    /// It is used now: the record is this one.
    Used(TokenRecord),
}

impl TokenRecord {
    /// The use of it by a host with this key.
    ///
    /// # Errors
    /// If the host may not use it.
    pub fn spend(
        &self,
        secret: SecretHash,
        node: &NodeName,
        key_hash: [u8; 32],
        now_unix_ms: u64,
    ) -> Result<Decision, Unusable> {
        if self.secret_hash != secret {
            return Err(Unusable::Secret);
        }
        if now_unix_ms >= self.expires_unix_ms {
            let ended_secs = (now_unix_ms - self.expires_unix_ms) / 1000;
            return Err(Unusable::Expired { ended_secs, node: node.clone() });
        }
        if !self.nodes.includes(node) {
            return Err(Unusable::Node { node: node.clone(), nodes: self.nodes.to_string() });
        }
        let earlier = self.uses.iter().find(|it| it.node == *node);
        if earlier.is_some_and(|it| it.key_hash == key_hash) {
            return Ok(Decision::Again);
        }
        if earlier.is_some() || self.uses.len() >= usize::try_from(self.count).unwrap_or(usize::MAX) {
            return Err(Unusable::Spent { node: node.clone(), used_by: self.used_by(earlier) });
        }
        let mut next = self.clone();
        next.uses.push(Use { node: node.clone(), key_hash, unix_ms: now_unix_ms });
        Ok(Decision::Used(next))
    }

    /// Those that used it, for people.
    fn used_by(&self, same_node: Option<&Use>) -> String {
        match (same_node, &self.uses[..]) {
            (Some(it), _) | (None, [it]) => format!("another host, as node {}", it.node),
            _ => format!("{} hosts, as many as it is for", self.uses.len()),
        }
    }
}

impl Record for TokenRecord {
    fn decode(value: &[u8]) -> Result<Self, RecordError> {
        let message: stored::Token = Message::decode(value)?;
        let hash = |field, octets: &[u8]| {
            SecretHash::from_octets(octets)
                .ok_or_else(|| MessageError::new(field, "a hash has 32 octets".to_owned()))
        };
        let pool = Some(&message.pool).filter(|it| !it.is_empty());
        let uses = message.uses.into_iter().map(|it| {
            let key_hash = hash("key_hash", &it.key_hash)?.octets().try_into().unwrap_or_default();
            Ok(Use { node: convert::parse("node", &it.node)?, key_hash, unix_ms: it.unix_ms })
        });
        Ok(Self {
            secret_hash: hash("secret_hash", &message.secret_hash)?,
            nodes: convert::parse("nodes", &message.nodes)?,
            count: message.count,
            created_unix_ms: message.created_unix_ms,
            expires_unix_ms: message.expires_unix_ms,
            wish: Wish {
                pool: pool.map(|it| convert::parse("pool", it)).transpose()?,
                host_len: (message.host_len > 0).then_some(message.host_len),
            },
            uses: uses.collect::<Result<_, RecordError>>()?,
        })
    }

    fn encode(&self) -> Bytes {
        let one = |it: &Use| stored::TokenUse {
            node: it.node.to_string(),
            key_hash: it.key_hash.to_vec().into(),
            unix_ms: it.unix_ms,
        };
        let message = stored::Token {
            secret_hash: self.secret_hash.octets().to_vec().into(),
            nodes: self.nodes.to_string(),
            count: self.count,
            created_unix_ms: self.created_unix_ms,
            expires_unix_ms: self.expires_unix_ms,
            pool: self.wish.pool.as_ref().map(ToString::to_string).unwrap_or_default(),
            host_len: self.wish.host_len.unwrap_or(0),
            uses: self.uses.iter().map(one).collect(),
        };
        message.encode_to_vec().into()
    }
}

#[cfg(test)]
mod tests {
    use sextant_identity::Secret;

    use super::*;

    fn secret(octet: u8) -> SecretHash {
        Secret::from_octets(&[octet; 32]).unwrap().hash()
    }

    fn record(nodes: &str, count: u32) -> TokenRecord {
        TokenRecord {
            secret_hash: secret(1),
            nodes: nodes.parse().unwrap(),
            count,
            created_unix_ms: 1_000,
            expires_unix_ms: 10_000,
            wish: Wish { pool: Some("main".parse().unwrap()), host_len: Some(72) },
            uses: Vec::new(),
        }
    }

    fn used(decision: Result<Decision, Unusable>) -> TokenRecord {
        let Ok(Decision::Used(record)) = decision else { panic!("{decision:?}") };
        record
    }

    fn node(name: &str) -> NodeName {
        name.parse().unwrap()
    }

    #[test]
    fn a_token_is_used_once_and_the_same_host_may_ask_again() {
        let spent = used(record("h7", 1).spend(secret(1), &node("h7"), [7; 32], 2_000));
        assert_eq!(spent.spend(secret(1), &node("h7"), [7; 32], 3_000), Ok(Decision::Again));
        let other = spent.spend(secret(1), &node("h7"), [8; 32], 3_000).unwrap_err().to_string();
        assert!(other.contains("was used by another host, as node h7"), "{other}");
        assert_eq!(TokenRecord::decode(&spent.encode()).unwrap(), spent);
    }

    #[test]
    fn what_may_not_use_it_is_refused_with_the_reason() {
        let record = record("h7", 1);
        let why = |secret, name: &str, now| {
            record.spend(secret, &node(name), [7; 32], now).unwrap_err().to_string()
        };
        assert!(why(secret(2), "h7", 2_000).contains("the secret of the join token is wrong"));
        assert!(why(secret(1), "h8", 2_000).contains("is for node h7, and this is node h8"));
        assert!(why(secret(1), "h7", 10_000).contains("ended 0s ago"));
        assert!(why(secret(1), "h7", 10_000 + 600_000).contains("ended 10m ago"));
        // Who does not know the secret learns nothing else.
        assert_eq!(why(secret(2), "h8", 99_000), why(secret(2), "h7", 2_000));
    }

    #[test]
    fn a_token_for_several_is_used_as_often_as_it_says_once_by_each_name() {
        let mut record = record("web-*", 2);
        record = used(record.spend(secret(1), &node("web-1"), [1; 32], 2_000));
        let same = record.spend(secret(1), &node("web-1"), [9; 32], 2_000).unwrap_err().to_string();
        assert!(same.contains("another host, as node web-1"), "{same}");
        record = used(record.spend(secret(1), &node("web-2"), [2; 32], 2_000));
        let third = record.spend(secret(1), &node("web-3"), [3; 32], 2_000).unwrap_err().to_string();
        assert!(third.contains("was used by 2 hosts, as many as it is for"), "{third}");
        assert_eq!(record.spend(secret(1), &node("web-1"), [1; 32], 2_000), Ok(Decision::Again));
    }
}
