//! Concurrent writers: their outcomes must form one history, in the order of the revisions.

use std::{collections::BTreeMap, sync::Arc};

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;

const WRITERS: u64 = 8;
const EACH: usize = 50;
const KEYS: usize = 10;

type Model = BTreeMap<String, Entry>;

/// Every committed transaction puts at least one key, so each makes a revision of its own. Applied to a map in the order
/// of the revisions, each outcome must be what the map says, and so must every watched batch and the final listing.
pub async fn concurrent_transactions_have_one_history(subject: Subject) -> Result<(), String> {
    let subject = Arc::new(subject);
    let start = subject.list().await?.revision;
    let mut watch = subject.registry.watch(subject.range(), start);
    let writers = (0..WRITERS).map(|seed| tokio::spawn(write(Arc::clone(&subject), seed)));
    let mut history = Vec::new();
    for written in futures::future::join_all(writers).await {
        history.extend(written.map_err(|error| error.to_string())??);
    }
    history.sort_by_key(|(_, outcome)| match outcome {
        Outcome::Committed(revision) => (*revision, 0),
        Outcome::Refused(revision) => (*revision, 1),
    });
    let mut model = Model::new();
    let mut last = start;
    for (txn, outcome) in &history {
        let hold = txn.guards.iter().all(|guard| holds_in(&model, guard));
        let Outcome::Committed(revision) = outcome else {
            holds(&format!("{txn:?} was refused, {outcome:?}, but its guards hold"), !hold)?;
            continue;
        };
        holds(&format!("{txn:?} was done, {outcome:?}, but a guard does not hold"), hold)?;
        holds(&format!("{revision} is one transaction's alone"), *revision > last)?;
        last = *revision;
        let wanted = apply(&mut model, txn, *revision);
        let mut batch = next(&mut watch).await?;
        batch.events.sort_by(|one, other| key(one).cmp(key(other)));
        same("the batch", batch, wanted)?;
    }
    let refused = history.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Refused(_))).count();
    let both = refused > 0 && refused < history.len();
    holds(&format!("the history has both outcomes; refused: {refused} of {}", history.len()), both)?;
    same("the final entries", subject.list().await?.entries, model.into_values().collect())
}

async fn write(subject: Arc<Subject>, seed: u64) -> Result<Vec<(Txn, Outcome)>, String> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut history = Vec::new();
    let mut known = Vec::new();
    for round in 0..EACH {
        if round % 5 == 0 {
            known = subject.list().await?.entries;
        }
        let txn = random_txn(&subject, &mut random, &known, &format!("{seed}/{round}"));
        let outcome = subject.outcome(txn.guards.clone(), txn.ops.clone()).await?;
        history.push((txn, outcome));
    }
    Ok(history)
}

fn random_txn(subject: &Subject, random: &mut StdRng, known: &[Entry], value: &str) -> Txn {
    let mut names: Vec<String> = (0..KEYS).map(|name| subject.key(&name.to_string())).collect();
    let mut take = |random: &mut StdRng| names.swap_remove(random.random_range(0..names.len()));
    let mut txn = Txn::default();
    for _ in 0..random.random_range(0..3) {
        let name = subject.key(&random.random_range(0..KEYS).to_string());
        txn.guards.push(match random.random_range(0..4) {
            0 => Guard::Absent(name),
            1 => Guard::RangeAbsent(KeyRange { to: format!("{name}~"), from: name }),
            _ if known.is_empty() => Guard::Absent(name),
            which => {
                let entry = &known[random.random_range(0..known.len())];
                match which {
                    2 => Guard::Holds(entry.key.clone(), entry.value.clone()),
                    _ => Guard::Unchanged(entry.key.clone(), entry.modified),
                }
            }
        });
    }
    txn.ops.push(Op::put(take(random), value.to_owned()));
    for _ in 0..random.random_range(0..4) {
        let name = take(random);
        let op = if random.random_bool(0.3) { Op::put(name, value.to_owned()) } else { Op::Delete(name) };
        txn.ops.push(op);
    }
    txn
}

fn holds_in(model: &Model, guard: &Guard) -> bool {
    match guard {
        Guard::Absent(key) => !model.contains_key(key),
        Guard::Unchanged(key, revision) => model.get(key).is_some_and(|entry| entry.modified == *revision),
        Guard::Holds(key, value) => model.get(key).is_some_and(|entry| entry.value == *value),
        Guard::RangeAbsent(range) => !model.keys().any(|key| range.contains(key)),
    }
}

/// Applies a transaction; its events in key order.
fn apply(model: &mut Model, txn: &Txn, revision: Revision) -> Batch {
    let mut events = Vec::new();
    for op in &txn.ops {
        match op {
            Op::Put { key, value, lease } => {
                let created = model.get(key).map_or(revision, |entry| entry.created);
                let (key, value, lease) = (key.clone(), value.clone(), *lease);
                let entry = Entry { key, value, created, modified: revision, lease };
                model.insert(entry.key.clone(), entry.clone());
                events.push(Event::Put(entry));
            }
            Op::Delete(key) if model.remove(key).is_some() => {
                events.push(Event::Deleted { key: key.clone(), revision });
            }
            Op::Delete(_) => {}
        }
    }
    events.sort_by(|one, other| key(one).cmp(key(other)));
    Batch { revision, events }
}

fn key(event: &Event) -> &str {
    match event {
        Event::Put(entry) => &entry.key,
        Event::Deleted { key, .. } => key,
    }
}
