use super::*;

pub(super) fn host(mode: Mode, text: &str) -> Situation {
    Situation {
        mode,
        mode_name: "x",
        prefixes: Prefixes {
            host: "2001:db8:8000:1::/64".parse().unwrap(),
            container: "2001:db8:8000:1::/80".parse().unwrap(),
            further: vec![],
            pools: vec!["2001:db8:8000::/40".parse().unwrap()],
        },
        engine: Engine {
            version: "28.5.2".into(),
            bridge: "docker0".into(),
            answers: true,
            network: Some("2001:db8:8000:7::/80".parse().unwrap()),
            addresses: vec![("2001:db8:8000:7::1".parse().unwrap(), 80)],
            ..Engine::default()
        },
        daemon_json: "/etc/docker/daemon.json".into(),
        document: Document::parse(Some(text.as_bytes())).unwrap(),
        earlier: Earlier::default(),
        config: "/etc/sextant/agent.toml".into(),
        has_controller: true,
        other_mode: false,
        group: None,
        may_restart: false,
        engine_unit: true,
        agent_unit: true,
    }
}

pub(super) const RIGHT: &str = "{\"ipv6\": true, \"fixed-cidr-v6\": \"2001:db8:8000:1::/80\"}";

fn lines(host: &Situation) -> Vec<String> {
    let Todo { steps, left } = todo(host).unwrap();
    let left = left.iter().map(|it| format!("left: {}", it.split(", and then").next().unwrap()));
    steps.iter().map(ToString::to_string).chain(left).collect()
}

#[test]
fn the_engine_is_restarted_only_if_something_has_changed_and_that_is_allowed() {
    let write =
        "write into /etc/docker/daemon.json: \"ipv6\": true, \"fixed-cidr-v6\": \"2001:db8:8000:1::/80\"";
    let remove = "remove from docker0: address 2001:db8:8000:7::1/80";
    let restart = "restart Docker: systemctl restart docker";
    let before = host(Mode::Daemon, "{}");
    assert_eq!(lines(&before), [write, "left: systemctl restart docker"]);
    let allowed = Situation { may_restart: true, ..before.clone() };
    assert_eq!(lines(&allowed), [write, remove, restart]);
    let no_unit = Situation { engine_unit: false, ..allowed.clone() };
    assert_eq!(lines(&no_unit), [write, "left: restart Docker"]);
    // It is written, but the engine still has the former prefix.
    let written = host(Mode::Daemon, RIGHT);
    assert_eq!(lines(&written), ["left: systemctl restart docker"]);
    let restarted = Engine { network: Some(written.prefixes.container), ..written.engine.clone() };
    assert_eq!(lines(&Situation { engine: restarted.clone(), ..written.clone() }), [remove]);
    let right = Engine { addresses: vec![], ..restarted };
    assert_eq!(lines(&Situation { engine: right, may_restart: true, ..written.clone() }), [""; 0]);
    let stopped = Engine { answers: false, network: None, ..written.engine.clone() };
    assert_eq!(lines(&Situation { engine: stopped, ..written }), [remove]);
}

#[test]
fn containers_with_addresses_of_the_former_prefix_are_named() {
    let mut before = host(Mode::Daemon, RIGHT);
    before.engine.containers = vec!["db".into(), "web".into()];
    let left = lines(&before);
    assert_eq!(
        left[1],
        "left: start containers again that still have addresses of 2001:db8:8000:7::/80: db, web"
    );
    before.engine.network = Some(before.prefixes.container);
    assert!(lines(&before).iter().all(|line| !line.contains("web")));
}

#[test]
fn another_configuration_file_of_the_engine_is_named() {
    let mut other = host(Mode::Daemon, "{}");
    other.engine.words = ["dockerd", "--config-file=/etc/docker/other.json"].map(str::to_owned).into();
    let refused = todo(&other).unwrap_err().to_string();
    assert!(refused.contains("daemon-json = \"/etc/docker/other.json\""), "{refused}");
    other.daemon_json = "/etc/docker/other.json".into();
    assert!(todo(&other).is_ok());
}

#[test]
fn an_address_that_gets_another_length_needs_a_start_without_ipv6() {
    let addr = "2001:db8:8000:1::1".parse().unwrap();
    let mut before = host(Mode::Daemon, "{\"ipv6\": true, \"fixed-cidr-v6\": \"2001:db8:8000:1::/64\"}");
    before.engine.addresses = vec![(addr, 64)];
    before.engine.network = Some("2001:db8:8000:1::/64".parse().unwrap());
    let refused = todo(&before).unwrap_err().to_string();
    assert!(
        refused.contains("docker0 has 2001:db8:8000:1::1/64 and is to have 2001:db8:8000:1::1/80"),
        "{refused}"
    );
    let lines = lines(&Situation { may_restart: true, ..before });
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert!(lines[0].ends_with("\"ipv6\": false") && lines[3].contains("\"ipv6\": true"), "{lines:?}");
    assert!(lines[1].starts_with("restart Docker") && lines[4] == lines[1], "{lines:?}");
}

#[test]
fn two_networks_never_get_the_same_prefix() {
    let mut taken = host(Mode::Daemon, "{}");
    taken.engine.others = vec![("sextant".into(), taken.prefixes.container)];
    let refused = todo(&taken).unwrap_err().to_string();
    assert!(refused.contains("network sextant has 2001:db8:8000:1::/80"), "{refused}");
    let refused = todo(&host(Mode::Network, RIGHT)).unwrap_err().to_string();
    assert!(refused.contains("remove that key"), "{refused}");
    assert!(todo(&host(Mode::Network, "{\"fixed-cidr-v6\": \"fd00::/64\"}")).is_ok());
    // Networks beside it are what pools are for.
    taken.mode = Mode::Pools;
    taken.engine.others = vec![("web".into(), "2001:db8:8000:1:1::/80".parse().unwrap())];
    assert!(todo(&taken).is_ok());
}

#[test]
fn the_agent_gets_mode_and_group_and_is_restarted_for_them() {
    let group = Some(("/etc/systemd/system/sextant-agent.service.d/docker.conf".into(), "docker".into()));
    let before = Situation { other_mode: true, group, ..host(Mode::Network, "{}") };
    let expected = [
        "write into /etc/sextant/agent.toml: [docker] mode = \"x\"",
        "write into /etc/systemd/system/sextant-agent.service.d/docker.conf: SupplementaryGroups=docker",
    ];
    assert_eq!(lines(&before)[..2], expected);
    assert!(lines(&before)[2].starts_with("left: systemctl daemon-reload"));
    let restarted = Situation { may_restart: true, ..before.clone() };
    assert_eq!(lines(&restarted)[2], "restart the agent: systemctl restart sextant-agent");
    assert_eq!(lines(&Situation { agent_unit: false, ..restarted })[2], "left: restart the agent");
    assert_eq!(lines(&host(Mode::Network, "{}")), [""; 0]);
    assert_eq!(lines(&host(Mode::Watched, "{\"bridge\": \"none\"}")), [""; 0]);
}

#[test]
fn a_config_file_that_has_the_mode_alone_is_named() {
    let host = Situation { other_mode: true, agent_unit: false, ..host(Mode::Watched, "{}") };
    assert_eq!(todo(&host).unwrap().left, ["restart the agent"]);
    let left = todo(&Situation { has_controller: false, ..host }).unwrap().left;
    assert!(left[0].contains("/etc/sextant/agent.toml, e.g. controller"), "{left:?}");
}

fn driver() -> Driver {
    Driver {
        socket: "/run/sextant/docker-ipam.sock".into(),
        spec: Some("/etc/docker/plugins/sextant.spec".into()),
        unit: Some("/etc/systemd/system/sextant-docker-ipam.socket".into()),
        listens: false,
    }
}

#[test]
fn the_ipam_driver_needs_its_files_and_a_socket_that_systemd_listens_at() {
    let of = |driver: Driver| Situation { other_mode: true, ..host(Mode::Ipam(driver), "{}") };
    let unit = "write /etc/systemd/system/sextant-docker-ipam.socket: systemd listens at /run/sextant/docker-ipam.sock for the agent";
    let spec = "write into /etc/docker/plugins/sextant.spec: the socket /run/sextant/docker-ipam.sock of the IPAM driver";
    let mode = "write into /etc/sextant/agent.toml: [docker] mode = \"x\"";
    let commands = "systemctl daemon-reload && systemctl stop sextant-agent && systemctl enable --now \
                    sextant-docker-ipam.socket && systemctl start sextant-agent";
    let first = of(driver());
    assert_eq!(lines(&first), [unit, spec, mode, &format!("left: {commands}")]);
    let allowed = Situation { may_restart: true, ..first };
    assert_eq!(lines(&allowed), [unit, spec, mode, &format!("let systemd listen: {commands}")]);
    // The files are right, but nothing listens.
    let silent = Situation { other_mode: false, ..of(Driver { spec: None, unit: None, ..driver() }) };
    assert_eq!(lines(&silent), [format!("left: {commands}")]);
    let right = of(Driver { spec: None, unit: None, listens: true, ..driver() });
    assert_eq!(lines(&right), [mode, "left: systemctl daemon-reload && systemctl restart sextant-agent"]);
    assert_eq!(lines(&Situation { other_mode: false, ..right }), [""; 0]);
}

#[test]
fn without_systemd_the_agent_listens_at_the_drivers_socket_itself() {
    let driver = Driver { unit: None, ..driver() };
    let host = Situation { other_mode: true, agent_unit: false, ..host(Mode::Ipam(driver), "{}") };
    let shown = lines(&host);
    assert!(
        shown.len() == 3 && shown[2].starts_with("left: restart the agent, which then listens"),
        "{shown:?}"
    );
}
