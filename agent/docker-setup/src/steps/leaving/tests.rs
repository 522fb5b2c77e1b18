use super::*;
use crate::{
    ipam::Driver,
    steps::{
        tests::{RIGHT, host},
        todo,
    },
};

const SPEC: &str = "/etc/docker/plugins/sextant.spec";
const UNIT: &str = "/etc/systemd/system/sextant-docker-ipam.socket";
const POOLS: &str = r#"{"ipv6": true, "fixed-cidr-v6": "2001:db8:8000:1::/80", "default-address-pools":
    [{"base": "10.0.0.0/8", "size": 24}, {"base": "2001:db8:8000:1::/64", "size": 80}]}"#;
const THEIRS: &str = r#"{"debug": true, "default-address-pools": [{"base": "10.0.0.0/8", "size": 24}]}"#;

fn parsed(text: &str) -> Document {
    Document::parse(Some(text.as_bytes())).unwrap()
}

/// A host that was set up for one mode, and is to be for another.
fn between(former: &str, wanted: &str) -> Situation {
    let driver = |spec: Option<&str>, unit: Option<&str>, listens| Driver {
        socket: "/run/sextant/docker-ipam.sock".into(),
        spec: spec.map(Into::into),
        unit: unit.map(Into::into),
        listens,
    };
    let mode = match wanted {
        "none" => Mode::Watched,
        "network" => Mode::Network,
        "daemon" => Mode::Daemon,
        "pools" => Mode::Pools,
        _ if former == "ipam" => Mode::Ipam(driver(None, None, true)),
        _ => Mode::Ipam(driver(Some(SPEC), Some(UNIT), false)),
    };
    let mut host = Situation { other_mode: former != wanted, ..host(mode, THEIRS) };
    host.engine.network = None;
    host.engine.addresses.clear();
    let container = host.prefixes.container;
    match former {
        "network" => {
            host.engine.kept = vec!["sextant".into()];
            host.engine.others = vec![("sextant".into(), container)];
        }
        "daemon" | "pools" => {
            let with = if former == "daemon" { RIGHT } else { POOLS };
            host.document = parsed(&with.replacen('{', "{\"debug\": true, ", 1));
            host.earlier.unedited =
                Some(parsed(if former == "daemon" { "{\"debug\": true}" } else { THEIRS }));
            host.engine.network = Some(container);
        }
        "ipam" if wanted != "ipam" => {
            host.earlier.driver_files = vec![SPEC.into(), UNIT.into()];
            host.earlier.listens = true;
        }
        _ => {}
    }
    host
}

/// The steps in short.
fn short(host: &Situation) -> String {
    let Todo { steps, left } = match todo(host) {
        Ok(todo) => todo,
        Err(refused) => return format!("refused: {}", refused.to_string().split("; ").next().unwrap()),
    };
    let name = |file: &PathBuf| file.file_name().unwrap().to_string_lossy().into_owned();
    let steps = steps.iter().map(|step| match step {
        Step::Write { file, keys } => {
            let keys: Vec<_> = keys.iter().map(|(key, _)| *key).collect();
            format!("{} {}", name(file), keys.join(" "))
        }
        Step::TakeBack { file } => format!("-{}", name(file)),
        Step::Unlisten => "-listen".to_owned(),
        Step::Mode { .. } => "mode".to_owned(),
        Step::Spec { .. } => "spec".to_owned(),
        Step::SocketUnit { .. } => "unit".to_owned(),
        other => other.to_string(),
    });
    let left = left.iter().map(|line| match line {
        line if line.contains("restart sextant-agent") => "agent!".to_owned(),
        line if line.contains("restart docker") => "docker!".to_owned(),
        line if line.contains("network rm sextant") => "sextant!".to_owned(),
        line if line.contains("--now sextant-docker-ipam.socket") => "listen!".to_owned(),
        line => line.clone(),
    });
    steps.chain(left).collect::<Vec<_>>().join(", ")
}

#[test]
fn each_mode_leaves_nothing_for_another_one() {
    let bridge = "daemon.json ipv6 fixed-cidr-v6";
    let pools = "daemon.json ipv6 fixed-cidr-v6 default-address-pools";
    let taken = "refused: Docker's network sextant has 2001:db8:8000:1::/80, and docker0 cannot have 2001:db8:8000:1::/80 beside it";
    let driver = "-listen, -sextant.spec, -sextant-docker-ipam.socket";
    let table = [
        ("none", "none", String::new()),
        ("none", "network", "mode, agent!".into()),
        ("none", "daemon", format!("{bridge}, mode, docker!, agent!")),
        ("none", "pools", format!("{pools}, mode, docker!, agent!")),
        ("none", "ipam", "unit, spec, mode, listen!".into()),
        ("network", "none", "mode, sextant!, agent!".into()),
        ("network", "network", String::new()),
        ("network", "daemon", taken.into()),
        ("network", "pools", taken.into()),
        ("network", "ipam", "unit, spec, mode, sextant!, listen!".into()),
        ("daemon", "none", "-daemon.json, mode, docker!, agent!".into()),
        ("daemon", "network", "-daemon.json, mode, docker!, agent!".into()),
        ("daemon", "daemon", String::new()),
        ("daemon", "pools", format!("{pools}, mode, docker!, agent!")),
        ("daemon", "ipam", "-daemon.json, unit, spec, mode, docker!, listen!".into()),
        ("pools", "none", "-daemon.json, mode, docker!, agent!".into()),
        ("pools", "network", "-daemon.json, mode, docker!, agent!".into()),
        ("pools", "daemon", format!("-daemon.json, {bridge}, mode, docker!, agent!")),
        ("pools", "pools", String::new()),
        ("pools", "ipam", "-daemon.json, unit, spec, mode, docker!, listen!".into()),
        ("ipam", "none", format!("{driver}, mode, agent!")),
        ("ipam", "network", format!("{driver}, mode, agent!")),
        ("ipam", "daemon", format!("{bridge}, {driver}, mode, docker!, agent!")),
        ("ipam", "pools", format!("{pools}, {driver}, mode, docker!, agent!")),
        ("ipam", "ipam", String::new()),
    ];
    for (former, wanted, expected) in table {
        assert_eq!(short(&between(former, wanted)), expected, "{former} to {wanted}");
    }
}

#[test]
fn docker_is_restarted_where_that_is_allowed_and_what_it_leaves_is_removed() {
    let mut host = Situation { may_restart: true, ..between("daemon", "network") };
    assert_eq!(
        short(&host),
        "-daemon.json, restart Docker: systemctl restart docker, mode, restart the agent: systemctl restart sextant-agent"
    );
    // By hand: the file is as it was, and Docker is not restarted yet.
    host = between("daemon", "network");
    (host.document, host.earlier.unedited, host.other_mode) = (parsed(THEIRS), None, false);
    assert_eq!(short(&host), "docker!");
    host.engine.network = None;
    host.engine.routes = vec![host.prefixes.container];
    assert_eq!(short(&host), "remove from docker0: route 2001:db8:8000:1::/80");
    host.engine.others = vec![("sextant".into(), host.prefixes.container)];
    assert_eq!(host.stale(&host.engine).routes, host.engine.routes, "the network is on another bridge");
}

#[test]
fn the_prefix_that_an_operator_gave_to_the_default_bridge_stays() {
    for wanted in ["none", "ipam"] {
        let mut host = between("none", wanted);
        let before = short(&host);
        host.document = parsed("{\"fixed-cidr-v6\": \"2001:db8:8000:1:9::/80\"}");
        host.engine.network = Some("2001:db8:8000:1:9::/80".parse().unwrap());
        assert_eq!(short(&host), before, "{wanted}");
        // Also while the engine is stopped.
        (host.engine.answers, host.engine.network) = (false, None);
        host.engine.routes = vec!["2001:db8:8000:1:9::/80".parse().unwrap()];
        assert_eq!(short(&host), before, "{wanted}");
        host.document = parsed("{}");
        host.engine.words = ["dockerd", "--fixed-cidr-v6=2001:db8:8000:1:9::/80"].map(str::to_owned).into();
        assert_eq!(short(&host), before, "{wanted}");
    }
}

#[test]
fn the_drivers_files_stay_while_a_network_uses_it_or_docker_does_not_say() {
    let mut host = between("ipam", "network");
    host.engine.driver_networks = vec!["web".into(), "db".into()];
    let refused = todo(&host).unwrap_err().to_string();
    assert!(refused.contains("(`docker network rm web db`)"), "{refused}");
    host.engine.answers = false;
    host.engine.driver_networks.clear();
    assert!(short(&host).starts_with("mode, start Docker"), "{}", short(&host));
    // The mode was changed by hand.
    host.engine.answers = true;
    host.engine.driver_networks = vec!["web".into(), "db".into()];
    host.other_mode = false;
    assert!(short(&host).starts_with("-listen, docker network rm web db,"), "{}", short(&host));
    host.earlier.listens = false;
    assert!(short(&host).starts_with("docker network rm web db,"), "{}", short(&host));
    // One that somebody has changed is named.
    host = between("ipam", "network");
    host.earlier.driver_files.pop();
    host.earlier.problems = vec!["FILE: it was changed since".into()];
    assert_eq!(short(&host), "-listen, -sextant.spec, mode, FILE: it was changed since, agent!");
}

#[test]
fn pools_of_lost_claims_go_with_the_next_setup() {
    let mut host = between("pools", "pools");
    let lost = POOLS.replace("size\": 80}]", "size\": 80}, {\"base\": \"fd00:7::/65\", \"size\": 80}]");
    host.document = parsed(&lost.replacen('{', "{\"debug\": true, ", 1));
    let todo = todo(&host).unwrap();
    let [Step::Write { keys, .. }] = &todo.steps[..] else { panic!("{todo:?}") };
    let text = keys.last().unwrap().1.to_string();
    assert!(text.contains("10.0.0.0/8") && text.contains("2001:db8:8000:1::/64"), "{text}");
    assert!(!text.contains("fd00"), "{text}");
}
