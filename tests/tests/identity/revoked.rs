//! A revoked node is refused on every controller, at once.

use serde_json::Value;
use sextant_tests::{SECONDS, poll};

use crate::bed::Bed;

#[test]
fn a_revoked_node_loses_its_stream_at_another_controller_and_is_permitted_again() {
    let mut bed = Bed::with_two_controllers("revoked", 2);
    let [h1, h2] = ["node/h1", "node/h2"].map(|name| bed.member(name, None));
    bed.agents = vec![bed.agent_of(0, &h1, &[1]), bed.agent_of(1, &h2, &[2])];
    bed.wait_ready("h1");
    let prefix = bed.wait_ready("h2")["prefix"].as_str().unwrap().to_owned();
    bed.sextant(&["wait", "--timeout", "20s"]);
    let routes = || bed.hosts[1].run(&["ip", "-6", "route", "show", "proto", "66"]).unwrap();
    let before = routes().stdout;
    let not_known = bed.cli(&bed.admin, &["node", "revoke", "h2", "--undo"]);
    assert_eq!(not_known.code, 3, "{not_known:?}");

    let said = bed.sextant(&["node", "revoke", "h2"]);
    // Within a second, as promised.
    let line = bed.agents[1].process.wait_for_line("node h2 is revoked", SECONDS).unwrap().text;
    assert!(line.contains("admin ann at ") && line.contains("--undo"), "{line}");
    assert!(said.contains("node h2 revoked") && said.contains("sextant node forget h2"), "{said}");
    assert_eq!(routes().stdout, before, "its routes stay");

    let status: Value = serde_json::from_str(&bed.sextant(&["-o", "json", "status"])).unwrap();
    assert_eq!(status["revoked"][0]["node"], "h2", "{status}");
    assert_eq!(bed.node("h2")["revoked"], true);
    assert!(status["troubles"].as_array().unwrap().iter().any(|it| it["kind"] == "node_revoked"), "{status}");
    let list = bed.sextant(&["node", "list"]);
    assert!(list.lines().any(|line| line.starts_with("h2 ") && line.contains("revoked")), "{list}");
    poll("the refusal is in the audit", 10 * SECONDS, || {
        let events = bed.sextant(&["events", "--node", "h2"]);
        anyhow::ensure!(events.contains("call refused") && events.contains("node h2 is revoked"), "{events}");
        anyhow::Ok(())
    });

    // A new certificate does not help, nor does another name with the same node id.
    let again = bed.member("node/h2", None);
    let agent = bed.agent_of(1, &again, &[1]);
    bed.agents[1].process.kill().unwrap();
    bed.agents[1] = agent;
    bed.agents[1].process.wait_for_line("node h2 is revoked", 20 * SECONDS).unwrap();

    // The host answers its peers still.
    bed.sextant(&["node", "forget", "h2"]);
    poll("h1 has withdrawn the route", 20 * SECONDS, || {
        let routes = bed.hosts[0].run(&["ip", "-6", "route", "show", "proto", "66"])?;
        let routes = String::from_utf8_lossy(&routes.stdout).into_owned();
        anyhow::ensure!(!routes.lines().any(|line| line.starts_with(&prefix)), "{routes}");
        anyhow::Ok(())
    });
    assert!(bed.sextant(&["node", "revoke", "h2", "--undo"]).contains("permitted again"));
    bed.wait_ready("h2");
}

#[test]
fn revocations_outlive_the_store() {
    let mut bed = Bed::start("revoked lost store", 2);
    let controller = bed.member("controller/a", None).flags();
    let [h1, h2] = ["node/h1", "node/h2"].map(|name| bed.member(name, None));
    let bob = bed.member("admin/bob", Some("admin"));
    bed.agents = vec![bed.agent_of(0, &h1, &[1]), bed.agent_of(1, &h2, &[1])];
    bed.wait_ready("h1");
    bed.wait_ready("h2");
    bed.sextant(&["node", "revoke", "h1"]);
    bed.sextant(&["node", "revoke", "h2"]);
    bed.sextant(&["revoke", "admin", "bob"]);
    bed.sextant(&["node", "revoke", "h2", "--undo"]);
    let store = bed.lab.dir().join("controller-1");
    let copy = store.with_added_extension("denials");
    poll("the copy has those of h1 and bob", 10 * SECONDS, || {
        let octets = std::fs::read(&copy)?;
        let text = String::from_utf8_lossy(&octets);
        let has = |key: &str| text.contains(key);
        anyhow::ensure!(has("/denied/h1") && has("/denied-admins/bob") && !has("/denied/h2"), "{text}");
        anyhow::Ok(())
    });

    bed.controllers.clear();
    std::fs::remove_file(&store).unwrap();
    bed.start_controller(1, controller);
    bed.agents[0].process.wait_for_line("node h1 is revoked", 20 * SECONDS).unwrap();
    assert!(bed.cli(&bob, &["status"]).stderr.contains("admin bob is revoked"));
    bed.wait_ready("h2");
    let events = bed.sextant(&["events"]);
    assert!(events.contains("kept from the store before: ") && events.contains("denied/h1"), "{events}");
    assert!(bed.sextant(&["node", "revoke", "h1", "--undo"]).contains("permitted again"));
    bed.wait_ready("h1");
}
