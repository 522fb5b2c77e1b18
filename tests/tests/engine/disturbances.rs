//! Disturbances of a host: flapping links, changes by other processes, lost events.

use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use sextant_tests::{MILLISECONDS, Process, RouteEvent, RouteMonitor, SECONDS, cluster::sorted, poll};

use crate::testbed::Testbed;

#[test]
fn i9_a_flapping_loopback_affects_only_unreachable_routes_for_a_second() {
    let testbed = Testbed::start("lo flaps", 3);
    let stream = testbed.stream(1, 2);
    let expected = testbed.cluster.expected_routes(0, &[0, 1, 2]);
    for _ in 0..8 {
        // The kernel removes all unreachable routes when lo goes down.
        testbed.host().ip("link set lo down").unwrap();
        testbed.host().ip("link set lo up").unwrap();
        poll("the unreachables are back", SECONDS, || {
            let routes = sorted(testbed.host().routes_of(66).unwrap());
            if routes == expected { Ok(()) } else { Err(format!("{routes:#?}")) }
        });
    }
    stream.finish().unwrap().nothing_lost().unwrap();
    testbed.cleans_up();
}

/// 10 ms down, 100 ms up, for 20 s.
#[test]
fn a_flapping_uplink_ends_with_all_routes_and_few_log_lines() {
    let mut testbed = Testbed::start("flapping", 3);
    testbed.host().ip("-6 route add unreachable 2001:db8:77::/48 proto static").unwrap();
    testbed.expect_foreign_routes();
    let (host, stream) = (testbed.host(), testbed.stream(1, 2));
    let agent = &testbed.cluster.agents[0].process;
    let lines = || agent.log().lines().filter(|line| !line.contains("\"level\":\"DEBUG\"")).count();
    let (before, expected) = (lines(), testbed.cluster.expected_routes(0, &[0, 1, 2]));
    let flap = format!(
        "end=$(($(date +%s) + 20)); while [ $(date +%s) -lt $end ]; do \
         ip link set eth0 down; sleep 0.01; ip link set eth0 up; \
         ip -6 address replace {}/64 dev eth0 nodad; sleep 0.1; done",
        host.address()
    );
    host.check(&["sh", "-c", &flap]).unwrap();
    poll("all routes are back", SECONDS, || {
        let routes = sorted(host.routes_of(66).unwrap());
        if routes == expected { Ok(()) } else { Err(format!("{routes:#?}")) }
    });
    let printed = lines() - before;
    assert!(printed < 100, "{printed} lines in 20 s");
    testbed.cluster.sextant(&["wait", "--timeout", "10s"]);
    testbed.is_converged();
    stream.finish().unwrap().nothing_lost().unwrap();
    host.ip("-6 route del unreachable 2001:db8:77::/48").unwrap();
    testbed.expect_foreign_routes();
    testbed.cleans_up();
}

#[test]
fn an_uplink_that_is_renamed_and_one_that_is_made_anew() {
    let testbed = Testbed::start("uplinks change", 3);
    let (host, stream) = (testbed.host(), testbed.stream(1, 2));
    let address = format!("-6 address replace {}/64 dev eth0 nodad", host.address());
    host.ip_batch("link set eth0 down\nlink set eth0 name wan0\nlink set wan0 up").unwrap();
    host.ip_batch("link set wan0 down\nlink set wan0 name eth0\nlink set eth0 up").unwrap();
    host.ip(&address).unwrap();
    testbed.is_converged();
    host.ip("link delete eth0").unwrap();
    let target = std::ops::Deref::deref(host).name().to_owned();
    let switch = testbed.cluster.lab.switch();
    // As the lab made the first one.
    switch
        .ip(&format!("link add anew type veth peer name eth0 address 02:00:00:00:00:01 netns {target}"))
        .unwrap();
    switch.ip("link set anew master br0 up").unwrap();
    host.sysctl("net/ipv6/conf/eth0/accept_dad", "0").unwrap();
    host.sysctl("net/ipv6/conf/eth0/dad_transmits", "0").unwrap();
    host.ip("link set eth0 up").unwrap();
    host.ip(&address).unwrap();
    testbed.is_converged();
    stream.finish().unwrap().nothing_lost().unwrap();
    testbed.cleans_up();
}

/// For 30 s another process deletes Sextant's routes, puts look-alikes in their place, and adds some beside them.
#[test]
fn i9_routes_recover_from_random_changes_by_another_process() {
    let seed = std::env::var("SEXTANT_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(rand::random);
    println!("SEXTANT_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let testbed = Testbed::start("hands", 3);
    // The route to h3 is not touched.
    let stream = testbed.stream(0, 2);
    let mut testbed = testbed;
    testbed.expect_foreign_routes();
    let (host, touched) = (testbed.host(), testbed.cluster.prefix("h2"));
    let own = testbed.cluster.prefix("h1");
    let elsewhere = ["2001:db8::2", "2001:db8::77", "2001:db8::3"];
    let end = Instant::now() + 30 * SECONDS;
    while Instant::now() < end {
        let via = elsewhere.choose(&mut random).unwrap();
        let hand = match random.random_range(0..8) {
            0 => format!("route del {touched} proto 66"),
            1 => format!("route del unreachable {own} proto 66"),
            2 => format!("route replace {touched} via {via} dev eth0 proto 66 metric 512"),
            3 => format!("route replace {touched} via {via} dev eth0 proto 66 metric 511"),
            4 => format!("route add {touched} via {via} dev eth0 proto 66 metric 600 table 66"),
            5 => format!(
                "route add unreachable 2001:db8:8000:dead::/64 proto 66 metric {}",
                random.random_range(1..9)
            ),
            6 => format!("route replace {touched} via {via} dev eth0 proto static metric 512"),
            _ => format!("route del {touched} via {via} dev eth0 proto static metric 512"),
        };
        // Deleting an absent route fails.
        let _done = host.ip(&format!("-6 {hand}"));
        std::thread::sleep(Duration::from_millis(random.random_range(1..120)));
    }
    for via in elsewhere {
        let _done = host.ip(&format!("-6 route del {touched} via {via} dev eth0 proto static metric 512"));
    }
    stream.finish().unwrap().nothing_lost().unwrap();
    poll("all routes are restored", 60 * SECONDS, || {
        let routes = sorted(host.routes_of(66).unwrap());
        if routes == testbed.cluster.expected_routes(0, &[0, 1, 2]) {
            Ok(())
        } else {
            Err(format!("{routes:#?}"))
        }
    });
    // The container's routes are removed with its port.
    host.ip("link delete ve1").unwrap();
    poll("the port is gone", SECONDS, || {
        let routes = host.foreign_routes()?.join("\n");
        anyhow::ensure!(!routes.contains("dev ve1"), "{routes}");
        anyhow::Ok(())
    });
    testbed.expect_foreign_routes();
    testbed.cleans_up();
}

/// The agent loses events while it is frozen: 50,000 routes of another table are added and removed, and Sextant's routes are
/// deleted.
#[test]
fn i9_routes_recover_from_lost_netlink_events() {
    let testbed = Testbed::start("overruns", 3);
    let (host, stream) = (testbed.host(), testbed.stream(1, 2));
    let batch = |verb: &str| {
        let line = |n: u32| {
            format!(
                "route {verb} unreachable 2001:db9:{:x}:{:x}::/64 proto static table 77\n",
                n >> 8,
                n & 255
            )
        };
        (0..50_000).map(line).collect::<String>()
    };
    let agent = &testbed.cluster.agents[0].process;
    let began = Instant::now();
    for round in 0..2 {
        let printed = agent.log_len();
        agent.freeze().unwrap();
        host.ip_batch(&batch("add")).unwrap();
        host.ip("-6 route flush proto 66").unwrap();
        agent.thaw().unwrap();
        // The second time the line is left out: there is one in ten seconds. The agent's metrics count both, see below.
        if round == 0 {
            agent.wait_for_line_after(printed, "events of the kernel were lost", 10 * SECONDS).unwrap();
        }
        testbed.cluster.expect_full_mesh();
        assert_eq!(
            host.check(&["sh", "-c", "ip -6 route show table 77 | wc -l"]).unwrap().trim(),
            "50000",
            "{round}"
        );
        // The same while the agent reads events.
        host.ip_batch(&batch("del")).unwrap();
    }
    let lines = log_lines(agent, "events of the kernel were lost");
    let decaseconds = 1 + began.elapsed().as_secs() as usize / 10;
    assert!(lines.len() <= decaseconds, "more than one line in ten seconds: {lines:#?}");
    measured(&testbed);
    stream.finish().unwrap().nothing_lost().unwrap();
    testbed.cleans_up();
}

/// Checks the agent's metrics.
fn measured(testbed: &Testbed) {
    let foreign = testbed.host().foreign_routes().unwrap().len();
    poll("the agent's metrics", 5 * SECONDS, || {
        let metrics = testbed.cluster.agents[0].http("/metrics")?.1;
        let value = |name: &str| -> Option<f64> {
            metrics
                .lines()
                .find_map(|line| line.strip_prefix(&format!("sextant_agent_{name} "))?.parse().ok())
        };
        let are =
            [("routes_desired", 4), ("routes_actual", 4), ("routes_failed", 0), ("routes_foreign", foreign)];
        let at_least = [
            ("overruns_total", 2.0),
            ("plan_changes_sum", 12.0),
            ("batch_seconds_count", 3.0),
            ("event_lag_seconds_count", 2.0),
            ("converge_seconds_count", 3.0),
        ];
        let exact = are.iter().all(|(name, wanted)| value(name) == Some(*wanted as f64));
        let enough = at_least.iter().all(|(name, least)| value(name).is_some_and(|value| value >= *least));
        anyhow::ensure!(exact && enough, "not {are:?}, {at_least:?} in {metrics}");
        anyhow::Ok(())
    });
}

#[test]
fn a_burst_of_events_causes_one_pass() {
    let testbed = Testbed::start("burst", 3);
    let (host, agent) = (testbed.host(), &testbed.cluster.agents[0].process);
    let printed = agent.log_len();
    host.ip("-6 route flush proto 66").unwrap();
    testbed.cluster.expect_full_mesh();
    let passes = || agent.log()[printed..].lines().filter(|line| line.contains("routes changed")).count();
    let quiet = passes();
    assert!((1..=3).contains(&quiet), "{quiet} batches for four routes that went at once");
    std::thread::sleep(300 * MILLISECONDS);
    assert_eq!(passes(), quiet, "the agent's own changes cause no pass: {}", &agent.log()[printed..]);
}

/// For some seconds, another process deletes a route as soon as it is restored.
#[test]
fn a_route_that_another_process_replaces_repeatedly_is_damped_and_reported_once() {
    let testbed = Testbed::start("a fight", 2);
    let (host, prefix) = (testbed.host(), testbed.cluster.prefix("h2"));
    let monitor = RouteMonitor::start(host).unwrap();
    let fight = format!(
        "end=$(($(date +%s) + 6)); while [ $(date +%s) -lt $end ]; do \
         ip -6 route replace {prefix} via 2001:db8::99 dev eth0 proto static metric 512; \
         ip -6 route del {prefix} proto static; sleep 0.02; done"
    );
    host.check(&["sh", "-c", &fight]).unwrap();
    let of_it = |event: &&RouteEvent| event.route.destination == prefix && !event.gone;
    let events = monitor.events().unwrap();
    let put_back = events.iter().filter(of_it).filter(|event| event.route.protocol == 66).count();
    let undone = events.iter().filter(of_it).filter(|event| event.route.protocol == 4).count();
    assert!((10..20).contains(&put_back), "put back {put_back} times, against {undone}");
    let agent = &testbed.cluster.agents[0].process;
    let warnings: Vec<_> = log_lines(agent, "route repeatedly changed by another process");
    assert!(warnings.len() == 1 && warnings[0].contains("proto static"), "{warnings:#?}");
    let reported = testbed.cluster.node("h1")["applied"]["failed"].to_string();
    assert!(
        reported.contains("route repeatedly changed by another process (proto static); backing off"),
        "{reported}"
    );
    poll("the route is back once it is no longer changed", 20 * SECONDS, || {
        let routes = sorted(host.routes_of(66).unwrap());
        if routes == testbed.cluster.expected_routes(0, &[0, 1]) {
            Ok(())
        } else {
            Err(format!("{routes:#?}"))
        }
    });
    testbed.cleans_up();
}

fn log_lines(process: &Process, pattern: &str) -> Vec<String> {
    process.log().lines().filter(|line| line.contains(pattern)).map(str::to_owned).collect()
}
