//! What operators see of containers: `explain`, `node show --containers`, `trace`.

use sextant_proto::Prefix;
use sextant_tests::{SECONDS, poll};

use crate::bed::{Bed, REACHED};

fn web(bed: &Bed, index: usize, name: &str) -> String {
    bed.engines[index].container(name, &["--network", "sextant"]).unwrap()
}

/// Waits until a command of the `sextant` program succeeds and shows these words; returns its output.
fn shows(bed: &Bed, args: &[&str], words: &[&str]) -> String {
    poll(&format!("`sextant {}` shows {words:?}", args.join(" ")), 10 * SECONDS, || {
        let text = bed.cluster.lab.cli(args)?.succeeded()?.stdout;
        anyhow::ensure!(words.iter().all(|word| text.contains(word)), "{text}");
        Ok(text)
    })
}

/// The error of a command that fails with this code.
fn fails(bed: &Bed, code: i32, args: &[&str]) -> String {
    let done = bed.cluster.lab.cli(args).unwrap();
    assert_eq!(done.code, code, "{}{}", done.stdout, done.stderr);
    done.stdout + &done.stderr
}

#[test]
fn a_container_is_named_by_its_address_and_in_its_node_as_it_comes_changes_and_goes() {
    let bed = Bed::start("docker shown", 2, &[]);
    let address = web(&bed, 1, "db");
    shows(&bed, &["explain", &address], &["is container db on h2 (network sextant)"]);
    let other = web(&bed, 1, "cache");
    let rows = shows(&bed, &["node", "show", "h2", "--containers"], &["CONTAINER", "cache", "db", &other]);
    assert!(rows.contains("container prefix") && rows.contains(&address), "{rows}");
    let json = bed.cluster.lab.cli_json(&["node", "show", "h2", "--containers"]).unwrap();
    assert_eq!((&json["node"], &json["more"]), (&"h2".into(), &0.into()));
    assert_eq!(json["containers"][1]["addresses"][0]["address"], address.as_str());
    assert!(json["engine"].as_str().unwrap().starts_with("Docker "), "{json}");
    bed.engines[1].run(&["rename", "db", "data"]).unwrap();
    shows(&bed, &["explain", &address], &["is container data on h2"]);
    bed.engines[1].run(&["stop", "-t", "0", "data"]).unwrap();
    shows(&bed, &["explain", &address], &["is a container address on h2"]);
    // An agent that does not answer delays it, and no more.
    bed.cluster.agents[1].process.freeze().unwrap();
    shows(&bed, &["explain", &other], &["is a container address on h2"]);
    bed.cluster.agents[1].process.thaw().unwrap();
    shows(&bed, &["explain", &other], &["is container cache on h2"]);
}

#[test]
fn a_container_is_shown_as_soon_as_it_runs_and_no_longer() {
    let bed = Bed::start("docker shown at once", 1, &[]);
    let show = || bed.cluster.sextant(&["node", "show", "h1", "--containers"]);
    for number in 0..5 {
        let name = format!("web-{number}");
        bed.engines[0]
            .run(&["run", "-d", "--name", &name, "--network", "sextant", "lab", "sleep", "1000"])
            .unwrap();
        assert!(show().contains(&name), "{}", show());
        bed.engines[0].run(&["kill", &name]).unwrap();
        // An engine answers to the kill once the container has ended, and lists it for a moment more.
        poll(&format!("{name} is shown no longer"), 2 * SECONDS, || {
            let shown = show();
            if shown.contains(&name) { Err(shown) } else { Ok(()) }
        });
    }
}

#[test]
fn a_trace_takes_containers_by_their_names() {
    let bed = Bed::start("docker traced", 2, &[]);
    let (from, to) = (web(&bed, 0, "web"), web(&bed, 1, "db"));
    for names in [["web", "db"], ["h1/web", "h2/db"]] {
        let text =
            shows(&bed, &["trace", names[0], names[1]], &["h1/web → h2/db works", "h2/db → h1/web works"]);
        assert!(text.contains(&to) && text.contains(&from), "{text}");
    }
    shows(&bed, &["trace", "h1", "db"], &["h1 → h2/db works", "h2/db → h1 works"]);
    // Of several containers of a name, one has to be meant.
    web(&bed, 1, "web");
    poll("the second one is seen", 10 * SECONDS, || {
        let failed = fails(&bed, 2, &["trace", "web", "db"]);
        anyhow::ensure!(failed.contains("name one of h1/web, h2/web"), "{failed}");
        Ok(())
    });
    let failed = fails(&bed, 3, &["trace", "h1", "nosuch"]);
    assert!(failed.contains("no node and no running container") && failed.contains("\"nosuch\""), "{failed}");
    let failed = fails(&bed, 3, &["trace", "h1/db", "h2"]);
    assert!(failed.contains("sextant node show h1 --containers"), "{failed}");
    let failed = fails(&bed, 2, &["trace", "h2/web", "db"]);
    assert!(failed.contains("both ends are on node \"h2\""), "{failed}");
    // A fault on the way to the container, and not to its host.
    bed.cluster.hosts[1].ip(&format!("-6 route add unreachable {to}")).unwrap();
    let broken = fails(&bed, 1, &["trace", "h1/web", "h2/db"]);
    assert!(broken.contains("h1/web → h2/db BROKEN at h2"), "{broken}");
    shows(&bed, &["trace", "h1", "h2"], &["h1 → h2 works"]);
}

#[test]
fn a_trace_tests_each_network_of_a_container() {
    let bed = Bed::watched("docker traced twice", 2);
    let host = |index: usize| bed.cluster.prefix(bed.cluster.hosts[index].name());
    for (index, networks) in [(0, &["one", "two"][..]), (1, &["one"])] {
        for (number, name) in (1u128..).zip(networks) {
            let subnet = host(index).nth(80, number).unwrap().to_string();
            let create =
                [&["network", "create", "--ipv6", "--subnet", &subnet], &REACHED[..], &[name]].concat();
            bed.engines[index].run(&create).unwrap();
        }
        bed.engines[index].container(["web", "db"][index], &["--network", "one"]).unwrap();
    }
    bed.engines[0].run(&["network", "connect", "two", "web"]).unwrap();
    let each = [
        "h1/web on network one → h2/db works",
        "h1/web on network two → h2/db works",
        "→ h1/web on network two works",
    ];
    shows(&bed, &["trace", "web", "db"], &each);
    // One of them is broken.
    let second = host(0).nth(80, 2).unwrap();
    bed.cluster.hosts[0]
        .ip(&format!(
            "-6 route add unreachable {} metric 1",
            Prefix::containing(second.first_host(), 81).unwrap()
        ))
        .unwrap();
    let broken = fails(&bed, 1, &["trace", "web", "db"]);
    assert!(broken.contains("h2/db → h1/web on network two BROKEN at h1"), "{broken}");
    assert!(broken.contains("h2/db → h1/web on network one works"), "{broken}");
}

#[test]
fn an_agent_that_watches_no_engine_says_so() {
    let bed = Bed::start_mode("docker unwatched", 1, &[], &[]);
    shows(&bed, &["node", "show", "h1", "--containers"], &["set [docker] mode in agent.toml"]);
}
