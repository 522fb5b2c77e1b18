//! A running cluster moves from plain text to TLS, by the steps of docs/identity.md.

use std::time::Duration;

use serde_json::Value;
use sextant_tests::{Agent, AgentOptions, ControllerOptions, RouteMonitor, SECONDS, poll};

use crate::{authority::Files, bed::Bed, own::Own};

const CONTROLLERS: [(u16, &str); 2] = [(1, "controller/a"), (2, "controller/b")];

fn plain_agent(bed: &Bed, index: usize) -> Agent {
    let options = AgentOptions { controllers: vec![1, 2], ..AgentOptions::default() };
    bed.lab.agent(&bed.hosts[index], options).unwrap()
}

/// `plain` of the status that controller 1 gives over TLS.
fn still_plain(bed: &Bed) -> Vec<String> {
    let status: Value = serde_json::from_str(&bed.sextant(&["-o", "json", "status"])).unwrap();
    assert_eq!(status["tls"], "warn", "{status}");
    status["plain"].as_array().unwrap().iter().map(|it| it.as_str().unwrap().to_owned()).collect()
}

fn restart_controllers(bed: &mut Bed, mode: &[&str]) {
    for (number, name) in CONTROLLERS {
        let mode = mode.iter().map(|it| (*it).to_owned()).collect();
        let args = [bed.member(name, None).flags(), mode].concat();
        bed.start_controller(number, args);
    }
}

#[test]
fn a_running_cluster_moves_from_plain_text_to_tls_without_a_lost_route() {
    let mut bed = Bed::empty("plain to TLS", 2);
    bed.etcd = Some(bed.lab.etcd(1, &[]).unwrap());
    CONTROLLERS.iter().for_each(|(number, _)| bed.start_controller(*number, Vec::new()));
    let plain = |bed: &Bed, args: &[&str]| bed.lab.cli(args).unwrap().succeeded().unwrap().stdout;
    plain(&bed, &["pool", "add", "main", "2001:db8:8000::/40", "--host-len", "64"]);
    bed.agents = vec![plain_agent(&bed, 0), plain_agent(&bed, 1)];
    poll("both are ready", 30 * SECONDS, || {
        let nodes: Value = serde_json::from_str(&plain(&bed, &["-o", "json", "node", "list"]))?;
        let ready = nodes.as_array().unwrap().iter().filter(|node| node["state"] == "ready").count();
        anyhow::ensure!(ready == 2, "{nodes}");
        anyhow::Ok(())
    });
    plain(&bed, &["wait", "--timeout", "20s"]);
    let (from, to) = (bed.hosts[0].container("a").unwrap(), bed.hosts[1].container("b").unwrap());
    poll("the path", 20 * SECONDS, || from.ping(to.address())?.replied());
    let packets = from.udp_stream(&to, Duration::from_millis(5)).unwrap();
    let monitors: Vec<_> = bed.hosts.iter().map(|host| RouteMonitor::start(host).unwrap()).collect();

    // Step 2, one after the other.
    let args = [bed.member("controller/a", None).flags(), vec!["--tls-mode".into(), "warn".into()]].concat();
    bed.start_controller(1, args);
    poll("the other controller and both nodes are listed", 30 * SECONDS, || {
        let still = still_plain(&bed);
        let has = |what: &str| still.iter().any(|it| it.starts_with(what));
        if has("controller ") && has("node h1") && has("node h2") {
            Ok(())
        } else {
            Err(format!("{still:?}"))
        }
    });
    assert!(
        plain(&bed, &["status"]).contains("plain text   taken beside TLS, and used by:"),
        "it answers both"
    );
    restart_controllers(&mut bed, &["--tls-mode", "warn"]);

    // Step 3.
    for (index, name) in ["h1", "h2"].into_iter().enumerate() {
        let files: Files = bed.member(&format!("node/{name}"), None);
        bed.agents[index].process.terminate(10 * SECONDS).unwrap();
        bed.agents[index] = bed.agent_of(index, &files, &[1, 2]);
        poll(&format!("{name} is not listed"), 30 * SECONDS, || {
            let still = still_plain(&bed);
            let connected = bed.node(name)["connected"] == true;
            if connected && !still.contains(&format!("node {name}")) {
                Ok(())
            } else {
                Err(format!("{still:?}"))
            }
        });
    }
    poll("nobody is listed", 30 * SECONDS, || match still_plain(&bed) {
        still if still.is_empty() => Ok(()),
        still => Err(format!("{still:?}")),
    });

    // Step 4.
    restart_controllers(&mut bed, &[]);
    bed.wait_ready("h1");
    bed.wait_ready("h2");
    assert_eq!(bed.lab.cli(&["status"]).unwrap().code, 5, "plain text is not answered any more");
    packets.finish().unwrap().nothing_lost().unwrap();
    for monitor in monitors {
        monitor.quiet_since(0).unwrap();
    }
}

/// As above, with certificates of the cluster's own authority: the hosts join with one token, by their settings alone.
#[test]
fn a_running_cluster_moves_to_its_own_authority_without_a_lost_route() {
    let mut own = Own::without_controller("plain to own TLS", 2, 86_400);
    own.pki(&["controller", "c2"]);
    let etcd = own.lab.etcd(1, &[]).unwrap();
    let start = |own: &mut Own, number: u16, args: &[&str]| {
        let place = usize::from(number) - 1;
        if let Some(before) = own.controllers.get(place) {
            before.process.terminate(10 * SECONDS).unwrap();
        }
        let args = args.iter().map(|&it| it.to_owned()).collect();
        let options = ControllerOptions { number, store: Some(etcd.store()), args, ..Default::default() };
        let controller = own.lab.controller(options).unwrap();
        controller.wait_ready(20 * SECONDS).unwrap();
        match own.controllers.get_mut(place) {
            Some(before) => *before = controller,
            None => own.controllers.push(controller),
        }
    };
    [1, 2].into_iter().for_each(|number| start(&mut own, number, &[]));
    let plain = |own: &Own, args: &[&str]| own.lab.cli(args).unwrap().succeeded().unwrap().stdout;
    plain(&own, &["pool", "add", "main", "2001:db8:8000::/40", "--host-len", "64"]);
    for host in &own.hosts {
        let options = AgentOptions { controllers: vec![1, 2], ..AgentOptions::default() };
        own.agents.push(own.lab.agent(host, options).unwrap());
    }
    poll("both are ready", 30 * SECONDS, || {
        let nodes = own.lab.cli_json(&["node", "list"])?;
        let ready = nodes.as_array().unwrap().iter().filter(|node| node["state"] == "ready").count();
        if ready == 2 { Ok(()) } else { Err(anyhow::anyhow!("{nodes}")) }
    });
    plain(&own, &["wait", "--timeout", "20s"]);
    let (from, to) = (own.hosts[0].container("a").unwrap(), own.hosts[1].container("b").unwrap());
    poll("the path", 20 * SECONDS, || from.ping(to.address())?.replied());
    let packets = from.udp_stream(&to, Duration::from_millis(5)).unwrap();
    let monitors: Vec<_> = own.hosts.iter().map(|host| RouteMonitor::start(host).unwrap()).collect();

    let pki = [1, 2].map(|number| own.pki_dir(number).display().to_string());
    for (number, dir) in [(1, &pki[0]), (2, &pki[1])] {
        start(&mut own, number, &["--pki", dir, "--tls-mode", "warn"]);
    }
    let still_plain = |own: &Own| {
        let status: Value = serde_json::from_str(&own.sextant(&["-o", "json", "status"])).unwrap();
        let still = status["plain"].as_array().unwrap().iter();
        still.map(|it| it.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    poll("both nodes are listed, and no controller", 30 * SECONDS, || {
        let still = still_plain(&own);
        if still == ["node h1", "node h2"] { Ok(()) } else { Err(format!("{still:?}")) }
    });

    // The nodes exist: a token for a pattern is for new ones, so each gets its own.
    for (index, name) in ["h1", "h2"].into_iter().enumerate() {
        let file = own.lab.dir().join(format!("join-{name}"));
        std::fs::write(&file, own.token(&["--node", name])).unwrap();
        own.agents[index].process.terminate(10 * SECONDS).unwrap();
        let args = ["--join-token-file".to_owned(), file.display().to_string()].to_vec();
        let options =
            AgentOptions { args, over_tls: true, controllers: vec![1, 2], ..AgentOptions::default() };
        own.agents[index] = own.lab.agent(&own.hosts[index], options).unwrap();
        poll(&format!("{name} is not listed"), 30 * SECONDS, || {
            let still = still_plain(&own);
            let connected = own.node(name)["connected"] == true;
            let is_done = connected && !still.contains(&format!("node {name}"));
            if is_done { Ok(()) } else { Err(format!("{still:?}")) }
        });
    }
    poll("nobody is listed", 30 * SECONDS, || match still_plain(&own) {
        still if still.is_empty() => Ok(()),
        still => Err(format!("{still:?}")),
    });

    for (number, dir) in [(1, &pki[0]), (2, &pki[1])] {
        start(&mut own, number, &["--pki", dir]);
    }
    own.wait_ready("h1");
    own.wait_ready("h2");
    assert_eq!(own.lab.cli(&["status"]).unwrap().code, 5, "plain text is not answered any more");
    packets.finish().unwrap().nothing_lost().unwrap();
    for monitor in monitors {
        monitor.quiet_since(0).unwrap();
    }
}
