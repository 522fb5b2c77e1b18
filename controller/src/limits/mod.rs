//! The limits of one member of the cluster, and of one address, at this controller: one costs the others no more than its share.
//!
//! A member is known by its certificate; over plain text there are addresses alone. Controllers have no limit: they ask for others.

mod bucket;

use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use bucket::{Bucket, Rate};

/// The seconds for which a party may exceed its rate after it has done nothing.
const BURST_SECONDS: f64 = 10.0;
/// Above this number of parties, those that do nothing are forgotten.
const MANY: usize = 4096;
/// The most parties; further ones share an account.
const MOST: usize = 65_536;
/// How often they are forgotten at most.
const PRUNE: Duration = Duration::from_secs(1);

/// The limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Calls in progress of a member, streams among them.
    pub calls: u32,
    /// Calls of a member a second, on average over ten seconds.
    pub requests: u32,
    /// Connections of a member.
    pub connections: u32,
    /// Claims of a node a minute.
    pub claims: u32,
    /// Calls in progress of an address.
    pub address_calls: u32,
    /// Calls of an address a second, on average over ten seconds.
    pub address_requests: u32,
    /// Connections of an address; `None`: seven eighths of all.
    pub address_connections: Option<u32>,
    /// By how many bits a host prefix that an agent requests may be shorter than the pool's.
    pub shorter_host_len: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            calls: 32,
            requests: 50,
            connections: 32,
            claims: 240,
            address_calls: 16_384,
            address_requests: 20_000,
            address_connections: None,
            shorter_host_len: 8,
        }
    }
}

/// A member of the cluster, or an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Party {
    Member(String),
    Address(IpAddr),
    /// Those beyond [`MOST`].
    Others,
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Member(name) => f.write_str(name),
            Self::Address(address) => write!(f, "address {address}"),
            Self::Others => f.write_str("addresses that are seen for the first time"),
        }
    }
}

/// Why a call is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OverLimit {
    /// Too many at a time.
    #[error(
        "{who}: {limit} calls are in progress, and no more are taken; the limit is `{key}` in [limits] of controller.toml"
    )]
    Calls {
        /// The member or address.
        who: String,
        /// The limit.
        limit: u32,
        /// Its key.
        key: &'static str,
    },
    /// Too many a second.
    #[error("{who}: more than {limit} calls a second; the limit is `{key}` in [limits] of controller.toml")]
    Requests {
        /// The member or address.
        who: String,
        /// The limit.
        limit: u32,
        /// Its key.
        key: &'static str,
    },
    /// Too many a minute.
    #[error("{who}: more than {limit} claims a minute; the limit is `claims` in [limits] of controller.toml")]
    Claims {
        /// The member or address.
        who: String,
        /// The limit.
        limit: u32,
    },
}

/// The use of this controller by each party, shared.
#[derive(Debug, Clone)]
pub struct Usage {
    limits: Limits,
    book: Arc<Mutex<Book>>,
}

#[derive(Debug, Default)]
struct Book {
    accounts: HashMap<Party, Account>,
    /// When idle ones were last forgotten.
    pruned: Option<Instant>,
}

#[derive(Debug)]
struct Account {
    calls: u32,
    requests: Bucket,
    claims: Bucket,
}

/// A call in progress, until it is dropped.
#[derive(Debug)]
pub struct Admitted {
    parties: Vec<Party>,
    book: Arc<Mutex<Book>>,
}

impl Usage {
    /// No use so far.
    pub fn new(limits: Limits) -> Self {
        Self { limits, book: Arc::default() }
    }

    /// The limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// A call of a member from an address, or of an address alone, begins.
    ///
    /// # Errors
    /// If one of them is over a limit.
    pub fn admit(
        &self,
        member: Option<&str>,
        address: Option<IpAddr>,
        claims: bool,
    ) -> Result<Admitted, OverLimit> {
        let now = Instant::now();
        let member = member.map(|name| Party::Member(name.to_owned()));
        let parties = member.into_iter().chain(address.map(Party::Address));
        let mut admitted = Admitted { parties: Vec::new(), book: self.book.clone() };
        for party in parties {
            let party = lock(&self.book).admit(party, claims, &self.limits, now)?;
            admitted.parties.push(party);
        }
        Ok(admitted)
    }
}

impl Book {
    fn admit(
        &mut self,
        party: Party,
        claims: bool,
        limits: &Limits,
        now: Instant,
    ) -> Result<Party, OverLimit> {
        let party = self.account_of(party, limits, now);
        let is_member = matches!(party, Party::Member(_));
        let requests = rate(limits, is_member);
        let account = self.accounts.entry(party.clone()).or_insert_with(|| Account {
            calls: 0,
            requests: Bucket::new(requests, now),
            claims: Bucket::new(claim_rate(limits), now),
        });
        let who = || party.to_string();
        if !account.requests.take(requests, now) {
            let (limit, key) = match is_member {
                true => (limits.requests, "requests"),
                false => (limits.address_requests, "address-requests"),
            };
            return Err(OverLimit::Requests { who: who(), limit, key });
        }
        let (limit, key) = match is_member {
            true => (limits.calls, "calls"),
            false => (limits.address_calls, "address-calls"),
        };
        if account.calls >= limit {
            return Err(OverLimit::Calls { who: who(), limit, key });
        }
        if claims && is_member && !account.claims.take(claim_rate(limits), now) {
            return Err(OverLimit::Claims { who: who(), limit: limits.claims });
        }
        account.calls += 1;
        Ok(party)
    }

    /// The party whose account is used. The number of accounts is bounded.
    fn account_of(&mut self, party: Party, limits: &Limits, now: Instant) -> Party {
        if self.accounts.len() < MANY || self.accounts.contains_key(&party) {
            return party;
        }
        // It looks at all of them.
        if self.pruned.is_none_or(|pruned| now.duration_since(pruned) >= PRUNE) {
            self.pruned = Some(now);
            self.accounts.retain(|party, account| !account.is_idle(party, limits, now));
        }
        if self.accounts.len() < MOST { party } else { Party::Others }
    }
}

impl Account {
    fn is_idle(&self, party: &Party, limits: &Limits, now: Instant) -> bool {
        let is_member = matches!(party, Party::Member(_));
        let requests = self.requests.is_full(rate(limits, is_member), now);
        self.calls == 0 && requests && self.claims.is_full(claim_rate(limits), now)
    }
}

fn rate(limits: &Limits, is_member: bool) -> Rate {
    let per_second = f64::from(if is_member { limits.requests } else { limits.address_requests });
    Rate { burst: per_second * BURST_SECONDS, per_second }
}

fn claim_rate(limits: &Limits) -> Rate {
    Rate { burst: f64::from(limits.claims), per_second: f64::from(limits.claims) / 60.0 }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut book = lock(&self.book);
        for party in &self.parties {
            if let Some(account) = book.accounts.get_mut(party) {
                account.calls = account.calls.saturating_sub(1);
            }
        }
    }
}

fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
