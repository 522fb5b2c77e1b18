//! `sextant plan`: the pending changes of a node, with reasons.

use sextant_proto::Prefix;
use sextant_tests::{AgentOptions, ControllerOptions, RouteMonitor, SECONDS, poll, stub_nodes};

use crate::cluster::{Cluster, GUIDE};

/// The text of a plan that has nothing to do.
const NOTHING: &str = "h1: nothing to do";

#[test]
fn a_plan_shows_exactly_the_pending_changes_with_reasons() {
    let mut cluster = Cluster::without_agents("plan", 3, GUIDE);
    cluster.controller = None;
    // A route that nobody wants goes only once a new store's recovery window is closed.
    let args = ["--down-after", stub_nodes::DOWN_AFTER, "--recovery-window", "0"].map(str::to_owned).to_vec();
    cluster.start_controller(ControllerOptions { args, ..ControllerOptions::default() });
    (0..3).for_each(|index| cluster.start_agent(index));
    cluster.settle();
    let plan = cluster.sextant(&["plan", "h1"]);
    assert!(plan.starts_with(NOTHING), "{plan}");

    cluster.sextant(&["pause"]);
    cluster.agents[0].process.wait_for_line("paused by an operator", 5 * SECONDS).unwrap();
    stub_nodes::join(cluster.controller.as_ref().unwrap(), 1..=1).unwrap();
    let (c1, hop) = (cluster.prefix("c1"), stub_nodes::next_hop(1));
    let (h2, h3) = (cluster.prefix("h2"), cluster.prefix("h3"));
    let host = &cluster.hosts[0];
    host.ip(&format!("-6 route del {h2} proto 66")).unwrap();
    host.ip(&format!("-6 route replace {h3} via 2001:db8::77 dev eth0 proto 66 metric 512")).unwrap();
    host.ip("-6 route add 2001:db8:8000:ff::/64 via 2001:db8::2 dev eth0 proto 66 metric 512").unwrap();
    let monitor = RouteMonitor::start(host).unwrap();
    let removed = "peer h2: somebody has removed its route";
    let mut expected = [
        ("add", format!("{c1} via {hop} dev eth0 proto 66 metric 512"), "peer c1 has no route yet"),
        ("add", format!("{h2} via 2001:db8::2 dev eth0 proto 66 metric 512"), removed),
        (
            "replace",
            format!("{h3} via 2001:db8::3 dev eth0 proto 66 metric 512"),
            "peer h3: its next hop is another one than via 2001:db8::77 dev eth0",
        ),
        (
            "delete",
            "2001:db8:8000:ff::/64 via 2001:db8::2 dev eth0 proto 66 metric 512".to_owned(),
            "no node has it: left over, or made by somebody else in our name",
        ),
    ];
    // Those that are made go by prefix.
    expected[..3].sort_by_key(|(_, route, _)| route.split(' ').next().unwrap().parse::<Prefix>().unwrap());
    let waits = "the end of the pause: `sextant resume`";
    let reported = poll("the new peer is heard of, and the recovery window closed", 20 * SECONDS, || {
        let plan = cluster.lab.cli_json(&["plan", "h1"]).unwrap();
        let changes = plan["changes"].as_array().cloned().unwrap_or_default();
        let all = changes.len() == 4 && changes.iter().all(|change| change["waits"] == waits);
        if all { Ok(plan) } else { Err(format!("{plan:#}")) }
    });
    assert_eq!((&reported["paused"], &reported["more"]), (&true.into(), &0.into()), "{reported:#}");
    for (change, (action, route, why)) in reported["changes"].as_array().unwrap().iter().zip(&expected) {
        let printed = ["action", "route", "why", "waits"].map(|key| change[key].as_str().unwrap_or_default());
        assert_eq!(printed, [*action, route, *why, waits]);
    }
    let text = cluster.sextant(&["plan", "h1"]);
    assert!(text.starts_with("h1: 4 pending changes"), "{text}");
    monitor.quiet_since(0).unwrap();

    cluster.sextant(&["resume"]);
    poll("nothing is left to do", 10 * SECONDS, || {
        let plan = cluster.sextant(&["plan", "h1"]);
        if plan.starts_with(NOTHING) { Ok(()) } else { Err(plan) }
    });
    let kernel = host.routes_of(66).unwrap();
    assert!(expected[..3].iter().all(|(_, route, _)| kernel.contains(route)), "{kernel:#?}");
    assert!(!kernel.contains(&expected[3].1), "{kernel:#?}");
}

#[test]
fn a_plan_names_the_conflicting_route_and_its_fix() {
    let cluster = Cluster::start("plan-way", 2, GUIDE);
    let (host, h2) = (&cluster.hosts[0], cluster.prefix("h2"));
    host.ip(&format!("-6 route replace {h2} via 2001:db8::99 dev eth0 proto static metric 512")).unwrap();
    let blocked = poll("the conflicting route is named", 5 * SECONDS, || {
        let plan = cluster.sextant(&["plan", "h1"]);
        if plan.contains("a route of proto static with the same metric has its place") {
            Ok(plan)
        } else {
            Err(plan)
        }
    });
    assert!(blocked.starts_with("h1: 1 pending change "), "{blocked}");
    assert!(blocked.contains("peer h2 has no route yet"), "{blocked}");
    let fix = format!("ip -6 route del {h2} proto static metric 512");
    assert!(blocked.contains(&format!("has its place: {fix}")), "{blocked}");
    host.check(&fix.split(' ').collect::<Vec<_>>()).unwrap();
    cluster.expect_routes(0, &[1]);
}

#[test]
fn a_plan_reaches_the_agent_through_any_controller_or_fails() {
    let mut cluster = Cluster::without_agents("plan-where", 2, GUIDE);
    cluster.controller = None;
    let etcd = cluster.lab.etcd(1, &[]).unwrap();
    let _controllers = [1, 2].map(|number| {
        let store = Some(etcd.store());
        let controller =
            cluster.lab.controller(ControllerOptions { number, store, ..Default::default() }).unwrap();
        controller.wait_ready(20 * SECONDS).unwrap();
        controller
    });
    let pool = ["pool", "add", "main", GUIDE.prefix, "--host-len", GUIDE.host_len];
    cluster.sextant(&pool);
    let agent =
        cluster.lab.agent(&cluster.hosts[0], AgentOptions { controllers: vec![2], ..Default::default() });
    let agent = agent.unwrap();
    agent.announced_at(10 * SECONDS).unwrap();
    for number in [1, 2] {
        let plan = cluster.lab.cli_of(number, &["plan", "h1"]).unwrap().succeeded().unwrap();
        assert!(plan.stdout.starts_with(NOTHING), "{plan:?}");
    }
    drop(agent);
    let missed = poll("the agent is missed", 10 * SECONDS, || {
        let missed = cluster.lab.cli(&["plan", "h1"]).unwrap();
        if missed.code == 5 { Ok(missed) } else { Err(format!("{missed:?}")) }
    });
    assert!(
        missed.stderr.contains("no agent of node \"h1\" is connected; start sextant-agent"),
        "{missed:?}"
    );
    let unknown = cluster.lab.cli(&["plan", "h9"]).unwrap();
    assert_eq!(unknown.code, 3, "{unknown:?}");
}
