//! The code of docs/containers.md, with the prefix of a host in the place of the example's.

use std::{fs, path::Path};

use sextant_proto::Prefix;

use crate::page::Page;

/// The container prefix of the page's examples.
const EXAMPLE: &str = "2001:db8:8000:1::";

/// The code blocks of this kind under a heading, for a host with this container prefix.
pub fn blocks(section: &str, kind: &str, prefix: Prefix) -> Vec<String> {
    let own = prefix.addr().to_string();
    assert!(own.ends_with("::") && prefix.len() == 80, "{prefix}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/containers.md");
    let page = Page::parse("docs/containers.md", &fs::read_to_string(path).unwrap());
    let is_it = |block: &&crate::page::Code| block.section == section && block.kind == kind;
    let found: Vec<_> =
        page.blocks.iter().filter(is_it).map(|block| block.text.replace(EXAMPLE, &own)).collect();
    assert!(!found.is_empty(), "docs/containers.md has no {kind} block under #{section}");
    found
}

/// The commands for a container that is on no network, which has this address then. `engine` takes the place of `docker`.
pub fn by_hand(prefix: Prefix, engine: &str) -> String {
    let commands = blocks("docker-one-container-by-hand", "sh", prefix).remove(0);
    let inspect = commands.lines().find(|line| line.contains(" inspect ")).unwrap();
    commands.replace(inspect, &format!("pid=$({inspect})")).replace("docker ", &format!("{engine} "))
}
