//! Containers on a network that is made anew are on it again afterwards, whatever ends in between.

use std::fs;

use sextant_tests::{SECONDS, poll};

use crate::bed::{Bed, NETWORK};

const REPLACE_USED: &str = "--docker-replace-used";

/// The other names of a container on the network, but for those by its id.
fn aliases(bed: &Bed, container: &str) -> String {
    let inspect = |format: &str| bed.engines[0].run(&["inspect", "-f", format, container]);
    let id = inspect("{{.Id}}").unwrap();
    let all = inspect("{{range .NetworkSettings.Networks.sextant.Aliases}}{{.}} {{end}}").unwrap();
    let mut all: Vec<_> = all.split_whitespace().filter(|alias| !id.starts_with(alias)).collect();
    all.sort_unstable();
    all.join(" ")
}

/// As Compose gives a container the name of its service.
const SERVICE: [&str; 6] = ["--network", "sextant", "--network-alias", "api", "--network-alias", "app-api"];

#[test]
fn a_container_keeps_its_names_on_the_network() {
    let bed = Bed::start("docker names", 1, &[REPLACE_USED]);
    let before = bed.engines[0].container("web", &SERVICE).unwrap();
    let named = aliases(&bed, "web");
    assert!(named.contains("api") && named.contains("app-api"), "{named}");
    bed.cluster.sextant(&["node", "reassign", "h1"]);
    poll("the container has another address", 20 * SECONDS, || {
        let now = bed.engines[0].address("web")?;
        anyhow::ensure!(now != before, "{now}");
        Ok(())
    });
    assert_eq!(aliases(&bed, "web"), named);
    bed.status_is_silent();
}

#[test]
fn containers_are_connected_after_an_agent_that_ended_meanwhile_and_one_that_cannot_be_stops_no_other() {
    let mut bed = Bed::start("docker waiting", 1, &[REPLACE_USED]);
    let engine = &bed.engines[0];
    engine.run(&["run", "-d", "--name", "bare", "--network", "host", "lab", "sleep", "100000"]).unwrap();
    engine.container("web", &SERVICE).unwrap();
    let id = |name: &str| engine.run(&["inspect", "-f", "{{.Id}}", name]).unwrap();
    let waiting = |name: &str, aliases: &str| {
        let id = id(name);
        format!(
            "{{\"network\": \"sextant\", \"container\": \"{name}\", \"id\": \"{id}\", \"aliases\": [{aliases}], \"links\": [], \
             \"options\": {{}}, \"gateway_priority\": null}}"
        )
    };
    let stored = format!("[{}, {}]", waiting("bare", ""), waiting("web", "\"api\""));
    bed.cluster.agents.remove(0).process.kill().unwrap();
    engine.run(&["network", "disconnect", "-f", "sextant", "web"]).unwrap();
    let file = bed.cluster.lab.state_dir(&bed.cluster.hosts[0]).join("docker-waiting.json");
    fs::write(&file, stored).unwrap();
    bed.restart_agents(&[&NETWORK[..], &[REPLACE_USED]].concat());
    poll("the container is on the network", 10 * SECONDS, || bed.engines[0].address("web"));
    assert_eq!(aliases(&bed, "web"), "api");
    bed.status_has(&["container bare was on Docker's network sextant", "docker rm -f bare"]);
    // The fix.
    bed.engines[0].run(&["rm", "-f", "bare"]).unwrap();
    bed.status_is_silent();
    assert!(!file.exists(), "nobody waits any more");
}
