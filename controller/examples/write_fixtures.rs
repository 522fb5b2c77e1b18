//! Writes a small store and a backup of it, as this version does, into a directory: what later versions must read.
//!
//! `cargo run -p sextant-controller --example write_fixtures -- controller/tests/fixtures/v3`

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use sextant_backup_file::Backup;
use sextant_controller::{
    audit::{AuditRecord, What},
    backup,
    keys::Keys,
    records::{
        ClaimRecord, ControlRecord, FORMAT, FreedRecord, HeldClaim, Meta, NodeRecord, Record,
        ReservationRecord,
    },
    registry::{Op, Outcome, Registry, SharedRegistry, Txn, embedded::EmbeddedStore},
};
use sextant_proto::{
    ClaimPhase, Epoch, Incarnation, InterfaceAddress, NodeId, NodeName, NodeState, Pool, PoolName, Prefix,
    Revision, Uplink,
};

/// When all of it was done.
const THEN_MS: u64 = 1_800_000_000_000;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let dir: PathBuf = std::env::args().nth(1).context("give the directory to write into")?.into();
    std::fs::create_dir_all(&dir)?;
    let path = dir.join("controller.redb");
    ensure!(!path.exists(), "{} is there already; move it away", path.display());
    let store = Arc::new(EmbeddedStore::open(&path)?);
    let registry: SharedRegistry = store.clone();
    let keys = Keys::new(&"default".parse()?);
    for ops in content(&keys)? {
        let outcome = store.commit(Txn { guards: Vec::new(), ops }).await?;
        ensure!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
    }
    let backup = backup::take(&registry, &keys, "default").await?;
    let backup = Backup { unix_ms: THEN_MS, store: "embedded:controller.redb".into(), ..backup };
    std::fs::write(dir.join("sextant.backup"), backup.encode())?;
    println!("{}: {} keys", dir.display(), backup.entries.len());
    Ok(())
}

/// One transaction each.
fn content(keys: &Keys) -> anyhow::Result<Vec<Vec<Op>>> {
    let prior = Epoch { incarnation: incarnation(2)?, revision: Revision(40) };
    let meta = Meta {
        forked: false,
        ancestors: Vec::new(),
        incarnation: incarnation(1)?,
        created_unix_ms: THEN_MS,
        recovering: true,
        replaces: Some(prior.incarnation),
        restoring: false,
        format: FORMAT,
        accepts_unsigned: false,
    };
    let pool = Pool::new("main".parse()?, "2001:db8:8000::/40".parse()?, 64, 80)?;
    let mut all = vec![
        vec![Op::put(keys.meta(), meta.encode())],
        vec![
            Op::put(keys.pool(&pool.name), pool.encode()),
            Op::put(keys.pool_set(), ""),
            noted(keys, What::PoolAdded, None, 1),
        ],
        kept_out(keys, "2001:db8:8000:ff::/64", None)?,
        kept_out(keys, "2001:db8:8000:fe::/64", Some("h7"))?,
        freed(keys, "2001:db8:8000:5::/64")?,
        closed(keys)?,
        second(keys)?,
    ];
    for (n, state) in [NodeState::Ready, NodeState::Draining, NodeState::Drained, NodeState::Joining]
        .into_iter()
        .enumerate()
    {
        all.push(node(keys, u64::try_from(n)? + 1, state, prior)?);
    }
    all.push(vec![
        Op::put(keys.control(), ControlRecord { paused: true }.encode()),
        noted(keys, What::Paused, None, 9),
    ]);
    Ok(all)
}

fn kept_out(keys: &Keys, prefix: &str, node: Option<&str>) -> anyhow::Result<Vec<Op>> {
    let node = node.map(str::parse).transpose()?;
    let record = ReservationRecord { node, reason: "for later versions".into(), created_unix_ms: THEN_MS };
    Ok(vec![Op::put(keys.reservation(prefix.parse()?), record.encode()), Op::put(keys.reservation_set(), "")])
}

/// What h5 had until a short time ago.
fn freed(keys: &Keys, prefix: &str) -> anyhow::Result<Vec<Op>> {
    let node_id = format!("{:032x}", 0x105).parse()?;
    let record = FreedRecord { node: "h5".parse()?, node_id, freed_unix_ms: THEN_MS + 5 };
    Ok(vec![Op::put(keys.freed(prefix.parse()?), record.encode())])
}

/// A pool that takes no new claims.
fn closed(keys: &Keys) -> anyhow::Result<Vec<Op>> {
    let pool = Pool::new("old".parse()?, "2001:db8:9000::/48".parse()?, 64, 64)?;
    let pool = Pool { draining: true, ..pool };
    Ok(vec![Op::put(keys.pool(&pool.name), pool.encode()), Op::put(keys.pool_set(), "")])
}

fn incarnation(n: u8) -> anyhow::Result<Incarnation> {
    Ok(format!("{n:032x}").parse()?)
}

/// A second pool, with a claim of h1.
fn second(keys: &Keys) -> anyhow::Result<Vec<Op>> {
    let pool = Pool::new("ula".parse()?, "fd00:0:5e00::/40".parse()?, 64, 80)?;
    let claim = ClaimRecord {
        node: "h1".parse()?,
        node_id: format!("{:032x}", 0x101).parse()?,
        pool: pool.name.clone(),
        claimed_unix_ms: THEN_MS + 5,
        prior: None,
    };
    Ok(vec![
        Op::put(keys.pool(&pool.name), pool.encode()),
        Op::put(keys.pool_set(), ""),
        Op::put(keys.claim(second_claim()?.prefix), claim.encode()),
    ])
}

/// As h1 holds it: on two bridges, and put aside for new addresses.
fn second_claim() -> anyhow::Result<HeldClaim> {
    let container_prefixes = vec!["fd00:0:5e00:1::/80".parse()?, "fd00:0:5e00:1:1::/80".parse()?];
    let held = HeldClaim::new("fd00:0:5e00:1::/64".parse()?, "ula".parse()?);
    Ok(HeldClaim { container_prefixes, announced: true, phase: ClaimPhase::Deprecated, ..held })
}

/// Node `h<n>` and its claim; the first one has held it since before.
fn node(keys: &Keys, n: u64, state: NodeState, prior: Epoch) -> anyhow::Result<Vec<Op>> {
    let (name, pool): (NodeName, PoolName) = (format!("h{n}").parse()?, "main".parse()?);
    let node_id: NodeId = format!("{:032x}", 0x100 + n).parse()?;
    let prefix: Prefix = format!("2001:db8:8000:{n}::/64").parse()?;
    let (addr, on_link) = (format!("2001:db8::{n}").parse()?, "2001:db8::/64".parse()?);
    let announced = state != NodeState::Joining;
    let uplink = Uplink { interface: "eth0".into(), addresses: vec![InterfaceAddress { addr, on_link }] };
    let claim = ClaimRecord {
        node: name.clone(),
        node_id,
        pool: pool.clone(),
        claimed_unix_ms: THEN_MS + n,
        prior: (n == 1).then_some(prior),
    };
    let held = HeldClaim {
        container_prefixes: if announced {
            vec![format!("2001:db8:8000:{n}::/80").parse()?]
        } else {
            Vec::new()
        },
        announced,
        ..HeldClaim::new(prefix, pool)
    };
    let record = NodeRecord {
        node_id,
        claims: if n == 1 { vec![held, second_claim()?] } else { vec![held] },
        state,
        uplinks: if announced { vec![uplink] } else { Vec::new() },
        since_unix_ms: THEN_MS + 10 * n,
        drain_timeout: Duration::from_secs(if state == NodeState::Draining { 30 } else { 0 }),
        laggards: if state == NodeState::Drained { vec!["h1".into()] } else { Vec::new() },
        stopped_unix_ms: 0,
    };
    let what = if n == 1 { What::Reregistered } else { What::Claimed };
    Ok(vec![
        Op::put(keys.claim(prefix), claim.encode()),
        Op::put(keys.node(&name), record.encode()),
        noted(keys, what, Some((name, prefix)), 1 + n),
    ])
}

fn noted(keys: &Keys, what: What, node: Option<(NodeName, Prefix)>, nth: u64) -> Op {
    let (node, prefix) = node.unzip();
    let record = AuditRecord {
        unix_ms: THEN_MS + nth,
        what: what.to_string(),
        node,
        prefix,
        pool: None,
        by: "anybody at 2001:db8::1".into(),
        detail: "for later versions".into(),
    };
    Op::put(keys.audit_entry(record.unix_ms, nth), record.encode())
}
