//! Watches.

use super::*;
use crate::registry::WatchEnded;

pub async fn a_watch_delivers_each_change_once_in_order(subject: Subject) -> Result<(), String> {
    let start = subject.list().await?.revision;
    let mut watch = subject.registry.watch(subject.range(), start);
    let mut wanted = Vec::new();
    for name in ["a", "b", "a"] {
        let revision = subject.done(vec![subject.put(name, "1")]).await?;
        wanted.push((revision, vec![format!("+{name}")]));
    }
    wanted.push((subject.done(vec![subject.delete("a")]).await?, vec!["-a".to_owned()]));
    let mut delivered = Vec::new();
    for _ in &wanted {
        let batch = next(&mut watch).await?;
        delivered.push((batch.revision, changes(&batch, &subject.prefix)));
    }
    same("the changes", delivered, wanted)
}

pub async fn a_watch_starts_at_any_revision_that_is_kept(subject: Subject) -> Result<(), String> {
    let mut revisions = vec![subject.list().await?.revision];
    for round in 0..5 {
        revisions.push(subject.done(vec![subject.put("a", &round.to_string())]).await?);
    }
    for (index, after) in revisions[..5].iter().enumerate() {
        let batch = next(&mut subject.registry.watch(subject.range(), *after)).await?;
        same(&format!("first after {after}"), batch.revision, revisions[index + 1])?;
        let Some(Event::Put(entry)) = batch.events.first() else {
            return Err(format!("first after {after} is not a put: {batch:?}"));
        };
        same("its value, as it was then", &*entry.value, index.to_string().as_bytes())?;
        let dates = (entry.created, entry.modified);
        same("its dates, as they were then", dates, (revisions[1], batch.revision))?;
    }
    Ok(())
}

pub async fn a_watch_delivers_only_its_range_and_never_splits(subject: Subject) -> Result<(), String> {
    let start = subject.list().await?.revision;
    let mut watch = subject.registry.watch(KeyRange::prefix(&subject.key("in/")), start);
    subject.done(vec![subject.put("out/1", "1")]).await?;
    let mixed = vec![subject.put("in/1", "1"), subject.put("out/2", "1"), subject.put("in/2", "1")];
    let first = subject.done(mixed).await?;
    subject.done(vec![subject.delete("out/1"), subject.put("in", "1"), subject.put("in0", "1")]).await?;
    let many: Vec<Op> = (0..100).map(|n| subject.put(&format!("in/{n:03}"), "1")).collect();
    let second = subject.done(many).await?;
    let batch = next(&mut watch).await?;
    let delivered = (batch.revision, changes(&batch, &subject.prefix));
    same("the first batch", delivered, (first, vec!["+in/1".to_owned(), "+in/2".to_owned()]))?;
    let batch = next(&mut watch).await?;
    same("the second batch", (batch.revision, batch.events.len()), (second, 100))
}

pub async fn a_watch_waits_for_changes(subject: Subject) -> Result<(), String> {
    let start = subject.done(vec![subject.put("a", "1")]).await?;
    let mut watch = subject.registry.watch(subject.range(), start);
    let early = futures::poll!(watch.next());
    holds(&format!("nothing is delivered yet, not {early:?}"), early.is_pending())?;
    let revision = subject.done(vec![subject.put("a", "2")]).await?;
    same("the changes then", next(&mut watch).await?.revision, revision)
}

pub async fn catching_up_and_following_lose_nothing(subject: Subject) -> Result<(), String> {
    const WRITERS: usize = 4;
    const EACH: usize = 60;
    let start = subject.list().await?.revision;
    let writes = futures::future::try_join_all((0..WRITERS).map(|writer| {
        let subject = &subject;
        async move {
            let mut revisions = Vec::new();
            for round in 0..EACH {
                let op = subject.put(&writer.to_string(), &round.to_string());
                revisions.push(subject.done(vec![op]).await?);
            }
            Ok::<_, String>(revisions)
        }
    }));
    // New watches begin all the time while it is written; each must deliver all changes.
    let watches = futures::future::try_join_all((0..16).map(|watcher| {
        let subject = &subject;
        async move {
            let mut seen = subject.registry.watch(subject.range(), start);
            for _ in 0..watcher * 4 {
                next(&mut seen).await?;
            }
            let mut late = subject.registry.watch(subject.range(), start);
            let mut delivered = Vec::new();
            while delivered.len() < WRITERS * EACH {
                delivered.push(next(&mut late).await?.revision);
            }
            Ok::<_, String>(delivered)
        }
    }));
    let (revisions, delivered) = futures::future::try_join(writes, watches).await?;
    let mut wanted = revisions.concat();
    wanted.sort();
    for delivered in delivered {
        same("the revisions that are delivered", delivered, wanted.clone())?;
    }
    Ok(())
}

pub async fn dropped_changes_are_compacted(subject: Subject) -> Result<(), String> {
    let Some(compact) = &subject.compact else {
        return Ok(());
    };
    let start = subject.done(vec![subject.put("a", "1")]).await?;
    let mut slow = subject.registry.watch(subject.range(), start);
    subject.done(vec![subject.put("a", "2")]).await?;
    same("the changes before", next(&mut slow).await?.events.len(), 1)?;
    subject.done(vec![subject.put("a", "3")]).await?;
    compact(subject.registry.clone()).await;
    let mut late = subject.registry.watch(subject.range(), start);
    let delivered = tokio::time::timeout(TIMEOUT, late.next()).await;
    let compacted = matches!(delivered, Ok(Some(Err(WatchEnded::Compacted(_)))));
    holds(&format!("a watch after {start} is compacted, not {delivered:?}"), compacted)?;
    holds("its error is the last item", late.next().await.is_none())?;
    // Recovery: list, and watch from there.
    let listing = subject.list().await?;
    let mut again = subject.registry.watch(subject.range(), listing.revision);
    let revision = subject.done(vec![subject.put("a", "4")]).await?;
    same("the changes after a new list", next(&mut again).await?.revision, revision)
}
