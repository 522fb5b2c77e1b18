//! Transactions and listings.

use futures::future::try_join_all;

use super::*;

pub async fn a_put_dates_its_key(subject: Subject) -> Result<(), String> {
    let first = subject.done(vec![subject.put("a", "1")]).await?;
    let made = subject.entry("a").await?;
    let wanted = |value: &'static str, modified| {
        Some(Entry { key: subject.key("a"), value: value.into(), created: first, modified, lease: None })
    };
    same("after the first put", made, wanted("1", first))?;
    let second = subject.done(vec![subject.put("a", "2")]).await?;
    holds("the second revision is greater", second > first)?;
    same("after the second put", subject.entry("a").await?, wanted("2", second))
}

pub async fn a_key_put_again_after_a_delete_is_new(subject: Subject) -> Result<(), String> {
    subject.done(vec![subject.put("a", "1")]).await?;
    subject.done(vec![subject.delete("a")]).await?;
    same("after the delete", subject.entry("a").await?, None)?;
    let again = subject.done(vec![subject.put("a", "2")]).await?;
    let dates = subject.entry("a").await?.map(|entry| (entry.created, entry.modified));
    same("created and modified", dates, Some((again, again)))
}

pub async fn deleting_a_missing_key_changes_nothing(subject: Subject) -> Result<(), String> {
    let start = subject.done(vec![subject.put("a", "1")]).await?;
    let mut watch = subject.registry.watch(subject.range(), start);
    let nothing = subject.done(vec![subject.delete("x"), subject.delete("y")]).await?;
    holds("the store's revision is reported", nothing >= start)?;
    let empty = subject.done(vec![]).await?;
    holds("an empty transaction reports the store's revision", empty >= start)?;
    let partly = subject.done(vec![subject.delete("x"), subject.delete("a")]).await?;
    holds("a real delete makes a revision", partly > empty)?;
    let batch = next(&mut watch).await?;
    let delivered = (batch.revision, changes(&batch, &subject.prefix));
    same("the first thing that is delivered", delivered, (partly, vec!["-a".to_owned()]))
}

pub async fn guards_hold_or_refuse(subject: Subject) -> Result<(), String> {
    let old = subject.done(vec![subject.put("b", "1")]).await?;
    let new = subject.done(vec![subject.put("b", "2"), subject.put("d", "2")]).await?;
    let absent = |name| Guard::Absent(subject.key(name));
    let unchanged = |name, revision| Guard::Unchanged(subject.key(name), revision);
    let holds_value =
        |name, value: &str| Guard::Holds(subject.key(name), value.to_owned().into_bytes().into());
    let range = |from: &str, to: &str| {
        let (from, to) = (subject.key(from), subject.key(to));
        Guard::RangeAbsent(KeyRange { from, to })
    };
    let table = [
        (vec![], true),
        (vec![absent("a")], true),
        (vec![absent("b")], false),
        (vec![unchanged("b", new)], true),
        (vec![unchanged("b", old)], false),
        (vec![unchanged("b", Revision(new.0 + 1_000_000))], false),
        (vec![unchanged("a", new)], false),
        (vec![unchanged("a", Revision::ZERO)], false),
        (vec![holds_value("b", "2")], true),
        (vec![holds_value("b", "1")], false),
        (vec![holds_value("b", "")], false),
        (vec![holds_value("a", "")], false),
        (vec![holds_value("a", "2")], false),
        (vec![holds_value("b", "2"), holds_value("d", "3")], false),
        (vec![range("a", "b")], true),
        (vec![range("b", "c")], false),
        (vec![range("a", "b\0")], false),
        (vec![range("b\0", "d")], true),
        (vec![range("c", "d\0")], false),
        (vec![range("d\0", "z")], true),
        (vec![Guard::RangeAbsent(KeyRange::key(&subject.key("d")))], false),
        (vec![Guard::RangeAbsent(KeyRange::key(&subject.key("c")))], true),
        (vec![absent("a"), unchanged("b", new), range("e", "f")], true),
        (vec![absent("a"), unchanged("b", new), range("a", "f")], false),
        (vec![absent("d"), unchanged("b", new)], false),
    ];
    for (guards, hold) in table {
        let delivered = format!("{guards:?}");
        let outcome = subject.outcome(guards, vec![]).await?;
        let (held, revision) = match outcome {
            Outcome::Committed(revision) => (true, revision),
            Outcome::Refused(revision) => (false, revision),
        };
        same(&delivered, held, hold)?;
        holds(&format!("{delivered} reports the store's revision, not {revision}"), revision >= new)?;
    }
    Ok(())
}

pub async fn a_refused_transaction_does_nothing(subject: Subject) -> Result<(), String> {
    let start = subject.done(vec![subject.put("a", "1"), subject.put("b", "1")]).await?;
    let before = subject.list().await?.entries;
    let mut watch = subject.registry.watch(subject.range(), start);
    let ops = vec![subject.put("c", "2"), subject.put("a", "2"), subject.delete("b")];
    let outcome = subject.outcome(vec![Guard::Absent(subject.key("a"))], ops).await?;
    holds(&format!("it is refused, not {outcome:?}"), matches!(outcome, Outcome::Refused(_)))?;
    same("the entries", subject.list().await?.entries, before)?;
    subject.done(vec![subject.put("z", "3")]).await?;
    let delivered = changes(&next(&mut watch).await?, &subject.prefix);
    same("the next change that is delivered", delivered, vec!["+z".to_owned()])
}

pub async fn a_transaction_is_one_revision(subject: Subject) -> Result<(), String> {
    subject.done(vec![subject.put("gone", "1")]).await?;
    let ops = vec![subject.put("b", "1"), subject.delete("gone"), subject.put("a", "1")];
    let revision = subject.done(ops).await?;
    let entries = subject.list().await?.entries;
    let dates: Vec<_> = entries.iter().map(|entry| (entry.created, entry.modified)).collect();
    same("the dates of a and b", dates, vec![(revision, revision); 2])?;
    let after = subject.done(vec![subject.put("c", "1")]).await?;
    holds("the next transaction has a greater one", after > revision)
}

pub async fn a_listing_is_in_order_and_in_range(subject: Subject) -> Result<(), String> {
    let names = ["b/2", "a", "b/10", "c", "b", "b/", "b0"];
    for name in names {
        subject.done(vec![subject.put(name, name)]).await?;
    }
    same(
        "all",
        subject.names().await?,
        ["a", "b", "b/", "b/10", "b/2", "b0", "c"].map(str::to_owned).to_vec(),
    )?;
    let table: [(KeyRange, &[&str]); 5] = [
        (KeyRange::prefix(&subject.key("b/")), &["b/", "b/10", "b/2"]),
        (KeyRange::key(&subject.key("b")), &["b"]),
        (KeyRange { from: subject.key("b/"), to: subject.key("b/2") }, &["b/", "b/10"]),
        (KeyRange { from: subject.key("d"), to: subject.key("e") }, &[]),
        (KeyRange { from: subject.key("b"), to: subject.key("b") }, &[]),
    ];
    for (range, wanted) in table {
        let listing = subject.registry.list(&range).await.map_err(|error| format!("{range:?}: {error}"))?;
        let keys: Vec<_> = listing.entries.into_iter().map(|entry| entry.key).collect();
        same(&format!("{range:?}"), keys, wanted.iter().map(|name| subject.key(name)).collect())?;
    }
    Ok(())
}

pub async fn a_listing_contains_acknowledged_changes(subject: Subject) -> Result<(), String> {
    for round in 0..50 {
        let value = round.to_string();
        let revision = subject.done(vec![subject.put("a", &value)]).await?;
        let listing = subject.list().await?;
        holds(&format!("{} is not older than {revision}", listing.revision), listing.revision >= revision)?;
        let found = listing.entries.first().map(|entry| entry.value.clone());
        same("the value just put", found, Some(value.into()))?;
    }
    Ok(())
}

pub async fn values_are_kept_octet_by_octet(subject: Subject) -> Result<(), String> {
    let values = [vec![], (0..=255).collect::<Vec<u8>>(), vec![0; 100_000]];
    for value in values {
        subject.done(vec![Op::put(subject.key("a"), value.clone())]).await?;
        let found = subject.entry("a").await?.map(|entry| entry.value);
        holds(&format!("a value of {} octets is kept", value.len()), found == Some(value.into()))?;
    }
    Ok(())
}

pub async fn one_of_many_claimers_wins(subject: Subject) -> Result<(), String> {
    for round in 0..10 {
        let name = format!("claim/{round}");
        let claim = |claimer: usize| {
            let guards = vec![Guard::Absent(subject.key(&name))];
            subject.outcome(guards, vec![subject.put(&name, &claimer.to_string())])
        };
        let outcomes = try_join_all((0..32).map(claim)).await?;
        let won = |outcome: &Outcome| matches!(outcome, Outcome::Committed(_));
        let winners: Vec<usize> = (0..32).filter(|claimer| won(&outcomes[*claimer])).collect();
        same(&format!("the number of winners, who are {winners:?}"), winners.len(), 1)?;
        let value = subject.entry(&name).await?.map(|entry| entry.value);
        same("the claim", value, Some(winners[0].to_string().into()))?;
    }
    Ok(())
}

pub async fn several_ranges_are_read_at_one_revision(subject: Subject) -> Result<(), String> {
    for name in ["a", "b/1", "b/2", "c"] {
        subject.done(vec![subject.put(name, name)]).await?;
    }
    let ranges = [
        KeyRange::prefix(&subject.key("b/")),
        KeyRange::key(&subject.key("x")),
        KeyRange { from: subject.key("b"), to: subject.key("b") },
        KeyRange::key(&subject.key("a")),
    ];
    let read = |ranges: Vec<KeyRange>| {
        let registry = subject.registry.clone();
        async move { registry.read(&ranges).await.map_err(|error| format!("read: {error}")) }
    };
    let reading = read(ranges.to_vec()).await?;
    let keys = |entries: &Vec<Entry>| entries.iter().map(|entry| entry.key.clone()).collect::<Vec<_>>();
    let wanted = [vec![subject.key("b/1"), subject.key("b/2")], vec![], vec![], vec![subject.key("a")]];
    same("the keys by range", reading.ranges.iter().map(keys).collect::<Vec<_>>(), wanted.to_vec())?;
    same("the last entry", reading.entry(3).cloned(), subject.entry("a").await?)?;
    same("no range", read(vec![]).await?.ranges.len(), 0)?;
    // Both keys change in one transaction: no reading tells them apart.
    let writer = async {
        for round in 0..100 {
            let value = round.to_string();
            subject.done(vec![subject.put("one", &value), subject.put("two", &value)]).await?;
        }
        Ok::<_, String>(())
    };
    let both = [KeyRange::key(&subject.key("one")), KeyRange::key(&subject.key("two"))];
    let reader = async {
        for _ in 0..100 {
            let reading = read(both.to_vec()).await?;
            let value = |index| reading.entry(index).map(|entry| (entry.value.clone(), entry.modified));
            same("two keys of one transaction", value(0), value(1))?;
        }
        Ok::<_, String>(())
    };
    futures::future::try_join(writer, reader).await.map(|_| ())
}
