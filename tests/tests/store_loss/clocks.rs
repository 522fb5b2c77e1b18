//! A wrong wall clock of a controller affects no decision.

use std::time::Duration;

use sextant_tests::{
    ControllerOptions, SECONDS,
    cluster::{Cluster, GUIDE},
    lab::clock::wrong_clock,
    poll, stub_nodes,
};

const DAY: i64 = 24 * 3600;
/// Longer than the controller needs to look at what may be over.
const LOOKS: Duration = Duration::from_secs(4);

/// Ends the controller, and starts one on the store of this name whose wall clock is so many seconds ahead.
fn start(cluster: &mut Cluster, store: &str, ahead: i64, args: &[&str]) {
    cluster.controller = None;
    let store = Some(format!("embedded:{}", cluster.lab.dir().join(store).display()));
    let args = args.iter().map(|arg| (*arg).to_owned()).collect();
    let environment = if ahead == 0 { Vec::new() } else { wrong_clock(ahead) };
    cluster.start_controller(ControllerOptions { store, args, environment, ..ControllerOptions::default() });
}

fn is_recovering(cluster: &Cluster) -> bool {
    cluster.lab.cli_json(&["recover"]).unwrap()["recovering"].as_bool().unwrap()
}

#[test]
fn the_length_of_a_recovery_window_does_not_depend_on_the_wall_clock() {
    let mut cluster = Cluster::without_agents("clocks", 0, GUIDE);
    let window = ["--recovery-window", "5"];
    start(&mut cluster, "future", 2 * 365 * DAY, &window);
    start(&mut cluster, "future", 0, &window);
    poll("the window of a store that was made in the future closes", 30 * SECONDS, || {
        anyhow::ensure!(!is_recovering(&cluster), "it is open");
        anyhow::Ok(())
    });
    start(&mut cluster, "jump", 0, &[]);
    start(&mut cluster, "jump", 3600, &[]);
    std::thread::sleep(LOOKS);
    assert!(is_recovering(&cluster), "a jump of the clock closed a window of ten minutes");
}

#[test]
fn events_and_quarantines_survive_a_clock_that_was_ahead() {
    let mut cluster = Cluster::start("ahead", 1, GUIDE);
    cluster.agents.clear();
    cluster.sextant(&["node", "forget", "--force", "h1"]);
    let kept = |cluster: &Cluster| {
        let events = cluster.sextant(&["events"]);
        let pools = cluster.lab.cli_json(&["pool", "list"]).unwrap();
        (events.matches(" h1 ").count(), pools[0]["quarantined"].clone())
    };
    let before = kept(&cluster);
    assert!(before.0 > 1 && before.1 == 1, "{before:?}");
    for ahead in [91 * DAY, -91 * DAY, 0] {
        start(&mut cluster, "controller-1", ahead, &[]);
        std::thread::sleep(LOOKS);
        assert_eq!(kept(&cluster), before, "{ahead} s ahead");
    }
}

#[test]
fn i6_a_clock_step_of_years_does_not_empty_the_window_of_removals() {
    let mut cluster = Cluster::without_agents("removals", 0, GUIDE);
    let args = ["--down-after", stub_nodes::DOWN_AFTER];
    start(&mut cluster, "controller-1", 0, &args);
    stub_nodes::join(cluster.controller.as_ref().unwrap(), 1..=20).unwrap();
    for n in 1..=10 {
        cluster.sextant(&["node", "forget", "--force", &format!("c{n}")]);
    }
    for ahead in [2 * 365 * DAY, -2 * 365 * DAY, 0] {
        start(&mut cluster, "controller-1", ahead, &args);
        let refused = cluster.lab.cli(&["node", "forget", "--force", "c11"]).unwrap();
        assert!(refused.code == 4 && refused.stderr.contains("10 of 20"), "{ahead} s ahead: {refused:?}");
    }
}

#[test]
fn events_with_a_time_that_goes_back_are_marked() {
    let mut cluster = Cluster::without_agents("events", 0, GUIDE);
    start(&mut cluster, "controller-1", DAY, &[]);
    cluster.sextant(&["pause"]);
    start(&mut cluster, "controller-1", 0, &[]);
    cluster.sextant(&["resume"]);
    let table = cluster.sextant(&["events"]);
    let marked: Vec<_> = table.lines().filter(|line| line.contains("[earlier than the line above")).collect();
    assert!(marked.len() == 1 && marked[0].contains("resumed"), "{table}");
    let events = cluster.lab.cli_json(&["events", "--last", "2"]).unwrap();
    let marks: Vec<_> = events.as_array().unwrap().iter().map(|event| &event["time_goes_back"]).collect();
    assert_eq!(marks, [false, true], "{events}");
}
