//! The store in etcd: any number of controllers over it (DESIGN §6).
//!
//! | part | owns |
//! |---|---|
//! | `options` | endpoints, login, TLS, timeouts, and their validation |
//! | `connection` | the client of one member: TLS files and passwords, which are read again |
//! | `member` | the edge to etcd: the calls to one member |
//! | `fault` | the classification of etcd's errors (pure) |
//! | `endpoints` | the choice of a member (pure) |
//! | `cluster` | calls to one member after another |
//! | `paging` | a listing page by page (pure) |
//! | `follow` | the progress of a watch, and the proof that it is current (pure) |
//! | `watch` | watches as streams |
//!
//! There are no tasks. etcd's default limits hold for transactions: 128 guards, 128 operations, 1.5 MiB; a larger one
//! is refused, as a transaction cannot be split. Leases have whole seconds, and at least one and a half election
//! timeouts of the cluster (2 s by default).

mod cluster;
mod connection;
mod endpoints;
mod fault;
mod follow;
mod member;
mod options;
mod paging;
mod watch;

use std::{
    collections::HashSet,
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use rand::Rng;
use sextant_proto::Revision;

pub use self::options::{ConnectError, EtcdOptions, Login, Timeouts, Tls};
use self::{
    cluster::{Attempts, Cluster, Purpose},
    fault::{Fault, Kind},
    paging::Pages,
};
use super::{KeyRange, LeaseId, Listing, Op, Outcome, Reading, Registry, RegistryError, Txn, Watch};

/// A store in an etcd cluster.
pub struct EtcdStore {
    name: String,
    cluster: Arc<Cluster>,
    /// A key that our role may read: reading a key is the only way to get etcd's revision.
    readable_key: OnceLock<String>,
}

impl EtcdStore {
    /// The store in the cluster of `options`. No connection is made yet: an unreachable cluster shows in the calls.
    ///
    /// # Errors
    /// If the options are invalid whatever the state of the cluster.
    pub async fn connect(options: EtcdOptions) -> Result<Self, ConnectError> {
        options.check()?;
        let members = member::members(&options).await?;
        let first = match options.spread {
            true => rand::rng().random_range(0..members.len()),
            false => 0,
        };
        Ok(Self {
            name: format!("etcd:{}", options.endpoints.join(",")),
            cluster: Arc::new(Cluster::new(members, first, options.timeouts)),
            readable_key: OnceLock::new(),
        })
    }

    /// Runs an empty transaction.
    async fn nothing(&self) -> Result<Outcome, RegistryError> {
        let key = self.readable_key.get().map_or("", String::as_str);
        let revision = self.revision(key).await.map_err(Fault::not_applied)?;
        Ok(Outcome::Committed(revision))
    }

    async fn revision(&self, key: &str) -> Result<Revision, Fault> {
        let ask = |member: member::Member| async move { member.revision(key).await };
        self.cluster.call(Purpose::Read, ask).await
    }

    /// The error for the lease that has ended.
    async fn ended(&self, txn: &Txn, fault: Fault) -> RegistryError {
        let leases: HashSet<LeaseId> = txn
            .ops
            .iter()
            .filter_map(|op| match op {
                Op::Put { lease, .. } => *lease,
                Op::Delete(_) => None,
            })
            .collect();
        let several = leases.len() > 1;
        for lease in leases {
            let exists = |member: member::Member| async move { member.exists(lease).await };
            if !several || matches!(self.cluster.call(Purpose::Read, exists).await, Ok(false)) {
                return RegistryError::LeaseEnded(lease);
            }
        }
        fault.not_applied()
    }
}

/// Checks that etcd can have a lease with this id.
fn of_etcd(lease: LeaseId) -> Result<LeaseId, RegistryError> {
    i64::try_from(lease.0).map_err(|_| RegistryError::LeaseEnded(lease))?;
    Ok(lease)
}

#[async_trait]
impl Registry for EtcdStore {
    fn describe(&self) -> String {
        self.name.clone()
    }

    fn fix(&self) -> &'static str {
        "start etcd, or restore the network between it and this controller; agents keep their routes meanwhile"
    }

    async fn list(&self, range: &KeyRange) -> Result<Listing, RegistryError> {
        self.readable_key.get_or_init(|| range.from.clone());
        let Some((from, to)) = member::bounds(range) else {
            let revision = self.revision(&range.from).await.map_err(Fault::not_applied)?;
            let entries = Vec::new();
            return Ok(Listing { revision, entries });
        };
        let mut pages = Pages::new(from, to);
        loop {
            let page = pages.next();
            let asked = self.cluster.call(Purpose::Read, |member| {
                let page = page.clone();
                async move { member.page(page).await }
            });
            match asked.await {
                Ok(reply) => {
                    if let Some(listing) = pages.take(reply) {
                        self.cluster.report_revision(listing.revision);
                        return Ok(listing);
                    }
                }
                Err(fault) if pages.failed(fault.kind) => {}
                Err(fault) => return Err(fault.not_applied()),
            }
        }
    }

    async fn read(&self, ranges: &[KeyRange]) -> Result<Reading, RegistryError> {
        let bounds: Vec<_> = ranges.iter().map(member::bounds).collect();
        let asked: Arc<[_]> = bounds.iter().flatten().cloned().collect();
        if let Some(range) = ranges.first() {
            self.readable_key.get_or_init(|| range.from.clone());
        }
        let read = self.cluster.call(Purpose::Read, |member| {
            let asked = Arc::clone(&asked);
            async move { member.read(&asked).await }
        });
        let (revision, found) = read.await.map_err(Fault::not_applied)?;
        self.cluster.report_revision(revision);
        let mut found = found.into_iter();
        let of = |bounds: Option<_>| bounds.and_then(|_| found.next()).unwrap_or_default();
        Ok(Reading { revision, ranges: bounds.into_iter().map(of).collect() })
    }

    /// # Panics
    /// If a key is in two operations.
    async fn commit(&self, txn: Txn) -> Result<Outcome, RegistryError> {
        let mut keys = HashSet::new();
        let repeated = txn.ops.iter().map(Op::key).find(|key| !keys.insert(*key));
        assert_eq!(repeated, None, "a key is in at most one operation of a transaction");
        let Some(key) = member::a_key(&txn) else {
            return self.nothing().await;
        };
        self.readable_key.get_or_init(|| key.to_owned());
        let txn = Arc::new(txn);
        let commit = |member: member::Member| {
            let txn = Arc::clone(&txn);
            async move { member.commit(&txn).await }
        };
        match self.cluster.call(Purpose::Once, commit).await {
            Ok(outcome) => {
                let (Outcome::Committed(revision) | Outcome::Refused(revision)) = outcome;
                self.cluster.report_revision(revision);
                Ok(outcome)
            }
            Err(fault) if fault.kind == Kind::NoLease => Err(self.ended(&txn, fault).await),
            Err(fault) => Err(fault.of_write()),
        }
    }

    fn watch(&self, range: KeyRange, after: Revision) -> Watch {
        watch::watch(Arc::clone(&self.cluster), range, after)
    }

    /// An attempt with an unknown outcome may leave a lease behind, which expires.
    async fn grant(&self, ttl: Duration) -> Result<LeaseId, RegistryError> {
        // The client chooses the id, so that a second attempt cannot create a second lease. Zero would let etcd choose.
        let lease = LeaseId(rand::rng().random_range(1..=i64::MAX.cast_unsigned()));
        let grant = |member: member::Member| async move { member.grant(lease, ttl).await };
        match self.cluster.call(Purpose::Idempotent, grant).await {
            Ok(()) => Ok(lease),
            Err(fault) if fault.kind == Kind::LeaseTaken => Ok(lease),
            Err(fault) => Err(fault.not_applied()),
        }
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), RegistryError> {
        let lease = of_etcd(lease)?;
        let keep = |member: member::Member| async move { member.keep_alive(lease).await };
        // A newly elected leader may not have applied the last grants: tried twice, with a read between.
        for last in [false, true] {
            match self.cluster.call(Purpose::Idempotent, keep).await {
                Ok(()) => return Ok(()),
                Err(fault) if fault.kind == Kind::NoLease && last => break,
                Err(fault) if fault.kind == Kind::NoLease => {
                    let exists = |member: member::Member| async move { member.exists(lease).await };
                    let exists = self.cluster.call(Purpose::Read, exists).await;
                    if !exists.map_err(Fault::not_applied)? {
                        break;
                    }
                }
                Err(fault) => return Err(fault.not_applied()),
            }
        }
        Err(RegistryError::LeaseEnded(lease))
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), RegistryError> {
        let lease = of_etcd(lease)?;
        let attempts = Attempts::default();
        let revoke = |member: member::Member| {
            attempts.count();
            async move { member.revoke(lease).await }
        };
        match self.cluster.call(Purpose::Idempotent, revoke).await {
            // With several attempts, the first one may have ended it.
            Err(fault) if fault.kind == Kind::NoLease && !attempts.several() => {
                Err(RegistryError::LeaseEnded(lease))
            }
            Err(fault) if fault.kind != Kind::NoLease => Err(fault.not_applied()),
            _ => Ok(()),
        }
    }
}
