//! `sextant-agent docker setup`, and `[docker] mode = "daemon"` and `"pools"`.

use std::fs;

use nix::sys::signal::Signal;
use sextant_proto::Prefix;
use sextant_tests::{Docker, SECONDS, expect_text, poll};

use crate::{firewall::FIREWALL, setup_bed::SetupBed};

fn is_in(prefix: &str, address: &str) -> bool {
    prefix.parse::<Prefix>().unwrap().contains(address.parse().unwrap())
}

#[test]
fn containers_on_docker0_reach_each_other_after_one_command_on_each_host() {
    let mut bed = SetupBed::start("docker daemon", 2, &[]);
    let shown = bed.setup(0, &["--mode", "daemon", "--dry-run"]).unwrap();
    let prefix = bed.container_prefix(0);
    assert!(
        shown.contains("would be done:") && shown.contains(&format!("\"fixed-cidr-v6\": \"{prefix}\"")),
        "{shown}"
    );
    assert!(!bed.engines[0].daemon_json().exists(), "a dry run writes nothing");
    for index in 0..2 {
        bed.set_up(index, "daemon");
    }
    let done = bed.setup(0, &[]).unwrap();
    assert!(done.contains("nothing to do"), "{done}");
    let addresses: Vec<_> = bed.engines.iter().map(|engine| engine.container("web", &[]).unwrap()).collect();
    bed.engines.iter().for_each(|engine| engine.serve("web", 8000).unwrap());
    for (from, to) in [(0, 1), (1, 0)] {
        bed.pings(from, "web", &addresses[to]);
        expect_text(&format!("TCP from {from} to {to}"), 10 * SECONDS, &addresses[from], || {
            bed.engines[from].ask("web", &addresses[to], 8000)
        });
    }
    bed.status_is_silent();
}

#[test]
fn all_ports_of_containers_on_docker0_are_open_within_the_cluster() {
    let mut bed = SetupBed::start("docker daemon firewall", 2, &FIREWALL);
    (0..2).for_each(|index| bed.set_up(index, "daemon"));
    let web = |engine: &Docker| {
        let address = engine.container("web", &["-p", "8000:8000"]).unwrap();
        [8000, 8001].into_iter().for_each(|port| engine.serve("web", port).unwrap());
        address
    };
    let addresses: Vec<_> = bed.engines.iter().map(web).collect();
    bed.pings(0, "web", &addresses[1]);
    for port in [8000, 8001] {
        expect_text(&format!("port {port}"), 10 * SECONDS, &addresses[0], || {
            bed.engines[0].ask("web", &addresses[1], port)
        });
    }
    bed.status_is_silent();
}

#[test]
fn every_network_with_ipv6_gets_a_prefix_by_itself_where_docker_can() {
    let mut bed = SetupBed::start("docker pools", 2, &[]);
    let version = bed.engines[0].run(&["version", "-f", "{{.Server.Version}}"]).unwrap();
    if version.split('.').next().unwrap().parse::<u32>().unwrap() < 27 {
        let refused = bed.setup(0, &["--mode", "pools"]).unwrap_err().to_string();
        assert!(refused.contains("takes no IPv6 prefixes") && refused.contains(&version), "{refused}");
        assert!(!bed.engines[0].daemon_json().exists());
        return;
    }
    let mut addresses = Vec::new();
    for index in 0..2 {
        bed.set_up(index, "pools");
        let engine = &bed.engines[index];
        engine.run(&["network", "create", "--ipv6", "web"]).unwrap();
        addresses.push(engine.container("web", &["--network", "web"]).unwrap());
        engine.serve("web", 8001).unwrap();
        let host = bed.container_prefix(index).replace("/80", "/64");
        assert!(is_in(&host, &addresses[index]), "{addresses:?}");
        assert!(!is_in(&bed.container_prefix(index), &addresses[index]), "{addresses:?}: docker0 has that");
        let ipv4 =
            engine.run(&["network", "inspect", "-f", "{{range .IPAM.Config}}{{.Subnet}} {{end}}", "web"]);
        assert!(ipv4.unwrap().contains("172."), "Docker's own pools stay");
        engine.container("other", &[]).unwrap();
    }
    bed.pings(0, "web", &addresses[1]);
    bed.pings(0, "other", &addresses[1]);
    expect_text("an unpublished port", 10 * SECONDS, &addresses[0], || {
        bed.engines[0].ask("web", &addresses[1], 8001)
    });
    bed.status_is_silent();
}

#[test]
fn a_changed_prefix_is_reported_until_the_host_is_set_up_again() {
    let mut bed = SetupBed::start("docker daemon moved", 2, &[]);
    (0..2).for_each(|index| bed.set_up(index, "daemon"));
    bed.engines[0].container("web", &[]).unwrap();
    bed.engines[1].container("web", &["--restart", "always"]).unwrap();
    bed.status_is_silent();
    let before = bed.container_prefix(1);
    bed.cluster.sextant(&["node", "reassign", "h2"]);
    poll("another prefix", 20 * SECONDS, || {
        anyhow::ensure!(bed.container_prefix(1) != before);
        Ok(())
    });
    let wanted = bed.container_prefix(1);
    bed.status_has(&[
        &format!("\"{before}\", and this host's containers have {wanted}"),
        "sextant-agent docker setup",
    ]);
    // The fix, word for word.
    let shown = bed.setup(1, &[]).unwrap();
    assert!(shown.contains("left to do: restart Docker"), "{shown}");
    bed.status_has(&[&format!(
        "Docker still gives docker0 {before}, not this host's {wanted}; containers with addresses of it: web"
    )]);
    bed.restart_engine(1).unwrap();
    let shown = bed.setup(1, &[]).unwrap();
    let first = wanted.replace("/80", "1/80");
    let bridge = bed.bridge(1);
    let right = [first.clone(), format!("{first}, boot {wanted}")];
    assert!(right.contains(&bridge), "{bridge}; {shown}");
    bed.status_is_silent();
    let address = poll("the container has an address of the prefix", 10 * SECONDS, || {
        let address = bed.engines[1].address("web")?;
        anyhow::ensure!(is_in(&wanted, &address), "{address}");
        Ok(address)
    });
    bed.pings(0, "web", &address);
}

#[test]
fn an_address_of_another_length_is_refused_until_docker_has_forgotten_it() {
    let mut bed = SetupBed::start("docker longer", 1, &[]);
    // As if Docker had the whole host prefix before the agent came.
    let host = bed.container_prefix(0).replace("/80", "/64");
    bed.cluster.agents[0].process.freeze().unwrap();
    bed.cluster.hosts[0].ip("-6 address flush dev docker0 scope global").unwrap();
    fs::write(bed.engines[0].daemon_json(), format!("{{\"ipv6\": true, \"fixed-cidr-v6\": \"{host}\"}}\n"))
        .unwrap();
    bed.restart_engine(0).unwrap();
    bed.cluster.agents[0].process.thaw().unwrap();
    let refused = bed.setup(0, &["--mode", "daemon"]).unwrap_err().to_string();
    assert!(refused.contains("Start it once without IPv6") && refused.contains("--restart"), "{refused}");
    // The fix, word for word.
    fs::write(bed.engines[0].daemon_json(), "{\"ipv6\": false}\n").unwrap();
    bed.restart_engine(0).unwrap();
    let address = host.replace("/64", "1/64");
    let _gone_in_some_versions = bed.cluster.hosts[0].ip(&format!("-6 address del {address} dev docker0"));
    bed.set_up(0, "daemon");
    let web = bed.engines[0].container("web", &[]).unwrap();
    assert!(is_in(&bed.container_prefix(0), &web), "{web}");
    bed.status_is_silent();
}

#[test]
fn undo_gives_back_the_bytes_and_keeps_the_changes_of_others() {
    let bed = SetupBed::start("docker undo", 1, &[]);
    let (file, config) = (bed.engines[0].daemon_json(), bed.config(0));
    let agent = fs::read(&config).unwrap();
    let undo = || bed.setup(0, &["--undo"]).unwrap();
    assert!(undo().contains("nothing to undo"));
    for before in [None, Some(""), Some("{ \"debug\" :true,\r\n\t\"fixed-cidr-v6\":\"fd00::/64\" }")] {
        if let Some(before) = before {
            fs::write(&file, before).unwrap();
        }
        bed.setup(0, &["--mode", "daemon"]).unwrap();
        assert!(fs::read_to_string(&file).unwrap().contains(&bed.container_prefix(0)));
        assert!(fs::read_to_string(&config).unwrap().contains("mode = \"daemon\""));
        let undone = undo();
        assert!(undone.contains("left to do: restart Docker"), "{undone}");
        assert_eq!(fs::read_to_string(&file).ok().as_deref(), before);
        assert_eq!(fs::read(&config).unwrap(), agent);
    }
    fs::write(&file, "{}").unwrap();
    bed.setup(0, &["--mode", "daemon"]).unwrap();
    let changed = fs::read_to_string(&file).unwrap().replacen('{', "{ \"debug\": true,", 1);
    fs::write(&file, changed).unwrap();
    assert!(undo().contains("what others have changed in it since is kept"));
    assert_eq!(fs::read_to_string(&file).unwrap(), "{ \"debug\": true\n}");
}

#[test]
fn undo_removes_the_route_that_docker_leaves() {
    let mut bed = SetupBed::start("docker undone", 1, &[]);
    bed.set_up(0, "daemon");
    let prefix = bed.container_prefix(0);
    let shown = bed.setup(0, &["--undo"]).unwrap();
    assert!(shown.contains("left to do: restart Docker, and then run this command again"), "{shown}");
    bed.restart_engine(0).unwrap();
    bed.setup(0, &["--undo"]).unwrap();
    let bridge = bed.bridge(0);
    assert!(!bridge.contains("boot"), "{bridge}; the prefix was {prefix}");
    let again = bed.setup(0, &["--undo"]).unwrap();
    assert!(again.contains("nothing to undo"), "{again}");
}

#[test]
fn an_engine_that_is_away_is_named_in_this_mode_too() {
    let mut bed = SetupBed::start("docker daemon away", 1, &[]);
    bed.set_up(0, "daemon");
    bed.status_is_silent();
    bed.engines[0].end_engine(Signal::SIGTERM).unwrap();
    bed.status_has(&["Docker does not answer at", "systemctl start docker"]);
    bed.engines[0].start_engine(&[]).unwrap();
    bed.status_is_silent();
}

#[test]
fn what_cannot_be_edited_is_refused_and_untouched() {
    let mut bed = SetupBed::start("docker refused", 1, &[]);
    let (file, config) = (bed.engines[0].daemon_json(), bed.config(0));
    let agent = fs::read(&config).unwrap();
    let large = format!("{{\"a\": \"{}\"}}", "x".repeat(1 << 20));
    let table = [
        ("{ \"debug\": true, }", "not valid JSON"),
        ("[]", "not a JSON object"),
        ("{\"ipv6\": true, \"ipv6\": true}", "twice"),
        ("{\"IPv6\": true}", "which Docker does not know"),
        ("{\"default-gateway-v6\": \"2001:db8::1\"}", "default-gateway-v6"),
        ("{\"bridge\": \"br7\"}", "\"bridge\": \"br7\""),
        (&large, "more than 1048576 bytes"),
    ];
    for (content, words) in table {
        fs::write(&file, content).unwrap();
        let refused = bed.setup(0, &["--mode", "daemon"]).unwrap_err().to_string();
        assert!(refused.contains(words), "{refused}");
        assert_eq!(fs::read_to_string(&file).unwrap(), content, "{words}");
    }
    // A flag of the same meaning.
    fs::remove_file(&file).unwrap();
    bed.engines[0].end_engine(Signal::SIGTERM).unwrap();
    bed.engines[0].start_engine(&["--ipv6", "--fixed-cidr-v6", "fd00:9::/64"]).unwrap();
    let refused = bed.setup(0, &["--mode", "daemon"]).unwrap_err().to_string();
    assert!(refused.contains("the flag --ipv6"), "{refused}");
    bed.restart_engine(0).unwrap();
    // A read-only file system.
    fs::write(&file, "{}").unwrap();
    let directory = file.parent().unwrap().display();
    let script = format!(
        "mount --bind {directory} {directory} && mount -o remount,ro,bind {directory} && exec \"$@\""
    );
    let words = bed.setup_words(0, &["--mode", "daemon"]);
    let unshare = ["unshare", "--mount", "sh", "-c", &script, "sh"].map(str::to_owned);
    let refused = bed.cluster.hosts[0].check(&[&unshare[..], &words].concat()).unwrap_err().to_string();
    assert!(
        refused.contains("Read-only file system") && refused.contains("nothing was changed"),
        "{refused}"
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), "{}");
    assert_eq!(fs::read(&config).unwrap(), agent, "no step is done where a later one fails");
    // A symbolic link stays one.
    let real = file.with_file_name("real.json");
    fs::rename(&file, &real).unwrap();
    std::os::unix::fs::symlink("real.json", &file).unwrap();
    bed.setup(0, &["--mode", "daemon"]).unwrap();
    assert!(fs::read_to_string(&real).unwrap().contains("fixed-cidr-v6"));
    bed.setup(0, &["--undo"]).unwrap();
    assert_eq!((fs::read_to_string(&real).unwrap().as_str(), fs::read_link(&file).is_ok()), ("{}", true));
}

/// Docker would start with them, but not as the setup says.
#[test]
fn a_setting_that_contradicts_is_refused_as_key_and_as_flag() {
    let gateway = ["--default-gateway-v6", "2001:db8:8000::1"];
    let mut bed = SetupBed::start("docker contradicting", 1, &gateway);
    let refused = bed.setup(0, &["--mode", "daemon"]).unwrap_err().to_string();
    assert!(
        refused.contains("Docker was started with --default-gateway-v6 2001:db8:8000::1")
            && refused.contains("systemctl edit docker"),
        "{refused}"
    );
    assert!(!bed.engines[0].daemon_json().exists());
    // The fix.
    bed.engines[0].end_engine(Signal::SIGTERM).unwrap();
    bed.engines[0].start_engine(&[]).unwrap();
    fs::write(bed.engines[0].daemon_json(), "{\"bip6\": \"fd00::1/64\"}").unwrap();
    let refused = bed.setup(0, &["--mode", "daemon"]).unwrap_err().to_string();
    assert!(refused.contains("daemon.json has \"bip6\": \"fd00::1/64\""), "{refused}");
    fs::remove_file(bed.engines[0].daemon_json()).unwrap();
    let shown = bed.setup(0, &["--mode", "daemon", "--dry-run"]).unwrap();
    assert!(shown.contains("would be done:"), "{shown}");
}

#[test]
fn a_port_of_the_host_that_docker_proxy_passes_on_hides_the_client_and_the_containers_own_address_does_not() {
    let mut bed = SetupBed::start("docker daemon proxy", 1, &["--ip6tables=false"]);
    bed.set_up(0, "daemon");
    let (engine, host) = (&bed.engines[0], &bed.cluster.hosts[0]);
    let address = engine.container("web", &["-p", "8080:8000"]).unwrap();
    engine.serve("web", 8000).unwrap();
    let outside = bed.cluster.lab.host("outside").unwrap();
    let (prefix, router) = (bed.container_prefix(0), host.address());
    outside.ip(&format!("-6 route add {prefix} via {router}")).unwrap();
    let ask = |at: &str| {
        let get = format!("printf 'GET /cgi-bin/who HTTP/1.0\\r\\n\\r\\n' | busybox nc -w 2 {at}");
        let answer = outside.check(&["sh", "-c", &get])?;
        let (_, from) = answer.trim().rsplit_once("from ").unwrap_or_default();
        anyhow::Ok(from.trim_matches(['[', ']']).to_owned())
    };
    let own = outside.address().to_string();
    expect_text("the source at the container's own address", 10 * SECONDS, &own, || {
        ask(&format!("{address} 8000"))
    });
    assert!(ask(&format!("{address} 8080")).is_err(), "the port is that of the container");
    let seen = ask(&format!("{router} 8080")).unwrap();
    assert!(seen != own && !seen.is_empty(), "{seen}");
    let agent = bed.setup_words(0, &[]);
    let doctor: Vec<_> = agent.iter().take_while(|word| *word != "docker").cloned().collect();
    let doctor = [&doctor[..], &["--uplink".into(), "eth0".into(), "doctor".into()]].concat();
    let text = String::from_utf8(host.run(&doctor).unwrap().stdout).unwrap();
    assert!(
        text.contains("go through docker-proxy") && text.contains("port 8080 of container web"),
        "{text}"
    );
    println!("the container sees {seen}");
}
