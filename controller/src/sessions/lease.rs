//! The controller's lease, which its own record and all its agents' sessions are attached to.

use futures::TryStreamExt;
use sextant_proto::VERSION;
use tokio::time::Instant;

use super::{Identity, Sessions};
use crate::{
    records::{ControllerRecord, Record},
    registry::{Entry, Guard, LeaseId, Op, Outcome, RegistryError, Txn},
};

/// The listed controllers that a starting controller replaces: they are dead, and their leases have not expired yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replaces {
    /// All others: the store allows one controller.
    All,
    /// Those at its own address, where no other process can listen.
    SameAddress,
    /// None: other hosts may have the same address, as with loopback ones, or `[::]`.
    None,
}

impl Sessions {
    /// Renews the lease, or gets a new one and attaches all sessions to it.
    pub(super) async fn keep_lease(&self) -> Result<(), RegistryError> {
        let lease = match self.lease() {
            Some(lease) => match self.renew(lease).await {
                Ok(()) => lease,
                Err(RegistryError::LeaseEnded(_)) => self.new_lease().await?,
                Err(error) => return Err(error),
            },
            None => {
                self.replace_predecessors().await?;
                self.new_lease().await?
            }
        };
        self.move_sessions(lease).await
    }

    async fn new_lease(&self) -> Result<LeaseId, RegistryError> {
        let asked = Instant::now();
        let lease = self.shared.registry.grant(self.shared.down_after).await?;
        let Identity { address, tls, .. } = &self.shared.me;
        let me = ControllerRecord { address: address.clone(), version: VERSION.into(), tls: Some(*tls) };
        let (key, value) = (self.shared.keys.controller(&self.shared.me.id), me.encode());
        let ops = vec![Op::Put { key, value, lease: Some(lease) }];
        self.shared.registry.commit(Txn { guards: Vec::new(), ops }).await?;
        *self.renewed() = asked;
        self.shared.lease.send_replace(Some(lease));
        Ok(lease)
    }

    /// Deletes the records of dead controllers.
    async fn replace_predecessors(&self) -> Result<(), RegistryError> {
        let replaces = self.shared.me.replaces;
        if replaces == Replaces::None {
            return Ok(());
        }
        let mine = self.shared.keys.controller(&self.shared.me.id);
        let listed = self.shared.registry.list(&self.shared.keys.controllers()).await?.entries;
        let same_address = |entry: &Entry| {
            let record = ControllerRecord::decode(&entry.value);
            record.is_ok_and(|record| record.address == self.shared.me.address)
        };
        let replaced =
            |entry: &&Entry| entry.key != mine && (replaces == Replaces::All || same_address(entry));
        for entry in listed.iter().filter(replaced) {
            let guards = vec![Guard::Unchanged(entry.key.clone(), entry.modified)];
            let ops = vec![Op::Delete(entry.key.clone())];
            if let Outcome::Committed(_) = self.shared.registry.commit(Txn { guards, ops }).await? {
                tracing::info!(key = entry.key, "record of an earlier controller deleted");
            }
        }
        Ok(())
    }

    /// Attaches sessions of an ended lease to `lease`. Stops at the first failure; the others are
    /// retried at the next call.
    async fn move_sessions(&self, lease: LeaseId) -> Result<(), RegistryError> {
        let to_move = self.book().to_move(lease);
        let put = async |node| self.put_own_session(&node, lease).await;
        self.each(to_move, put).try_collect().await
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use sextant_daemon::systemd::Watchdog;
    use sextant_proto::{InstanceId, NodeName};

    use super::*;
    use crate::{
        keys::Keys,
        records::{SessionRecord, TlsMode},
        registry::{SharedRegistry, embedded::EmbeddedStore},
    };

    struct Fixture {
        _dir: tempfile::TempDir,
        registry: SharedRegistry,
        keys: Keys,
    }

    impl Fixture {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let registry = Arc::new(EmbeddedStore::open(&dir.path().join("store")).unwrap());
            Self { _dir: dir, registry, keys: Keys::new(&"test".parse().unwrap()) }
        }

        fn controller(&self, id: &str, address: &str, replaces: Replaces) -> Sessions {
            let me = Identity { id: id.into(), address: address.into(), replaces, tls: TlsMode::Off };
            let heartbeat = Watchdog::from_environment().heartbeat();
            let (registry, keys) = (self.registry.clone(), self.keys.clone());
            Sessions::new(registry, keys, me, Duration::from_secs(60), heartbeat)
        }

        async fn listed(&self) -> Vec<String> {
            let entries = self.registry.list(&self.keys.controllers()).await.unwrap().entries;
            entries.iter().filter_map(|entry| Some(entry.key.rsplit_once('/')?.1.to_owned())).collect()
        }

        async fn session(&self, node: &NodeName) -> Option<SessionRecord> {
            let key = crate::registry::KeyRange::key(&self.keys.session(node));
            let entry = self.registry.list(&key).await.unwrap().entries.pop()?;
            Some(SessionRecord::decode(&entry.value).unwrap())
        }
    }

    #[tokio::test]
    async fn a_controller_replaces_the_record_of_the_one_at_its_address() {
        let (here, there) = ("[2001:db8::c]:7300", "[2001:db8::d]:7300");
        let table = [
            (Replaces::SameAddress, here, vec!["b"]),
            (Replaces::SameAddress, there, vec!["a", "b"]),
            (Replaces::None, here, vec!["a", "b"]),
            (Replaces::All, there, vec!["b"]),
        ];
        for (replaces, address, listed) in table {
            let it = Fixture::new();
            it.controller("a", here, Replaces::None).keep_lease().await.unwrap();
            it.controller("b", address, replaces).keep_lease().await.unwrap();
            assert_eq!(it.listed().await, listed, "{replaces:?} at {address}");
        }
    }

    #[tokio::test]
    async fn sessions_of_an_ended_lease_are_put_anew_unless_they_are_elsewhere_by_now() {
        let it = Fixture::new();
        let (mine, other) =
            (it.controller("a", "x", Replaces::None), it.controller("b", "y", Replaces::None));
        let [stays, moves]: [NodeName; 2] = ["h1", "h2"].map(|name| name.parse().unwrap());
        let instance = Some(InstanceId::random());
        mine.keep_lease().await.unwrap();
        other.keep_lease().await.unwrap();
        let mut streams = Vec::new();
        for node in [&stays, &moves] {
            let stream = mine.attach(node, instance, None).unwrap();
            stream.put_session().await.unwrap();
            streams.push(stream);
        }
        let ended = mine.lease().unwrap();
        it.registry.revoke(ended).await.unwrap();
        assert_eq!(it.session(&stays).await, None);
        let there = other.attach(&moves, instance, None).unwrap();
        there.put_session().await.unwrap();
        mine.keep_lease().await.unwrap();
        assert_ne!(mine.lease(), Some(ended));
        assert_eq!(
            it.session(&stays).await,
            Some(SessionRecord { controller: "a".into(), instance, serial: String::new() })
        );
        assert_eq!(
            it.session(&moves).await,
            Some(SessionRecord { controller: "b".into(), instance, serial: String::new() })
        );
        assert_eq!(mine.book().to_move(mine.lease().unwrap()), [moves], "it is superseded once that lasts");
    }
}
