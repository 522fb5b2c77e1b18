//! What the command line says of nodes with two prefixes.

use sextant_tests::{SECONDS, cluster::GUIDE, poll};

use crate::bed::{Bed, ULA};

/// Runs `sextant`, whose output must have these lines; the white space in them does not count.
fn expect_lines(bed: &Bed, args: &[&str], lines: &[&str]) {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let printed = bed.cluster.sextant(args);
    let has = |line: &str| printed.lines().any(|printed| words(printed) == line);
    let missing: Vec<_> = lines.iter().filter(|line| !has(line)).collect();
    assert!(missing.is_empty(), "{args:?} does not print {missing:?}:\n{printed}");
}

#[test]
fn an_address_of_the_second_pool_is_explained_by_its_own_claim() {
    let bed = Bed::start("explain", 2);
    let (_, container) = bed.container(1, "a");
    let (address, ula) = (container.address().to_string(), bed.prefix("h2", "ula").to_string());
    let first = format!("{address} is a container address on h2");
    let bridge = ula.replace("/64", "/80");
    let (prefix, container) = (format!("host prefix {ula}"), format!("container prefix {bridge}"));
    expect_lines(
        &bed,
        &["explain", &address],
        &[&first, "pool ula fd00:5e00::/40", "node h2 (ready)", &prefix, &container, "routed by h1"],
    );

    bed.cluster.sextant(&["pool", "drain", "ula"]);
    let forgotten = bed.cluster.sextant(&["node", "forget", "h2", "--pool", "ula", "--force"]);
    assert_eq!(forgotten, format!("h2 forgotten in pool ula: {ula} is no longer claimed\n"));
    bed.wait_pools("h2", &["main"]);
    let first = format!("{address} is in a pool and unassigned: packets to it are rejected");
    expect_lines(&bed, &["explain", &address], &[&first, "pool ula fd00:5e00::/40"]);
    let other = bed.cluster.lab.cli(&["node", "forget", "h2", "--pool", "ula", "--force"]).unwrap();
    let held = bed.prefix("h2", "main");
    assert_eq!(
        (other.code, other.stderr),
        (3, format!("sextant: node h2 holds no claim in pool ula; it holds {held}\n"))
    );
}

#[test]
fn nodes_and_plans_are_shown_with_both_claims() {
    let bed = Bed::start("show", 2);
    let [main, ula] = ["main", "ula"].map(|pool| bed.prefix("h2", pool).to_string());
    expect_lines(
        &bed,
        &["node", "show", "h2"],
        &["pool main (primary)", "ula", &format!("prefix {main}"), &ula],
    );
    let listed = bed.cluster.sextant(&["node", "list"]);
    assert!(listed.contains(&format!(" {main},{ula} ")), "{listed}");
    let routes = bed.cluster.sextant(&["route", "list", "--node", "h1"]);
    assert_eq!(routes.matches("peer h2").count(), 2, "{routes}");
    let unreachable = [(GUIDE.prefix, "pool main"), (ULA.prefix, "pool ula")]
        .map(|(prefix, why)| format!("h1 {prefix} unreachable - {why} applied"));
    expect_lines(&bed, &["route", "list", "--node", "h1"], &unreachable.each_ref().map(String::as_str));
    let of_kernel = bed.cluster.hosts[0].routes_of(66).unwrap().len();
    assert_eq!(routes.lines().count(), of_kernel + 1, "as many as in the kernel, and the header:\n{routes}");
    expect_lines(&bed, &["status"], &["nodes 2 ready"]);

    bed.cluster.sextant(&["pause"]);
    poll("the agent of h1 is paused", 10 * SECONDS, || {
        let plan = bed.cluster.sextant(&["plan", "h1"]);
        if plan.contains("paused") { Ok(()) } else { Err(plan) }
    });
    bed.cluster.hosts[0].ip(&format!("-6 route del {ula} proto 66")).unwrap();
    poll("the plan of h1 has the route to the second prefix of h2", 10 * SECONDS, || {
        let plan = bed.cluster.sextant(&["plan", "h1"]);
        let is_whole =
            plan.starts_with("h1: 1 pending change ") && plan.contains(&ula) && plan.contains("h2");
        if is_whole { Ok(()) } else { Err(plan) }
    });
    bed.cluster.sextant(&["resume"]);
    bed.settle();
    bed.expect_routes(&bed.held());
    let plan = bed.cluster.sextant(&["plan", "h1"]);
    assert!(plan.starts_with("h1: nothing to do "), "{plan}");
    let works = ["h1 → h2 in pool main works", "h2 → h1 in pool ula works"];
    expect_lines(&bed, &["trace", "h1", "h2"], &works);
}

/// Each is one line, without a program's own notation.
#[test]
fn the_agents_log_names_uplinks_prefixes_and_pools_as_operators_write_them() {
    let bed = Bed::start("log lines", 2);
    let ula = bed.prefix("h2", "ula").to_string();
    bed.cluster.sextant(&["node", "forget", "h2", "--pool", "ula", "--force"]);
    let agent = &bed.cluster.agents[1].process;
    let lost = agent.wait_for_line("claim lost; removing", 20 * SECONDS).unwrap().text;
    assert!(lost.contains("\"pool\":\"ula\"") && lost.contains(&ula), "{lost}");
    bed.settle();
    let log = agent.log();
    let container = bed.prefix("h2", "main").to_string().replace("/64", "/80");
    for (message, words) in [
        ("uplinks changed", "\"uplinks\":\"eth0 2001:db8::2/64 fe80::".to_owned()),
        ("host announced", format!("\"uplinks\":\"eth0 2001:db8::2/64\",\"containers\":\"{container}, ")),
    ] {
        let lines: Vec<_> = log.lines().filter(|line| line.contains(message)).collect();
        assert!(lines.iter().any(|line| line.contains(&words)), "{words}: {lines:#?}");
    }
    let dumps: Vec<_> =
        log.lines().filter(|line| line.contains(" { ") && !line.contains("\"DEBUG\"")).collect();
    assert!(dumps.is_empty(), "{dumps:#?}");
    let log = bed.cluster.controller.as_ref().unwrap().process.log();
    let mut granted = log.lines().filter(|line| line.contains("claim granted"));
    assert!(granted.all(|line| line.contains("\"pool\":")), "{log}");
}

/// A fault in one of the pools is found, and named with its pool.
#[test]
fn a_trace_finds_the_pool_that_is_broken() {
    let bed = Bed::start("trace of two pools", 2);
    bed.cluster.sextant(&["pause"]);
    let ula = bed.prefix("h2", "ula").to_string();
    bed.cluster.hosts[0].ip(&format!("-6 route del {ula} proto 66 metric 512")).unwrap();
    let trace = bed.cluster.lab.cli(&["trace", "h1", "h2"]).unwrap();
    let shown = format!("{}{}", trace.stdout, trace.stderr);
    assert_eq!(trace.code, 1, "{shown}");
    for line in ["h1 → h2 in pool main works", "h2 → h1 in pool main works", "h1 → h2 in pool ula BROKEN"]
    {
        assert!(shown.contains(line), "{line}: {shown}");
    }
}
