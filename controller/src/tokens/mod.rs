//! Join tokens: records in the store. A host spends one by a transaction, so that exactly one of two wins, on any controllers.
//!
//! The store has the hash of a token's secret. Records stay for a day after their end, so that a late host learns the reason.

mod pattern;
mod record;
#[cfg(test)]
mod tests;

use std::time::Duration;

use sextant_identity::{Fingerprint, JoinToken, Secret, TokenError, TokenId};
use sextant_proto::{NodeName, Revision};

use crate::{
    audit::{Actor, Event, What},
    index::Index,
    keys::Keys,
    records::{NodeIdentity, Record},
    registry::{Entry, Guard, KeyRange, Op, RegistryError, SharedRegistry, Txn},
};

pub use pattern::{NodePattern, PatternError};
pub use record::{Decision, TokenRecord, Unusable, Use, Wish};

/// How often a change is tried against others: many hosts of a fleet may use one token at once.
const ATTEMPTS: u32 = 64;
/// The most tokens that there are.
const MOST: usize = 1000;
/// The most hosts that a token is for.
const MOST_HOSTS: u32 = 1000;
/// The longest life of a token.
const LONGEST: Duration = Duration::from_secs(7 * 86_400);
/// How long a token that has ended is kept.
const KEPT_MS: u64 = 86_400_000;
/// How many that have ended a transaction deletes.
const SWEPT: usize = 50;

/// Why the tokens stay as they are.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// There is none of this name.
    #[error("there is no join token {0}; see `sextant token list`, or make another: sextant token create")]
    Unknown(TokenId),
    /// The host may not use it.
    #[error(transparent)]
    Unusable(#[from] Unusable),
    /// A token for several nodes does not take the name of one that exists.
    #[error(
        "node {0} exists, and the join token is for new ones; make one for its name: sextant token create --node {0}"
    )]
    Exists(NodeName),
    /// Another host has joined as this node.
    #[error(
        "another host has joined as node {0} since; if this one is to be the node: sextant token create --node {0}, and \
         sextant-agent join here"
    )]
    Superseded(NodeName),
    /// The number of hosts.
    #[error("--count {count}: a token for {nodes} is for {fix}")]
    Count {
        /// The number.
        count: u32,
        /// The nodes.
        nodes: NodePattern,
        /// What would do.
        fix: String,
    },
    /// The life.
    #[error("--ttl {}s: give it 1s to 168h", .0.as_secs())]
    Life(Duration),
    /// There are too many.
    #[error("there are {MOST} join tokens; revoke some: sextant token revoke ID")]
    TooMany,
    /// A new one cannot be made.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Others changed it each time.
    #[error("{ATTEMPTS} attempts to change the join token collided with concurrent changes; try again")]
    Contended,
    /// The store.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// What a new token is for.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// The nodes.
    pub nodes: NodePattern,
    /// How many hosts may use it.
    pub count: u32,
    /// How long.
    pub life: Duration,
    /// What they are to claim.
    pub wish: Wish,
}

/// A host that wants to use a token.
#[derive(Debug, Clone)]
pub struct Host {
    /// The token's name.
    pub token: TokenId,
    /// Its secret.
    pub secret: Secret,
    /// The host's node.
    pub node: NodeName,
    /// The SHA-256 of its public key.
    pub key_hash: [u8; 32],
}

/// The join tokens of the cluster.
#[derive(Clone)]
pub struct Tokens {
    registry: SharedRegistry,
    keys: Keys,
    index: Index,
}

impl Tokens {
    /// The tokens in `registry`.
    pub fn new(registry: SharedRegistry, keys: Keys, index: Index) -> Self {
        Self { registry, keys, index }
    }

    /// Makes a token for hosts of the cluster with this root.
    ///
    /// # Errors
    /// A [`TokensError`]; nothing was changed.
    pub async fn create(
        &self,
        new: &NewToken,
        root: Fingerprint,
        by: &Actor,
        now_unix_ms: u64,
    ) -> Result<(JoinToken, TokenRecord, Revision), TokensError> {
        check(new)?;
        let token = JoinToken::generate(root)?;
        let record = TokenRecord {
            secret_hash: token.secret.hash(),
            nodes: new.nodes.clone(),
            count: new.count,
            created_unix_ms: now_unix_ms,
            expires_unix_ms: now_unix_ms + u64::try_from(new.life.as_millis()).unwrap_or(0),
            wish: new.wish.clone(),
            uses: Vec::new(),
        };
        let key = self.keys.token(token.id);
        for _ in 0..ATTEMPTS {
            let entries = self.registry.list(&self.keys.tokens()).await?.entries;
            if let Some(entry) = entries.iter().find(|entry| entry.key == key) {
                // The outcome of the attempt before was unknown.
                return Ok((token, record, entry.modified));
            }
            let ended = ended(&entries, now_unix_ms);
            if entries.len() - ended.len() >= MOST {
                return Err(TokensError::TooMany);
            }
            let detail = format!("{} for {}, count {}", token.id, new.nodes, new.count);
            let note = Event::new(What::TokenCreated).detail(detail).op(&self.keys, by);
            let puts = [Op::put(key.clone(), record.encode()), note];
            let ops = ended.into_iter().map(Op::Delete).chain(puts).collect();
            let txn = Txn { guards: vec![Guard::Absent(key.clone())], ops };
            if let Some(revision) = self.index.commit(&self.registry, txn).await? {
                return Ok((token, record, revision));
            }
        }
        Err(TokensError::Contended)
    }

    /// All tokens, the newest last.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn list(&self) -> Result<Vec<(TokenId, TokenRecord)>, TokensError> {
        let entries = self.registry.list(&self.keys.tokens()).await?.entries;
        let mut tokens = Vec::with_capacity(entries.len());
        for entry in entries {
            let id = entry.key.rsplit('/').next().and_then(|id| id.parse().ok());
            if let Some(id) = id {
                tokens.push((id, decode(&entry)?));
            }
        }
        tokens.sort_by_key(|(_, record)| record.created_unix_ms);
        Ok(tokens)
    }

    /// Ends a token.
    ///
    /// # Errors
    /// A [`TokensError`]; nothing was changed.
    pub async fn revoke(&self, id: TokenId, by: &Actor) -> Result<Revision, TokensError> {
        for _ in 0..ATTEMPTS {
            let (record, modified) = self.read(id).await?;
            let note = Event::new(What::TokenRevoked).detail(format!("{id} for {}", record.nodes));
            let key = self.keys.token(id);
            let ops = vec![Op::Delete(key.clone()), note.op(&self.keys, by)];
            let txn = Txn { guards: vec![Guard::Unchanged(key, modified)], ops };
            if let Some(revision) = self.index.commit(&self.registry, txn).await? {
                return Ok(revision);
            }
        }
        Err(TokensError::Contended)
    }

    /// Whether a host could spend a token now.
    ///
    /// # Errors
    /// A [`TokensError`], as [`Tokens::spend`] has it.
    pub async fn check(&self, host: &Host, now_unix_ms: u64) -> Result<(), TokensError> {
        let (record, _) = self.read(host.token).await?;
        record.spend(host.secret.hash(), &host.node, host.key_hash, now_unix_ms)?;
        Ok(())
    }

    /// Spends a token, and returns what the host is to claim. The same host may ask again.
    ///
    /// # Errors
    /// A [`TokensError`]; nothing was changed.
    pub async fn spend(&self, host: &Host, by: &Actor, now_unix_ms: u64) -> Result<Wish, TokensError> {
        let key = self.keys.token(host.token);
        for _ in 0..ATTEMPTS {
            let (record, modified) = self.read(host.token).await?;
            let next = match record.spend(host.secret.hash(), &host.node, host.key_hash, now_unix_ms)? {
                Decision::Again => {
                    self.may_renew(&host.node, host.key_hash).await?;
                    return Ok(record.wish);
                }
                Decision::Used(next) => next,
            };
            if record.nodes.is_several() && self.index.read(|state| state.nodes().contains_key(&host.node)) {
                return Err(TokensError::Exists(host.node.clone()));
            }
            let note = Event::new(What::Joined).node(&host.node).detail(format!("token {}", host.token));
            let identity = NodeIdentity { key_hash: host.key_hash };
            let ops = vec![
                Op::put(key.clone(), next.encode()),
                Op::put(self.keys.identity(&host.node), identity.encode()),
                note.op(&self.keys, by),
            ];
            let txn = Txn { guards: vec![Guard::Unchanged(key.clone(), modified)], ops };
            if self.index.commit(&self.registry, txn).await?.is_some() {
                return Ok(record.wish);
            }
        }
        Err(TokensError::Contended)
    }

    /// Notes that a host with this key has joined, for which others than a token vouch.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn joined(&self, node: &NodeName, key_hash: [u8; 32], by: &Actor) -> Result<(), TokensError> {
        let identity = NodeIdentity { key_hash };
        let note = Event::new(What::Joined).node(node).detail("service-account token");
        let ops =
            vec![Op::put(self.keys.identity(node), identity.encode()), note.op(&self.keys, &by.naming(node))];
        for _ in 0..ATTEMPTS {
            let txn = Txn { guards: Vec::new(), ops: ops.clone() };
            if self.index.commit(&self.registry, txn).await?.is_some() {
                return Ok(());
            }
        }
        Err(TokensError::Contended)
    }

    /// Checks that the host with this key is the one that joined last as `node`. Where the store does not know, after a loss or a
    /// restore, it may be.
    ///
    /// # Errors
    /// If another host has joined since.
    pub async fn may_renew(&self, node: &NodeName, key_hash: [u8; 32]) -> Result<(), TokensError> {
        let key = self.keys.identity(node);
        let entries = self.registry.list(&KeyRange::key(&key)).await?.entries;
        let Some(entry) = entries.first() else { return Ok(()) };
        let known = NodeIdentity::decode(&entry.value)
            .map_err(|error| RegistryError::Corrupt(format!("{key}: {error}")))?;
        if known.key_hash == key_hash { Ok(()) } else { Err(TokensError::Superseded(node.clone())) }
    }

    async fn read(&self, id: TokenId) -> Result<(TokenRecord, Revision), TokensError> {
        let entries = self.registry.list(&KeyRange::key(&self.keys.token(id))).await?.entries;
        let entry = entries.first().ok_or(TokensError::Unknown(id))?;
        Ok((decode(entry)?, entry.modified))
    }
}

fn check(new: &NewToken) -> Result<(), TokensError> {
    if new.life < Duration::from_secs(1) || new.life > LONGEST {
        return Err(TokensError::Life(new.life));
    }
    let fix = match &new.nodes {
        NodePattern::One(_) if new.count != 1 => "one host; give a pattern, e.g. 'web-*'".to_owned(),
        NodePattern::Several(..) if !(1..=MOST_HOSTS).contains(&new.count) => {
            format!("1 to {MOST_HOSTS} hosts")
        }
        _ => return Ok(()),
    };
    Err(TokensError::Count { count: new.count, nodes: new.nodes.clone(), fix })
}

fn decode(entry: &Entry) -> Result<TokenRecord, RegistryError> {
    TokenRecord::decode(&entry.value)
        .map_err(|error| RegistryError::Corrupt(format!("{}: {error}", entry.key)))
}

/// The keys of some tokens that ended more than a day ago.
fn ended(entries: &[Entry], now_unix_ms: u64) -> Vec<String> {
    let has_ended = |entry: &&Entry| {
        TokenRecord::decode(&entry.value).is_ok_and(|it| it.expires_unix_ms + KEPT_MS < now_unix_ms)
    };
    entries.iter().filter(has_ended).take(SWEPT).map(|entry| entry.key.clone()).collect()
}
