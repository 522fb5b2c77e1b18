//! Leases.

use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::registry::RegistryError;

/// The polling interval.
const INTERVAL: Duration = Duration::from_millis(20);
/// The attempts of a test that a slow machine may spoil.
const ATTEMPTS: usize = 5;

impl Subject {
    /// Waits until exactly these keys exist.
    async fn until(&self, wanted: &[&str]) -> Result<(), String> {
        let mut found = Vec::new();
        let poll = async {
            loop {
                found = self.names().await?;
                if found == wanted {
                    return Ok(());
                }
                sleep(INTERVAL).await;
            }
        };
        let polled = timeout(TIMEOUT, poll).await;
        polled.unwrap_or_else(|_| Err(format!("after {TIMEOUT:?} the keys are {found:?}, wanted {wanted:?}")))
    }
}

fn ended<T: Debug>(what: &str, lease: LeaseId, answer: Result<T, RegistryError>) -> Result<(), String> {
    let matches = matches!(&answer, Err(RegistryError::LeaseEnded(of)) if *of == lease);
    holds(&format!("{what}: found {answer:?}, wanted that lease {} has ended", lease.0), matches)
}

/// A lease of the subject's TTL.
struct Held {
    lease: LeaseId,
    /// Just before it was granted.
    granted: Instant,
    put: Revision,
}

/// Puts some keys with a new lease; none if this machine was so slow that the lease ended before.
async fn held(subject: &Subject, names: &[String]) -> Result<Option<Held>, String> {
    let granted = Instant::now();
    let lease = subject.grant(subject.ttl).await?;
    let ops = names.iter().map(|name| subject.put_with(name, lease)).collect();
    let guards = Vec::new();
    match subject.registry.commit(Txn { guards, ops }).await {
        Ok(Outcome::Committed(put)) => Ok(Some(Held { lease, granted, put })),
        Err(RegistryError::LeaseEnded(_)) if granted.elapsed() >= subject.ttl => Ok(None),
        answer => Err(format!("a put with a new lease: {answer:?}")),
    }
}

fn too_slow() -> Result<(), String> {
    Err("this machine is too slow for leases: in every attempt the TTL was over before it was used"
        .to_owned())
}

pub async fn keys_end_with_their_lease(subject: Subject) -> Result<(), String> {
    subject.done(vec![subject.put("c", "stays")]).await?;
    let names = ["a", "b"].map(str::to_owned);
    for _ in 0..ATTEMPTS {
        let Some(held) = held(&subject, &names).await? else {
            continue;
        };
        let mut watch = subject.registry.watch(subject.range(), Revision(held.put.0 - 1));
        let Some(Event::Put(entry)) = next(&mut watch).await?.events.into_iter().next() else {
            return Err("the put is not delivered".to_owned());
        };
        same("the lease of the entry", entry.lease, Some(held.lease))?;
        let batch = next(&mut watch).await?;
        let lived = held.granted.elapsed();
        holds(&format!("it lived {lived:?}, its TTL is {:?}", subject.ttl), lived >= subject.ttl)?;
        same("the changes", changes(&batch, &subject.prefix), vec!["-a".to_owned(), "-b".to_owned()])?;
        return same("the remaining keys", subject.names().await?, vec!["c".to_owned()]);
    }
    too_slow()
}

pub async fn a_lease_kept_alive_lives_on(subject: Subject) -> Result<(), String> {
    for attempt in 0..ATTEMPTS {
        if kept_alive(&subject, format!("a{attempt}")).await? {
            return subject.until(&[]).await;
        }
    }
    too_slow()
}

/// False if we were too slow ourselves.
async fn kept_alive(subject: &Subject, name: String) -> Result<bool, String> {
    let ttl = subject.ttl;
    let Some(held) = held(subject, std::slice::from_ref(&name)).await? else {
        return Ok(false);
    };
    let mut last = held.granted;
    while held.granted.elapsed() < ttl * 3 {
        sleep(ttl / 8).await;
        let asked = Instant::now();
        let kept = subject.registry.keep_alive(held.lease).await;
        if last.elapsed() >= ttl {
            return Ok(false);
        }
        kept.map_err(|error| format!("kept alive {:?} after the last time: {error}", last.elapsed()))?;
        last = asked;
    }
    let entry = subject.entry(&name).await?;
    let slow = last.elapsed() >= ttl;
    holds("the key of a lease kept alive for 3 TTLs is there", slow || entry.is_some())?;
    Ok(!slow)
}

pub async fn a_revoked_lease_ends_at_once(subject: Subject) -> Result<(), String> {
    let lease = subject.grant(Duration::from_secs(3600)).await?;
    let put = subject.done(vec![subject.put_with("a", lease), subject.put_with("b", lease)]).await?;
    let mut watch = subject.registry.watch(subject.range(), put);
    subject.registry.revoke(lease).await.map_err(|error| format!("revoke: {error}"))?;
    same("the remaining keys", subject.names().await?, vec![])?;
    let delivered = changes(&next(&mut watch).await?, &subject.prefix);
    same("the changes", delivered, vec!["-a".to_owned(), "-b".to_owned()])?;
    ended("revoked again", lease, subject.registry.revoke(lease).await)?;
    ended("kept alive", lease, subject.registry.keep_alive(lease).await)
}

pub async fn an_ended_lease_is_refused(subject: Subject) -> Result<(), String> {
    let lease = subject.grant(Duration::from_secs(3600)).await?;
    subject.registry.revoke(lease).await.map_err(|error| format!("revoke: {error}"))?;
    let ops = vec![subject.put("a", "1"), subject.put_with("b", lease)];
    let put = |guards| Txn { guards, ops: ops.clone() };
    ended("a put", lease, subject.registry.commit(put(vec![])).await)?;
    same("nothing is done", subject.names().await?, vec![])?;
    let never = LeaseId(u64::from(u32::MAX) << 16);
    ended("a lease that never was", never, subject.registry.keep_alive(never).await)?;
    subject.done(vec![subject.put("c", "1")]).await?;
    let refused = subject.registry.commit(put(vec![Guard::Absent(subject.key("c"))])).await;
    let matches = matches!(refused, Ok(Outcome::Refused(_)));
    holds(&format!("guards come first: wanted refused, found {refused:?}"), matches)
}

pub async fn a_key_moved_off_a_lease_stays(subject: Subject) -> Result<(), String> {
    let hour = Duration::from_secs(3600);
    let (one, two) = (subject.grant(hour).await?, subject.grant(hour).await?);
    let puts = ["a", "b", "c", "d"].map(|name| subject.put_with(name, one));
    subject.done(puts.to_vec()).await?;
    let moves = vec![subject.put("b", "free"), subject.put_with("c", two), subject.delete("d")];
    subject.done(moves).await?;
    subject.done(vec![subject.put("d", "again")]).await?;
    let left = subject.entry("b").await?.map(|entry| entry.lease);
    same("the lease of b", left, Some(None))?;
    let revoke =
        async |lease| subject.registry.revoke(lease).await.map_err(|error| format!("revoke: {error}"));
    revoke(one).await?;
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    same("after the first lease", subject.names().await?, names(&["b", "c", "d"]))?;
    subject.done(vec![subject.put_with("b", two)]).await?;
    revoke(two).await?;
    same("after the second lease", subject.names().await?, names(&["d"]))
}
