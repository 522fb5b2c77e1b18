use clap::Parser;

use super::*;
use crate::settings::CommandLine;

/// The networks of a file, with these flags.
fn parse(text: &str, flags: &[&str]) -> Result<(String, Vec<Further>), String> {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("agent.toml");
    std::fs::write(&config, text).unwrap();
    let line = ["sextant-agent", "--controller", "http://[::1]:7300", "--config", config.to_str().unwrap()];
    let line = CommandLine::parse_from(line.iter().chain(flags));
    let docker = line.settings().map_err(|error| error.to_string())?.docker.unwrap();
    Ok((docker.network, docker.further))
}

const MODE: &str = "[docker]\nmode = \"network\"\n";

#[test]
fn networks_have_defaults() {
    let text = format!(
        "pool = [\"main\", \"ula\"]\n{MODE}[[docker.network]]\nname = \"db\"\n\n\
        [[docker.network]]\nname = \"a-rather-long-name\"\nlength = 96\npool = \"ula\"\nbridge = \"br-long\"\n"
    );
    let (main, further) = parse(&text, &[]).unwrap();
    assert_eq!(main, "sextant");
    let db = Further { name: "db".into(), bridge: "sx-db".into(), pool: None, length: None };
    let long = Further {
        name: "a-rather-long-name".into(),
        bridge: "br-long".into(),
        pool: Some("ula".parse().unwrap()),
        length: Some(96),
    };
    assert_eq!(further, [db, long]);
}

#[test]
fn the_main_network_has_a_name_of_its_own() {
    let with = |text: &str, flags: &[&str]| parse(&format!("{MODE}{text}"), flags).unwrap().0;
    assert_eq!(with("network = \"web\"\n", &[]), "web");
    assert_eq!(with("main-network = \"web\"\n[[docker.network]]\nname = \"db\"\n", &[]), "web");
    let flag = ["--docker-network", "flag"];
    for text in ["", "network = \"web\"\n", "main-network = \"web\"\n", "[[docker.network]]\nname = \"db\"\n"]
    {
        let (main, further) = parse(&format!("{MODE}{text}"), &flag).unwrap();
        assert_eq!((main.as_str(), further.len()), ("flag", usize::from(text.contains("db"))), "{text}");
    }
}

#[test]
fn a_derived_bridge_is_a_name_of_the_kernel_and_differs_from_others() {
    assert_eq!(bridge_of("twelve-bytes"), "sx-twelve-bytes");
    let long = ["compose_project_one", "compose_project_two"].map(bridge_of);
    assert_ne!(long[0], long[1]);
    assert!(long.iter().all(|name| name.len() == LONGEST_LINK && name.starts_with("sx-compo-")), "{long:?}");
}

#[test]
fn errors_name_key_value_and_fix() {
    let network = |more: &str| format!("{MODE}[[docker.network]]\nname = \"db\"\n{more}\n");
    let twice = network("[[docker.network]]\nname = \"db\"");
    let bridges = network("bridge = \"br1\"\n[[docker.network]]\nname = \"web\"\nbridge = \"br1\"");
    let derived = network("[[docker.network]]\nname = \"web\"\nbridge = \"sx-db\"");
    let table: [(&str, &[&str], &str); 17] = [
        (&twice, &[], "[[docker.network]] name db: is named twice; remove one"),
        (
            &network(""),
            &["--docker-network", "db"],
            "[[docker.network]] name db: is the name of the network with",
        ),
        (&network("").replace("db", "host"), &[], "[[docker.network]] name host: use letters, digits"),
        (
            &network("length = 1"),
            &[],
            "[[docker.network]] length 1: give it the length of a part of the host prefix: 2 to 126",
        ),
        (&network("length = 127"), &[], "[[docker.network]] length 127: give it"),
        (&network("length = 300"), &[], "[[docker.network]] length 300: give it"),
        (
            &network("length = 64"),
            &["--host-len", "64"],
            "[[docker.network]] length 64: give it the length of a part of the host prefix: 65",
        ),
        (
            &network("pool = \"ula\""),
            &[],
            "[[docker.network]] pool ula: is none of this host's pools; name all",
        ),
        (
            &network("pool = \"ula\""),
            &["--pool", "a,b"],
            "[[docker.network]] pool ula: is none of this host's pools (a, b); add it",
        ),
        (
            &bridges,
            &[],
            "[[docker.network]] bridge br1: is the bridge of network db too; give web another one",
        ),
        (&derived, &[], "[[docker.network]] bridge sx-db: is the bridge of network db too"),
        (
            &network("bridge = \"sextant0\""),
            &[],
            "[[docker.network]] bridge sextant0: is the bridge of the network with",
        ),
        (&network("bridge = \"docker0\""), &[], "[[docker.network]] bridge docker0: belongs to Docker's own"),
        (
            &network("bridge = \"eth1\""),
            &["--uplink", "eth0,eth1"],
            "[[docker.network]] bridge eth1: is an uplink",
        ),
        (
            &network("bridge = \"sixteen-bytes-xx\""),
            &[],
            "[[docker.network]] bridge sixteen-bytes-xx: is not an interface name",
        ),
        (
            &network(""),
            &["--docker-mode", "daemon"],
            "[[docker.network]] name db: is for [docker] mode = \"network\", and the mode is \"daemon\"",
        ),
        (
            &network("").replace("mode = \"network\"", ""),
            &[],
            "[[docker.network]] name db: is for [docker] mode = \"network\", and the mode is \"off\"",
        ),
    ];
    for (text, flags, expected) in table {
        let error = parse(text, flags).unwrap_err();
        assert!(error.starts_with(expected), "{error}\n{text}");
    }
    for (more, expected) in [("lenght = 96", "unknown field `lenght`"), ("length = \"96\"", "expected u32")] {
        let error = parse(&network(more), &[]).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    let unnamed = parse(&format!("{MODE}[[docker.network]]\nlength = 96\n"), &[]).unwrap_err();
    assert!(unnamed.contains("missing field `name`"), "{unnamed}");
    let many: String = (0..64).map(|n| format!("[[docker.network]]\nname = \"n{n}\"\n")).collect();
    let error = parse(&format!("{MODE}{many}"), &[]).unwrap_err();
    assert!(error.starts_with("[[docker.network]] name n63: 64 networks are too many"), "{error}");
}
