//! The drop-ins of the documentation open as little as they say, as `systemd-analyze security` counts it.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use crate::machine::deploy_systemd;

/// What each drop-in may add to the exposure of its unit, of 10. A file for a secret or a group adds nothing.
const MAY_ADD: [(&str, f64); 8] = [
    // CAP_NET_RAW and AF_PACKET.
    ("ndp.conf", 0.3),
    // CAP_NET_RAW.
    ("advertise.conf", 0.1),
    // CAP_NET_BIND_SERVICE.
    ("bgp.conf", 0.1),
    // The group of the engine's socket, as `docker setup` writes it.
    ("docker.conf", 0.1),
    ("etcd.conf", 0.0),
    ("join.conf", 0.0),
    ("pki.conf", 0.0),
    ("tls.conf", 0.0),
];
const PLACE: &str = "# /etc/systemd/system/";

/// The drop-ins of all pages, by unit and name.
fn documented() -> BTreeMap<(String, String), String> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let mut found = BTreeMap::new();
    for page in fs::read_dir(docs).unwrap().map(|entry| entry.unwrap().path()) {
        let Ok(text) = fs::read_to_string(&page) else { continue };
        for block in text.split("```").filter(|block| block.contains("\n[Service]\n")) {
            let (_, block) = block.split_once('\n').unwrap();
            let (place, block) = block.split_once('\n').unwrap();
            let place = place.strip_prefix(PLACE).unwrap_or_else(|| panic!("{page:?}: no place: {place}"));
            let (unit, name) = place.split_once(".d/").unwrap();
            found.insert((unit.to_owned(), name.to_owned()), block.to_owned());
        }
    }
    found
}

/// The exposure of a unit with a drop-in.
fn exposure(unit: &str, drop_in: Option<&str>) -> f64 {
    let root = tempfile::tempdir().unwrap();
    let units = root.path().join("etc/systemd/system");
    fs::create_dir_all(units.join(format!("{unit}.d"))).unwrap();
    fs::copy(deploy_systemd().join(unit), units.join(unit)).unwrap();
    if let Some(text) = drop_in {
        fs::write(units.join(format!("{unit}.d/it.conf")), text).unwrap();
    }
    let mut command = Command::new("systemd-analyze");
    command
        .args(["security", "--offline=yes", "--no-pager"])
        .arg(format!("--root={}", root.path().display()));
    let output = command.arg(unit).output().unwrap();
    let printed = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let line = printed.lines().find(|line| line.contains("Overall exposure level")).unwrap_or_default();
    let level = line.split_whitespace().find_map(|word| word.parse().ok());
    level.unwrap_or_else(|| panic!("{unit}: {printed}"))
}

#[test]
fn each_drop_in_of_the_documentation_opens_no_more_than_it_is_for() {
    let mut all = documented();
    let docker = "[Service]\nSupplementaryGroups=docker\n".to_owned();
    all.insert(("sextant-agent.service".to_owned(), "docker.conf".to_owned()), docker);
    let may_add = BTreeMap::from(MAY_ADD);
    assert!(all.len() >= 7, "{:?}", all.keys());
    for ((unit, name), text) in &all {
        let most =
            may_add.get(name.as_str()).unwrap_or_else(|| panic!("{name} of {unit} is not in the list"));
        let (alone, with) = (exposure(unit, None), exposure(unit, Some(text)));
        println!("{unit} {alone}, with {name} {with}");
        assert!(with <= alone + most + 0.01, "{name} of {unit}: {alone} becomes {with}");
    }
}
