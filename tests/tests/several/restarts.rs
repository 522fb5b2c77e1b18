//! Restarts and drains of a node with two prefixes.

use sextant_tests::{SECONDS, expect_text, poll};

use crate::bed::{Bed, claims, pools};

/// Kills the agent of h2, and starts it with these pools.
fn restart(bed: &mut Bed, names: &str) {
    bed.cluster.agents.remove(1).process.kill().unwrap();
    bed.cluster.start_agent_with(1, pools(names));
    bed.cluster.agents.swap(1, 2);
    bed.cluster.agents[1].wait_ready(20 * SECONDS).unwrap();
}

/// The problems of h2 that its agent reports.
fn problems(bed: &Bed) -> String {
    let status = bed.cluster.lab.cli_json(&["status"]).unwrap();
    let of_h2 = status["troubles"].as_array().into_iter().flatten().filter(|it| it["node"] == "h2");
    of_h2.map(|trouble| format!("{}: {}", trouble["what"], trouble["text"])).collect::<Vec<_>>().join("\n")
}

#[test]
fn i5_a_restarted_agent_keeps_both_prefixes_also_the_one_of_a_pool_that_is_no_longer_named() {
    let mut bed = Bed::start("restarts", 3);
    let before = bed.held();
    let mut streams = bed.streams();
    restart(&mut bed, "main,ula");
    bed.settle();
    assert_eq!((bed.held(), problems(&bed)), (before.clone(), String::new()));

    restart(&mut bed, "main");
    bed.settle();
    assert_eq!(bed.held(), before);
    bed.expect_routes(&before);
    poll("status says that ula is no longer named", 10 * SECONDS, || {
        let found = problems(&bed);
        let words = ["does not name pool ula", "sextant node forget h2 --pool ula --force"];
        anyhow::ensure!(words.iter().all(|word| found.contains(word)), "{found}");
        anyhow::Ok(())
    });
    let of_ula = streams.take("ula h1 h2").finish().unwrap();
    of_ula.nothing_lost().unwrap();

    bed.cluster.sextant(&["node", "forget", "h2", "--pool", "ula", "--force"]);
    let mut without = before.clone();
    without.get_mut("h2").unwrap().remove("ula");
    bed.expect_routes(&without);
    bed.wait_pools("h2", &["main"]);
    expect_text("the problems of h2", 10 * SECONDS, "", || anyhow::Ok(problems(&bed)));
    assert_eq!(bed.held(), without);
    streams.nothing_lost();
}

#[test]
fn the_claims_of_a_node_are_shown_in_the_order_of_its_settings() {
    let mut bed = Bed::start("order of pools", 2);
    let [main, ula] = ["main", "ula"].map(|pool| bed.prefix("h2", pool));
    bed.cluster.sextant(&["node", "forget", "h2", "--pool", "main", "--force"]);
    poll("h2 holds a prefix of main again, which is its primary one", 20 * SECONDS, || {
        let node = bed.cluster.node("h2");
        let is_primary = claims(&node).map(|claim| claim["primary"] == true).eq([true, false]);
        let is_new =
            node["claims"][0]["epoch"]["revision"].as_u64() > node["claims"][1]["epoch"]["revision"].as_u64();
        anyhow::ensure!(is_primary && is_new && node["pool"] == "main", "{node}");
        anyhow::Ok(())
    });
    bed.settle();

    bed.cluster.agents.remove(1).process.kill().unwrap();
    bed.cluster.start_agent_with(1, pools("ula,main"));
    bed.wait_pools("h2", &["ula", "main"]);
    let listed = bed.cluster.sextant(&["node", "list"]);
    assert!(listed.contains(&format!(" {ula},{main} ")), "{listed}");
    let shown = bed.cluster.sextant(&["node", "show", "h2"]);
    assert!(shown.contains(" ula (primary)\n"), "{shown}");
}

#[test]
fn i7_a_drain_withdraws_both_prefixes_and_an_undrain_brings_them_back() {
    let bed = Bed::start("drain", 3);
    let before = bed.held();
    bed.cluster.sextant(&["node", "drain", "h3"]);
    let mut without = before.clone();
    without.remove("h3");
    for name in ["h1", "h2"] {
        bed.expect_routes_of(name, &without);
    }
    let mut only = before.clone();
    only.retain(|name, _| name == "h3");
    bed.expect_routes_of("h3", &only);
    assert_eq!(bed.pools_of("h3", "drained"), ["main", "ula"]);
    assert_eq!(bed.held(), before, "a drain ends no claim");
    bed.cluster.sextant(&["node", "undrain", "h3"]);
    bed.settle();
    bed.expect_routes(&before);
}

#[test]
fn one_prefix_of_a_host_is_reassigned_and_the_other_one_stays() {
    let bed = Bed::start("reassign", 3);
    let before = bed.held();
    let which = bed.cluster.lab.cli(&["node", "reassign", "h2"]).unwrap();
    assert!(which.code == 2 && which.stderr.contains("main, ula; select one with --pool"), "{which:?}");
    for pool in ["ula", "main"] {
        let held = bed.held();
        bed.cluster.sextant(&["node", "reassign", "h2", "--pool", pool]);
        bed.settle();
        let mut after = bed.held();
        bed.expect_routes(&after);
        assert_eq!(bed.pools_of("h2", "ready"), ["main", "ula"]);
        let next = after.get_mut("h2").unwrap().insert(pool.to_owned(), held["h2"][pool]);
        assert_ne!(next, Some(held["h2"][pool]));
        assert_eq!(after, held, "nothing else has changed");
    }
    assert_ne!(bed.held()["h2"], before["h2"]);
}
