//! The one module that may name a crate: each outside world has one edge.

use std::{fs, path::Path};

use proc_macro2::{TokenStream, TokenTree};

use super::rust_files;

/// A crate, and the only folder or file whose code names it; a crate with several is named by these alone.
const EDGES: &[(&str, &str)] = &[
    ("etcd_client", "controller/src/registry/etcd"),
    ("redb", "controller/src/registry/embedded"),
    ("rtnetlink", "agent/src/kernel/netlink/configure.rs"),
    ("netlink_sys", "agent/src/kernel/netlink"),
    ("netlink_packet_route", "agent/src/kernel/netlink"),
    ("rustbgpd_fsm", "agent/src/bgp/peer"),
    ("rustbgpd_wire", "agent/src/bgp/wire"),
    ("bollard", "agent/docker/src/engine"),
    ("toml_edit", "agent/docker-setup/src/agent_toml.rs"),
    ("axum", "agent/ipam/src/server.rs"),
    ("listenfd", "agent/ipam/src/server.rs"),
    ("hyper", "agent/docker/src/engine/transport.rs"),
    ("hyper", "controller/src/kubernetes"),
    ("hyper", "controller/src/settings/kubernetes.rs"),
    ("pkcs8", "controller/authority/src/encrypted.rs"),
    ("rustls", "proto/identity/src"),
    ("rcgen", "controller/authority/src"),
    ("rcgen", "agent/join/src/key.rs"),
    ("rcgen", "controller/src/grpc/authorize.rs"), // its tests
    ("rcgen", "controller/src/registry/etcd/connection.rs"), // its tests
    ("webpki", "proto/identity/src/signer.rs"),
    ("x509_parser", "proto/identity/src/certificate.rs"),
];
/// The code that is checked. Tests and benchmarks may use crates as a second opinion.
const CHECKED: [&str; 10] = [
    "agent/src",
    "agent/advertise/src",
    "agent/docker/src",
    "agent/docker-setup/src",
    "agent/ipam/src",
    "agent/join/src",
    "agent/ndp/src",
    "controller/src",
    "controller/authority/src",
    "controller/cli/src",
];

/// Whether code names this crate. Comments and strings do not count.
fn names(code: &str, name: &str) -> bool {
    code.parse::<TokenStream>().is_ok_and(|tokens| has_ident(tokens, name))
}

fn has_ident(tokens: TokenStream, name: &str) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == name,
        TokenTree::Group(group) => has_ident(group.stream(), name),
        TokenTree::Punct(_) | TokenTree::Literal(_) => false,
    })
}

/// The crate of another module that the code at `place` names.
fn foreign_crate(place: &str, code: &str) -> Option<String> {
    let is_of = |name: &str| EDGES.iter().any(|(it, edge)| *it == name && Path::new(place).starts_with(edge));
    let named = EDGES.iter().find(|(name, _)| !is_of(name) && names(code, name));
    named.map(|(name, edge)| format!("{place} names {name}, which is for {edge} only"))
}

#[test]
fn each_outside_world_has_one_edge() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let files = CHECKED.iter().flat_map(|folder| rust_files(&root.join(folder)));
    let found: Vec<_> = files
        .filter_map(|file| {
            let place = file.strip_prefix(root).unwrap().display().to_string();
            foreign_crate(&place, &fs::read_to_string(&file).unwrap())
        })
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_edge_names_its_crate() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for (name, edge) in EDGES {
        let path = root.join(edge);
        let files = if path.is_dir() { rust_files(&path) } else { vec![path] };
        let named = files.iter().any(|file| names(&fs::read_to_string(file).unwrap(), name));
        assert!(named, "{edge} does not name {name}: the list is out of date");
    }
}

#[test]
fn a_crate_outside_of_its_edge_is_found() {
    let expected =
        "agent/src/engine/mod.rs names rtnetlink, which is for agent/src/kernel/netlink/configure.rs only";
    for code in
        ["use rtnetlink::Handle;", "fn f() -> rtnetlink::Error { x() }", "mod a { use rtnetlink as r; }"]
    {
        assert_eq!(foreign_crate("agent/src/engine/mod.rs", code).as_deref(), Some(expected), "{code}");
        assert_eq!(foreign_crate("agent/src/kernel/netlink/configure.rs", code), None, "{code}");
    }
    assert_eq!(foreign_crate("agent/src/engine/mod.rs", "//! Not by rtnetlink.\nfn f() {}"), None);
}
