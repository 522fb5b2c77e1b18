//! Forgets one or several nodes in one decision, within the limit of the brake (DESIGN I6).

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicUsize, Ordering},
};

use futures::{StreamExt, TryStreamExt};
use sextant_proto::{NodeName, NodeState, Prefix, Revision, brake::WINDOW};
use tokio::sync::Mutex;

use super::{Claims, ForgetError, HolderError, NodeStatus, Scope, decode, node_status::Holding};
use crate::{
    audit::What,
    records::{Record, Removal, RemovalsRecord, unix_ms},
    registry::{Guard, KeyRange, Op, RegistryError, Txn},
    removals::{Tally, Window},
};

/// How many claims one transaction ends. Etcd takes 128 guards: a node with one claim needs four, and one for each controller.
const BATCH: usize = 12;
/// How often a batch is tried against what other controllers do at the same time.
const ATTEMPTS: u32 = 32;
/// How many nodes are looked at at once.
const READ_AT_ONCE: usize = 16;

/// What all that end claims in this process share.
#[derive(Debug, Default)]
pub(super) struct Ends {
    /// Ends that count guard one record: one after the other, they do not refuse each other.
    turn: Mutex<()>,
    /// How many the hold-down would end now, and the brake does not let it.
    waiting: AtomicUsize,
}

/// Nodes that were forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forgotten {
    /// What each held, in the order in which they were named.
    pub ended: Vec<(NodeName, Vec<Prefix>)>,
    /// The revision of the last one's end.
    pub revision: Revision,
}

/// A node whose claims may end, and what must hold for that.
struct Ending {
    name: NodeName,
    prefixes: Vec<Prefix>,
    status: NodeStatus,
    guards: Vec<Guard>,
}

impl Ending {
    /// The claims that count: peers route to them.
    fn removals(&self, unix_ms: u64) -> Vec<Removal> {
        let Some(node) = &self.status.node else { return Vec::new() };
        let counts = |holding: &Holding<'_>| {
            self.prefixes.contains(&holding.held.prefix)
                && node.record.state_for(holding.held) == NodeState::Ready
        };
        let removal = |holding: Holding<'_>| Removal {
            node: self.name.clone(),
            claimed: holding.claim.created,
            ended: None,
            unix_ms,
        };
        self.status.holdings().filter(counts).map(removal).collect()
    }
}

/// How ends are counted.
enum Account {
    /// An operator has confirmed them.
    Confirmed,
    /// These, within the window.
    Window(Vec<Removal>),
    /// They are in the window already, or none counts.
    Settled,
}

impl Claims {
    /// Ends claims of `names`, one decision: none is ended if one of them may not be. With `confirm`, an operator has
    /// confirmed the number of nodes, and they may be more than the brake allows.
    ///
    /// # Errors
    /// A [`ForgetError`].
    pub async fn forget_all(
        &self,
        names: &[NodeName],
        scope: Scope<'_>,
        force: bool,
        confirm: Option<usize>,
    ) -> Result<Forgotten, ForgetError> {
        let mut seen = BTreeSet::new();
        let names: Vec<_> = names.iter().filter(|name| seen.insert(*name)).cloned().collect();
        if let Some(confirmed) = confirm.filter(|confirmed| *confirmed != names.len()) {
            return Err(ForgetError::Miscounted { confirmed, named: names.len() });
        }
        self.end_all(&names, scope, What::Forgotten, force, confirm.is_some()).await
    }

    /// Takes down how many claims the hold-down would end if the brake let it.
    pub fn set_waiting(&self, waiting: usize) {
        self.ends.waiting.store(waiting, Ordering::Relaxed);
    }

    /// How many claims the hold-down would end if the brake let it.
    pub fn waiting(&self) -> usize {
        self.ends.waiting.load(Ordering::Relaxed)
    }

    pub(super) async fn end_all(
        &self,
        names: &[NodeName],
        scope: Scope<'_>,
        what: What,
        force: bool,
        confirmed: bool,
    ) -> Result<Forgotten, ForgetError> {
        let looked = futures::stream::iter(names.to_vec()).map(|name| self.ending(name, scope, force));
        let endings: Vec<Ending> = looked.buffered(READ_AT_ONCE).try_collect().await?;
        let mut account = account(&endings, confirmed);
        let _turn = match account {
            Account::Settled => None,
            _ => Some(self.ends.turn.lock().await),
        };
        let ended = endings.iter().map(|ending| (ending.name.clone(), ending.prefixes.clone())).collect();
        let (total, mut done, mut revision) = (endings.len(), 0, Revision::ZERO);
        for batch in batches(endings) {
            let size = batch.len();
            let interrupted = |cause: ForgetError| match done {
                0 => cause,
                _ => ForgetError::Interrupted { done, total, cause: Box::new(cause) },
            };
            revision = self.end_batch(batch, scope, what, force, &mut account).await.map_err(interrupted)?;
            done += size;
        }
        Ok(Forgotten { ended, revision })
    }

    async fn ending(&self, name: NodeName, scope: Scope<'_>, force: bool) -> Result<Ending, ForgetError> {
        let liveness = [KeyRange::key(&self.keys.session(&name)), self.keys.verdicts(&name)];
        let status = self.node_status_with(&name, &liveness).await.map_err(HolderError::from)?;
        let node = status.node.as_ref().ok_or_else(|| ForgetError::Unknown(name.clone()))?;
        let prefixes = match scope {
            Scope::Node => node.record.prefixes(),
            Scope::Pool(pool) => {
                let held = node.record.claim_in(pool).map(|claim| vec![claim.prefix]);
                let prefixes = node.record.prefixes();
                held.ok_or_else(|| ForgetError::NoClaim { node: name.clone(), pool: pool.clone(), prefixes })?
            }
        };
        let guards = if force { Vec::new() } else { self.is_gone(&name, &prefixes, &status)? };
        Ok(Ending { name, prefixes, status, guards })
    }

    /// Ends one batch in one transaction.
    async fn end_batch(
        &self,
        mut batch: Vec<Ending>,
        scope: Scope<'_>,
        what: What,
        force: bool,
        account: &mut Account,
    ) -> Result<Revision, ForgetError> {
        let single = (batch.len() == 1).then(|| batch[0].name.clone());
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                batch = self.look_again(batch, scope, force, single.as_ref()).await?;
            }
            let mut txn = Txn::default();
            for ending in &batch {
                let Ending { name, prefixes, status, .. } = ending;
                let (guards, ops) = self.ending_ops(name, status, prefixes, what).unwrap_or_default();
                txn.guards.extend(ending.guards.iter().cloned().chain(guards));
                txn.ops.extend(ops);
            }
            txn.ops.extend(self.index.read(|state| state.lineage().ops(&self.keys, None)));
            let counted = batch.iter().map(|ending| ending.removals(0).len()).sum();
            self.enter_account(&mut txn, account, counted).await?;
            if let Some(revision) = self.try_commit(txn).await? {
                if matches!(account, Account::Window(_)) {
                    *account = Account::Settled;
                }
                return Ok(revision);
            }
        }
        let first = batch.first().map(|ending| ending.name.clone());
        Err(match single.or(first) {
            Some(name) => HolderError::Contended(name).into(),
            None => {
                HolderError::Registry(RegistryError::Unavailable("nothing was left to end".into())).into()
            }
        })
    }

    /// The batch as it is now. Of several nodes, one that is gone by now was ended meanwhile.
    async fn look_again(
        &self,
        batch: Vec<Ending>,
        scope: Scope<'_>,
        force: bool,
        single: Option<&NodeName>,
    ) -> Result<Vec<Ending>, ForgetError> {
        let mut again = Vec::with_capacity(batch.len());
        for ending in batch {
            match self.ending(ending.name, scope, force).await {
                Ok(ending) => again.push(ending),
                Err(ForgetError::Unknown(_) | ForgetError::NoClaim { .. }) if single.is_none() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(again)
    }

    /// Puts what the ends count for into the transaction, and guards it.
    async fn enter_account(
        &self,
        txn: &mut Txn,
        account: &Account,
        counted: usize,
    ) -> Result<(), ForgetError> {
        if matches!(account, Account::Settled) || (matches!(account, Account::Confirmed) && counted == 0) {
            return Ok(());
        }
        let key = self.keys.removals();
        let entry = self.registry.list(&KeyRange::key(&key)).await.map_err(HolderError::from)?.entries.pop();
        let view = entry.as_ref().map(decode::<RemovalsRecord>).transpose().map_err(HolderError::from)?;
        let guard = match &view {
            None => Guard::Absent(key.clone()),
            Some(view) => Guard::Unchanged(key.clone(), view.modified),
        };
        let window = self.index.read(|state| Window::of(view.as_ref(), state.peers(), state.elapsed()));
        let record = view.map(|view| view.record).unwrap_or_default();
        let record = match account {
            Account::Window(removals) => {
                let nodes = removals.iter().map(|removal| &removal.node).collect::<BTreeSet<_>>().len();
                let over = |tally| ForgetError::Brake { tally, more: removals.len(), nodes };
                RemovalsRecord { recent: window.with(removals).map_err(over)?, ..record }
            }
            _ => RemovalsRecord {
                recent: window.absent(),
                confirmed: record.confirmed.saturating_add(counted as u64),
            },
        };
        txn.guards.push(guard);
        txn.ops.push(Op::put(key, record.encode()));
        Ok(())
    }
}

/// The endings, so many at a time as one transaction takes.
fn batches(endings: Vec<Ending>) -> Vec<Vec<Ending>> {
    let (mut batches, mut claims) = (Vec::<Vec<Ending>>::new(), 0);
    for ending in endings {
        claims += ending.prefixes.len();
        match batches.last_mut() {
            Some(batch) if claims <= BATCH => batch.push(ending),
            _ => {
                claims = ending.prefixes.len();
                batches.push(vec![ending]);
            }
        }
    }
    batches
}

fn account(endings: &[Ending], confirmed: bool) -> Account {
    let now = unix_ms();
    let removals: Vec<_> = endings.iter().flat_map(|ending| ending.removals(now)).collect();
    match removals.is_empty() {
        true => Account::Settled,
        false if confirmed => Account::Confirmed,
        false => Account::Window(removals),
    }
}

/// Why the brake does not let claims end, and how to go on.
pub(super) fn refusal(tally: &Tally, more: usize, nodes: usize) -> String {
    let Tally { recent, limit, claims } = tally;
    let minutes = WINDOW.as_secs() / 60;
    format!(
        "{recent} of {claims} announced prefixes ended within the last {minutes} minutes, and their nodes are not back; {more} \
         more would exceed the limit of {limit}, and their peers would drop the routes to all of them. If that is \
         intended, name their nodes in one command and confirm the number of these: `sextant node forget --confirm {nodes} NAME…`; or \
         start a new window with `sextant resume`. Drained nodes do not count"
    )
}

#[cfg(test)]
mod tests;
