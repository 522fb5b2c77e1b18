//! `docs/configuration.md` has a row for each key that the daemons' parsers know, and for no other.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use clap::Parser;

use crate::{page::Row, programs, read, settings::Daemon};

/// The page's headings, each with the section of the file that its table is of.
const SECTIONS: [(&str, Daemon, &str); 16] = [
    ("agenttoml", Daemon::Agent, ""),
    ("tls", Daemon::Agent, "[tls]"),
    ("tls", Daemon::Controller, "[tls]"),
    ("uplink", Daemon::Agent, "[uplink]"),
    ("bridge", Daemon::Agent, "[bridge]"),
    ("docker", Daemon::Agent, "[docker]"),
    ("dockernetwork", Daemon::Agent, "[[docker.network]]\nname = \"db\""),
    ("routes", Daemon::Agent, "[routes]"),
    ("export", Daemon::Agent, "[export]"),
    ("ndp", Daemon::Agent, "[ndp]"),
    ("bgp", Daemon::Agent, "[bgp]"),
    ("bgppoolname", Daemon::Agent, "[bgp]\nlocal-as = 65001\n[bgp.pool.main]"),
    ("bgpneighbour", Daemon::Agent, "[bgp]\nlocal-as = 65001\n[[bgp.neighbour]]"),
    ("controllertoml", Daemon::Controller, ""),
    ("limits", Daemon::Controller, "[limits]"),
    ("kubernetes", Daemon::Controller, "[kubernetes]"),
];
const ETCD: (&str, Daemon, &str) = ("etcd", Daemon::Controller, "[etcd]");

fn rows() -> BTreeMap<String, Vec<Row>> {
    let page = read(PathBuf::from("docs/configuration.md"));
    page.rows.into_iter().fold(BTreeMap::new(), |mut rows, row| {
        rows.entry(row.section.clone()).or_insert_with(Vec::new).push(row);
        rows
    })
}

#[test]
fn the_configuration_page_has_every_key() {
    let rows = rows();
    for (anchor, daemon, section) in SECTIONS.into_iter().chain([ETCD]) {
        let written: BTreeSet<_> = rows[anchor].iter().map(|row| row.cells[0].clone()).collect();
        let known: BTreeSet<_> = daemon.keys(section).into_iter().collect();
        let (missing, unknown) = (known.difference(&written), written.difference(&known));
        assert!(
            known == written,
            "#{anchor}: missing {:?}, unknown {:?}",
            missing.collect::<Vec<_>>(),
            unknown.collect::<Vec<_>>()
        );
    }
}

#[test]
fn the_configuration_page_has_every_flag() {
    let rows = rows();
    for (program, daemon) in [("sextant-agent", Daemon::Agent), ("sextant-controller", Daemon::Controller)] {
        let sections = SECTIONS.into_iter().chain([ETCD]).filter(|(_, it, _)| *it == daemon);
        let written: BTreeSet<_> = sections
            .flat_map(|(anchor, _, _)| rows[anchor].iter())
            .filter_map(|row| row.cells[1].strip_prefix("--").map(str::to_owned))
            .collect();
        let command = &programs::ours()[program];
        let flags = command.get_arguments().filter_map(|arg| arg.get_long()).map(str::to_owned);
        let flags: BTreeSet<_> =
            flags.filter(|it| !["config", "help", "version"].contains(&it.as_str())).collect();
        assert_eq!(written, flags, "{program}");
    }
}

#[test]
fn each_flags_variable_is_named_after_it() {
    let commands = programs::ours();
    let args = commands.values().flat_map(|command| command.get_arguments());
    for arg in args.filter(|arg| arg.get_env().is_some()) {
        let expected = arg.get_long().map(|it| format!("SEXTANT_{}", it.to_uppercase().replace('-', "_")));
        assert_eq!(arg.get_env().and_then(|it| it.to_str()), expected.as_deref());
    }
}

/// What the daemons take where a key is missing, by section and key; only where that is a plain value.
fn defaults() -> Vec<(&'static str, &'static str, String)> {
    let agent = agent(
        "controller = [\"http://[::1]:7300\"]\n[bgp]\nlocal-as = 1\n[bgp.pool.main]\n[[bgp.neighbour]]\naddress = \"::1\"\nremote-as = 2\n",
    );
    let (routes, bgp) = (agent.routes, agent.bgp.unwrap());
    let peer = &bgp.neighbours[0];
    let docker = "controller = [\"http://[::1]:7300\"]\n[docker]\nmode = \"network\"";
    let docker = self::agent(docker).docker.unwrap();
    let all = agent_all();
    let it = controller("");
    let backups = controller("backup-every = \"1h\"").backups.unwrap();
    let (loopback, seconds) =
        (|at: std::net::SocketAddr| at.to_string(), |it: std::time::Duration| it.as_secs().to_string());
    vec![
        ("agenttoml", "role", word(&agent.role)),
        ("agenttoml", "topology", word(&routes.topology)),
        ("agenttoml", "state-dir", agent.state_dir.display().to_string()),
        ("agenttoml", "http", loopback(agent.http)),
        ("agenttoml", "log", agent.log),
        ("agenttoml", "log-format", word(&agent.log_format)),
        ("uplink", "balance", routes.balance.to_string()),
        ("uplink", "next-hop", word(&agent.next_hop)),
        ("bridge", "interface", agent.bridge.name),
        ("bridge", "create", agent.bridge.create.to_string()),
        ("bridge", "advertise", agent.bridge.advertise.to_string()),
        ("ndp", "mode", word(&sextant_agent::settings::NdpMode::default())),
        ("ndp", "answer", word(&sextant_agent::settings::NdpAnswer::default())),
        ("ndp", "override", false.to_string()),
        ("ndp", "source", word(&sextant_agent::settings::NdpSource::default())),
        ("docker", "mode", word(&sextant_agent::settings::DockerMode::default())),
        ("docker", "main-network", docker.network),
        ("docker", "socket", docker.socket.display().to_string()),
        ("docker", "from-cluster", word(&docker.from_cluster)),
        ("docker", "from-outside", word(&docker.from_outside)),
        ("docker", "ipv4-range", docker.ipv4_range.to_string()),
        ("docker", "ipam-socket", docker.ipam_socket.display().to_string()),
        ("docker", "replace-used", docker.replace_used.to_string()),
        ("docker", "daemon-json", docker.daemon_json.display().to_string()),
        ("docker", "restart", docker.restart.to_string()),
        ("routes", "metric", routes.metric.to_string()),
        ("routes", "unreachable-metric", routes.unreachable_metric.to_string()),
        ("routes", "table", routes.table.to_string()),
        ("routes", "direct", word(&routes.direct)),
        ("routes", "resync", routes.resync_secs.to_string()),
        ("bgp", "listen-port", bgp.listen_port.to_string()),
        ("bgp", "announce", word(&bgp.announce)),
        ("bgp", "restart-time", peer.restart_time.to_string()),
        ("bgp", "import-metric", bgp.import_metric.to_string()),
        ("bgppoolname", "announce", bgp.pools.values().all(|pool| pool.announce).to_string()),
        ("bgpneighbour", "passive", peer.passive.to_string()),
        ("bgpneighbour", "hold-time", peer.hold_time.to_string()),
        ("bgpneighbour", "ttl-security", peer.ttl_security.to_string()),
        ("bgpneighbour", "import", word(&peer.accept.import)),
        ("bgpneighbour", "import-filter", format!("[\"{}\"]", all.accept.filter[0])),
        ("bgpneighbour", "import-max", all.accept.max.to_string()),
        ("bgpneighbour", "bfd-interval", all.bfd.unwrap().interval.as_millis().to_string()),
        ("bgpneighbour", "bfd-multiplier", all.bfd.unwrap().multiplier.to_string()),
        ("bgpneighbour", "local-pref", peer.local_pref.to_string()),
        ("controllertoml", "listen", loopback(it.listen)),
        ("controllertoml", "http", loopback(it.http)),
        ("controllertoml", "insecure", it.insecure.to_string()),
        ("controllertoml", "cluster", it.cluster.to_string()),
        ("controllertoml", "backup-keep", backups.keep.to_string()),
        ("controllertoml", "idle-timeout", seconds(it.idle_timeout)),
        ("controllertoml", "down-after", seconds(it.down_after)),
        ("controllertoml", "quarantine", seconds(it.quarantine)),
        ("controllertoml", "recovery-window", seconds(it.recovery_window)),
        ("controllertoml", "audit-entries", it.audit.entries.to_string()),
        ("controllertoml", "audit-days", (it.audit.age.as_secs() / 86_400).to_string()),
        ("limits", "calls", it.limits.calls.to_string()),
        ("limits", "requests", it.limits.requests.to_string()),
        ("limits", "connections", it.limits.connections.to_string()),
        ("limits", "claims", it.limits.claims.to_string()),
        ("limits", "address-calls", it.limits.address_calls.to_string()),
        ("limits", "address-requests", it.limits.address_requests.to_string()),
        ("limits", "shorter-host-len", it.limits.shorter_host_len.to_string()),
        ("controllertoml", "reflection", it.reflection.to_string()),
        ("controllertoml", "log", it.log),
        ("controllertoml", "log-format", word(&it.log_format)),
    ]
}

fn agent(text: &str) -> sextant_agent::settings::Settings {
    let file = file(text);
    let words = ["sextant-agent", "--config", file.path().to_str().unwrap()];
    sextant_agent::settings::CommandLine::parse_from(words).settings().unwrap()
}

/// A neighbour with BFD, of which all routes are imported.
fn agent_all() -> sextant_agent::settings::NeighbourSettings {
    let text = "controller = [\"http://[::1]:7300\"]\n[bgp]\nlocal-as = 1\n[[bgp.neighbour]]\naddress = \"::1\"\nremote-as = 2\n\
                bfd = true\nimport = \"all\"\n";
    agent(text).bgp.unwrap().neighbours.remove(0)
}

fn controller(text: &str) -> sextant_controller::settings::Settings {
    let file = file(text);
    let words = ["sextant-controller", "--config", file.path().to_str().unwrap()];
    sextant_controller::settings::CommandLine::parse_from(words).settings().unwrap()
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

/// `on-link` of `OnLink`.
fn word(value: &dyn std::fmt::Debug) -> String {
    let text = format!("{value:?}");
    let dashed = text
        .char_indices()
        .flat_map(|(at, it)| (at > 0 && it.is_uppercase()).then_some('-').into_iter().chain([it]));
    dashed.collect::<String>().to_lowercase()
}

#[test]
fn the_configuration_page_has_the_real_defaults() {
    let rows = rows();
    let wrong: Vec<_> = defaults()
        .into_iter()
        .filter_map(|(anchor, key, real)| {
            let row = rows[anchor].iter().find(|row| row.cells[0] == key)?;
            let written = row.cells[2].split(' ').next().unwrap_or_default();
            (written != real).then(|| format!("#{anchor} {key}: {written}, and in truth {real}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
