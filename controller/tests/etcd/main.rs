//! The store in etcd, against real etcd of Debian's packages `etcd-server` and `etcd-client`.

#![allow(clippy::unwrap_used)]

mod certificates;
mod cluster;
mod conforms;
mod faults;
mod limits;
mod progress;
mod renewed;
mod speed;

use bytes::Bytes;
use sextant_controller::registry::{KeyRange, Op, Outcome, Registry, RegistryError, Txn, etcd::EtcdStore};
use sextant_proto::Revision;

/// The keys that the tests watch.
fn all() -> KeyRange {
    KeyRange::prefix("k/")
}

async fn put(store: &EtcdStore, key: &str, value: impl Into<Bytes>) -> Result<Revision, RegistryError> {
    let ops = vec![Op::put(key, value)];
    match store.commit(Txn { guards: vec![], ops }).await? {
        Outcome::Committed(revision) => Ok(revision),
        Outcome::Refused(_) => panic!("{key} was refused without guards"),
    }
}
