//! `docs/json.md` has exactly the keys of the answers.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use clap::CommandFactory;
use serde_json::Value;

use super::*;
use crate::{
    answer::{self, sample},
    args::CommandLine,
    export::{self, Changes, Wanted},
};

const PAGE: &str = include_str!("../../../../docs/json.md");

/// The documented objects by their names.
struct Page(BTreeMap<String, Vec<Key>>);

/// A documented key.
struct Key {
    name: String,
    kind: String,
    unit: String,
}

fn caller() -> sextant_proto::v1::WhoAmIResponse {
    sextant_proto::v1::WhoAmIResponse {
        name: "admin ann".into(),
        uri: "spiffe://default/admin/ann".into(),
        role: "operator".into(),
        serial: "1f".into(),
        ends_unix_ms: sample::NOW,
        cluster: "default".into(),
    }
}

fn token() -> sextant_proto::v1::JoinToken {
    sextant_proto::v1::JoinToken {
        id: "00000000000000a1".into(),
        nodes: "web-*".into(),
        count: 20,
        used_by: vec!["web-1".into()],
        created_unix_ms: sample::NOW,
        expires_unix_ms: sample::NOW,
        pool: "main".into(),
        host_len: 72,
    }
}

fn revoked() -> sextant_proto::v1::RevokedMember {
    sextant_proto::v1::RevokedMember {
        kind: "admin".into(),
        name: "bob".into(),
        all: false,
        serials: vec!["1f".into()],
        since_unix_ms: sample::NOW,
        by: "admin ann at 2001:db8::5".into(),
    }
}

impl Page {
    fn read() -> Self {
        let mut objects: BTreeMap<String, Vec<Key>> = BTreeMap::new();
        let mut object = String::new();
        for line in PAGE.lines() {
            if let Some(heading) =
                line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#'))
            {
                object = heading.to_owned();
            }
            let cells: Vec<_> = line.split('|').map(str::trim).collect();
            if let ["", name, kind, unit, _meaning, ""] = cells[..]
                && name.starts_with('`')
            {
                let name = name.trim_matches('`').to_owned();
                let key = Key { name, kind: kind.to_owned(), unit: unit.to_owned() };
                objects.entry(object.clone()).or_default().push(key);
            }
        }
        Self(objects)
    }
}

/// Compares samples with the page.
struct Comparison {
    page: Page,
    /// The objects that a sample has shown.
    seen: RefCell<BTreeSet<String>>,
    problems: RefCell<Vec<String>>,
}

impl Comparison {
    fn object(&self, name: &str, value: &Value) {
        let (Some(keys), Value::Object(fields)) = (self.page.0.get(name), value) else {
            return self.problem(format!("{name} is not documented, or no object: {value}"));
        };
        self.seen.borrow_mut().insert(name.to_owned());
        let documented: Vec<_> = keys.iter().map(|key| key.name.as_str()).collect();
        let printed: Vec<_> = fields.keys().map(String::as_str).collect();
        if documented != printed {
            return self.problem(format!("{name}: documented {documented:?}, printed {printed:?}"));
        }
        for (key, value) in keys.iter().zip(fields.values()) {
            let place = format!("{name}.{}", key.name);
            if key.unit != unit(key) {
                self.problem(format!("{place}: the unit must be {}, not {}", unit(key), key.unit));
            }
            self.value(&place, &key.kind, value);
        }
    }

    /// Whether the value is of the documented type: `text`, `list of [Uplink](#uplink)`, `number or null`.
    fn value(&self, place: &str, kind: &str, value: &Value) {
        if let Some(kind) = kind.strip_suffix(" or null") {
            if !value.is_null() {
                self.value(place, kind, value);
            }
            return;
        }
        if let (Some(kind), Value::Array(items)) = (kind.strip_prefix("list of "), value) {
            return items.iter().for_each(|item| self.value(place, kind, item));
        }
        let fits = match kind {
            "text" => value.is_string(),
            "number" => value.is_u64(),
            "boolean" => value.is_boolean(),
            object if object.starts_with('[') => {
                let name = object.trim_start_matches('[').split(']').next().unwrap_or_default();
                return self.object(name, value);
            }
            _ => false,
        };
        if !fits {
            self.problem(format!("{place}: {value} is not \"{kind}\""));
        }
    }

    fn problem(&self, text: String) {
        self.problems.borrow_mut().push(text);
    }
}

/// The unit in the name of the key, if it has one.
fn unit(key: &Key) -> &str {
    match key.name.as_str() {
        name if name.ends_with("unix_ms") => "ms since 1970",
        name if name.ends_with("_ms") => "ms",
        name if name.ends_with("_us") => "µs",
        _ => &key.unit,
    }
}

/// Samples of all answers, by the name of their object; together they contain every documented object.
fn samples() -> Vec<(&'static str, Value)> {
    let name = "host1".parse().unwrap();
    let (incarnation, revision) = (sample::healthy().incarnation, sample::healthy().revision);
    let prefix = "2001:db8:1::/64".parse().unwrap();
    let waited = answer::Waited { revision, applied: 1, live: 2, done: false, laggards: sample::names() };
    let explained = sample::explained();
    let ndp = sample::ndp();
    let answered =
        answer::Explained { ndp: Some((ndp.addresses[1].clone(), ndp.uplinks)), ..sample::explained() };
    let nowhere = answer::Explained { node: None, pool: None, ..sample::explained() };
    let mut cluster = sample::full();
    cluster.nodes[0].ndp = Some(Ok(sample::ndp()));
    cluster.nodes[1].ndp = Some(Err("no agent is connected".into()));
    let mut trace = sample::trace();
    trace.unasked.push((sample::names().remove(0), "no agent is connected".into()));
    let mut samples = vec![
        ("Status", value(Status::from(&cluster))),
        ("Status", value(Status::from(&sample::healthy()))),
        ("Pool", value(Pool::from(&cluster.pools[0]))),
        ("Reservation", value(Reservation::from(&sample::reservation()))),
        ("BgpNeighbour", value(BgpNeighbour::new(&name, &sample::neighbour()))),
        ("Plan", value(Plan::from(&sample::plan()))),
        ("Trace", value(Trace::from(&trace))),
        ("Event", value(Event::new(&sample::event(), false))),
        (
            "Containers",
            value(Containers::new(
                explained.node.as_ref().unwrap().name(),
                &sample::containers(),
                Some(&sample::ndp()),
            )),
        ),
        ("Explained", value(Explained::from(&explained))),
        ("Explained", value(Explained::from(&nowhere))),
        ("Explained", value(Explained::from(&answered))),
        ("Waited", value(Waited::from(&waited))),
        ("NodeRevoked", value(NodeRevoked { name: &name, revoked: true, holds_claim: true, revision })),
        ("PoolChanged", value(PoolChanged { name: &"main".parse().unwrap(), revision })),
        (
            "NodeChanged",
            value(NodeChanged {
                name: &name,
                state: cluster.nodes[0].state(),
                revision,
                laggards: &sample::names(),
            }),
        ),
        (
            "ForgottenNode",
            value(ForgottenNode { name: &name, prefix: Some(prefix), prefixes: &[prefix], revision }),
        ),
        (
            "NodeReassigned",
            value(NodeReassigned {
                name: &name,
                pool: &"main".parse().unwrap(),
                from: prefix,
                to: "2001:db8:2::/64".parse().unwrap(),
                state: cluster.nodes[0].state(),
                revision,
                laggards: &sample::names(),
            }),
        ),
        ("ReservationChanged", value(ReservationChanged { prefix, revision })),
        ("Caller", value(Caller::from(&caller()))),
        ("Token", value(Token::from(&token()))),
        ("TokenCreated", value(TokenCreated { line: "", token: Token::from(&token()), revision })),
        ("TokenRevoked", value(TokenRevoked { id: "00000000000000a1", revision })),
        ("RevokedMember", value(RevokedMember::from(&revoked()))),
        (
            "MemberRevoked",
            value(MemberRevoked { kind: "admin", name: &name, serial: Some("1f"), revoked: true, revision }),
        ),
        ("Paused", value(Paused { paused: true, revision })),
        (
            "BackupWritten",
            value(BackupWritten {
                file: "b".into(),
                octets: 1,
                claims: 1,
                keys: 2,
                incarnation,
                revision,
                unix_ms: sample::NOW,
            }),
        ),
        ("Restored", value(Restored { incarnation, revision: 1, put: 2, there: 3 })),
        ("Undone", value(Undone { deleted: 1 })),
        ("UnsignedAccepted", value(UnsignedAccepted { accepts_unsigned: true, revision })),
        (
            "Recovery",
            value(Recovery {
                recovering: true,
                was_open: true,
                silent: &sample::names(),
                unregistered: sample::unregistered().iter().map(Into::into).collect(),
            }),
        ),
    ];
    samples.extend(cluster.nodes.iter().map(|node| ("Node", value(Node::new(node, &cluster)))));
    let (exported, _) =
        export::routes(&sample::healthy(), Wanted { via: None, discard_pools: true }).unwrap();
    let changes = Changes::between(&export::Routes::new(), &exported);
    samples.push(("ExportedRoutes", value(ExportedRoutes::new(&exported, Some(&changes)))));
    samples.extend(sample::routes().iter().map(|route| ("Route", value(Route::from(route)))));
    samples
}

#[test]
fn the_page_has_the_keys_of_every_answer_and_no_others() {
    let comparison =
        Comparison { page: Page::read(), seen: RefCell::default(), problems: RefCell::default() };
    for (name, value) in samples() {
        comparison.object(name, &value);
    }
    let Comparison { page, seen, problems } = comparison;
    let (seen, mut problems) = (seen.into_inner(), problems.into_inner());
    let unseen = page.0.keys().filter(|name| !seen.contains(*name) && *name != "Answers");
    problems.extend(unseen.map(|name| format!("{name} is documented, and in no sample")));
    assert!(problems.is_empty(), "docs/json.md:\n{}", problems.join("\n"));
}

#[test]
fn the_page_has_every_command_and_the_object_that_it_prints() {
    let rows: Vec<_> = PAGE.lines().filter(|line| line.starts_with("| `sextant ")).collect();
    let names = |row: &&str| {
        row.split('[').skip(1).filter_map(|it| it.split(']').next()).map(str::to_owned).collect()
    };
    let printed: BTreeSet<String> = rows.iter().flat_map::<Vec<_>, _>(names).collect();
    let expected: BTreeSet<_> = samples().iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(printed, expected);

    let missing = |command: &String| !rows.iter().any(|row| row.contains(&format!("`{command}`")));
    let missing: Vec<_> = commands(&CommandLine::command(), "").into_iter().filter(missing).collect();
    assert_eq!(missing, ["sextant completions", "sextant manual"], "they print or write scripts");
}

/// The commands without subcommands, with their full names.
fn commands(command: &clap::Command, before: &str) -> Vec<String> {
    let words = format!("{before}{}", command.get_name());
    let inner: Vec<_> = command.get_subcommands().flat_map(|it| commands(it, &format!("{words} "))).collect();
    if inner.is_empty() { vec![words] } else { inner }
}

#[test]
fn a_key_of_another_type_is_found() {
    let comparison =
        Comparison { page: Page::read(), seen: RefCell::default(), problems: RefCell::default() };
    comparison.object("Undone", &serde_json::json!({ "deleted": "1" }));
    comparison.object("Undone", &serde_json::json!({ "deleted": 1, "more": 2 }));
    comparison.object("Paused", &serde_json::json!({ "paused": true, "revision": null }));
    let problems = comparison.problems.into_inner();
    assert_eq!(problems.len(), 3, "{problems:?}");
}
