//! What happens on hosts at night.

use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use sextant_tests::{MILLISECONDS, Process, RouteEvent, RouteMonitor, SECONDS, cluster::sorted, poll};

use crate::bed::Bed;

#[test]
fn i9_loopback_that_flaps_costs_a_second_of_refusals_and_nothing_else() {
    let bed = Bed::start("lo flaps", 3);
    let stream = bed.stream(1, 2);
    let expected = bed.cluster.expected_routes(0, &[0, 1, 2]);
    for _ in 0..8 {
        // The kernel drops all unreachable routes with it.
        bed.host().ip("link set lo down").unwrap();
        bed.host().ip("link set lo up").unwrap();
        poll("the unreachables are back", SECONDS, || {
            let routes = sorted(bed.host().routes_of(66).unwrap());
            if routes == expected { Ok(()) } else { Err(format!("{routes:#?}")) }
        });
    }
    stream.finish().unwrap().nothing_lost().unwrap();
    bed.ends_clean();
}

/// 10 ms down, 100 ms up, for 20 s.
#[test]
fn an_uplink_that_flaps_ends_in_the_right_table_without_a_flood() {
    let mut bed = Bed::start("flapping", 3);
    bed.host().ip("-6 route add unreachable 2001:db8:77::/48 proto static").unwrap();
    bed.foreign_stays();
    let (host, stream) = (bed.host(), bed.stream(1, 2));
    let agent = &bed.cluster.agents[0].process;
    let lines = || agent.log().lines().filter(|line| !line.contains("\"level\":\"DEBUG\"")).count();
    let (before, expected) = (lines(), bed.cluster.expected_routes(0, &[0, 1, 2]));
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
    let said = lines() - before;
    assert!(said < 100, "{said} lines in 20 s");
    bed.cluster.sextant(&["wait", "--timeout", "10s"]);
    bed.is_right();
    stream.finish().unwrap().nothing_lost().unwrap();
    host.ip("-6 route del unreachable 2001:db8:77::/48").unwrap();
    bed.foreign_stays();
    bed.ends_clean();
}

#[test]
fn an_uplink_that_is_renamed_and_one_that_is_made_anew() {
    let bed = Bed::start("uplinks change", 3);
    let (host, stream) = (bed.host(), bed.stream(1, 2));
    let address = format!("-6 address replace {}/64 dev eth0 nodad", host.address());
    host.ip_batch("link set eth0 down\nlink set eth0 name wan0\nlink set wan0 up").unwrap();
    host.ip_batch("link set wan0 down\nlink set wan0 name eth0\nlink set eth0 up").unwrap();
    host.ip(&address).unwrap();
    bed.is_right();
    host.ip("link delete eth0").unwrap();
    let target = std::ops::Deref::deref(host).name().to_owned();
    let switch = bed.cluster.lab.switch();
    // As the lab made the first one.
    switch
        .ip(&format!("link add anew type veth peer name eth0 address 02:00:00:00:00:01 netns {target}"))
        .unwrap();
    switch.ip("link set anew master br0 up").unwrap();
    host.sysctl("net/ipv6/conf/eth0/accept_dad", "0").unwrap();
    host.sysctl("net/ipv6/conf/eth0/dad_transmits", "0").unwrap();
    host.ip("link set eth0 up").unwrap();
    host.ip(&address).unwrap();
    bed.is_right();
    stream.finish().unwrap().nothing_lost().unwrap();
    bed.ends_clean();
}

/// For 30 s somebody deletes our routes, puts look-alikes in their place, and adds some beside them.
#[test]
fn i9_hands_that_meddle_for_half_a_minute() {
    let seed = std::env::var("SEXTANT_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(rand::random);
    println!("SEXTANT_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let bed = Bed::start("hands", 3);
    // The way to h3 is not touched.
    let stream = bed.stream(0, 2);
    let mut bed = bed;
    bed.foreign_stays();
    let (host, touched) = (bed.host(), bed.cluster.prefix("h2"));
    let own = bed.cluster.prefix("h1");
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
        // What is not there cannot be deleted.
        let _done = host.ip(&format!("-6 {hand}"));
        std::thread::sleep(Duration::from_millis(random.random_range(1..120)));
    }
    for via in elsewhere {
        let _done = host.ip(&format!("-6 route del {touched} via {via} dev eth0 proto static metric 512"));
    }
    stream.finish().unwrap().nothing_lost().unwrap();
    poll("the hand has left a rest", 60 * SECONDS, || {
        let routes = sorted(host.routes_of(66).unwrap());
        if routes == bed.cluster.expected_routes(0, &[0, 1, 2]) {
            Ok(())
        } else {
            Err(format!("{routes:#?}"))
        }
    });
    // The container's way out is its port's; it goes with it.
    host.ip("link delete ve1").unwrap();
    poll("the port is gone", SECONDS, || {
        let routes = host.foreign_routes()?.join("\n");
        anyhow::ensure!(!routes.contains("dev ve1"), "{routes}");
        anyhow::Ok(())
    });
    bed.foreign_stays();
    bed.ends_clean();
}

/// Events are lost while the agent cannot read them: 50,000 routes of another's table come and go, and meanwhile somebody
/// deletes ours.
#[test]
fn i9_events_that_are_lost() {
    let bed = Bed::start("overruns", 3);
    let (host, stream) = (bed.host(), bed.stream(1, 2));
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
    let agent = &bed.cluster.agents[0].process;
    let began = Instant::now();
    for round in 0..2 {
        let said = agent.log_len();
        agent.freeze().unwrap();
        host.ip_batch(&batch("add")).unwrap();
        host.ip("-6 route flush proto 66").unwrap();
        agent.thaw().unwrap();
        // The second time the line is left out: there is one in ten seconds. The agent's metrics count both, see below.
        if round == 0 {
            agent.wait_for_line_after(said, "events of the kernel were lost", 10 * SECONDS).unwrap();
        }
        bed.cluster.expect_full_mesh();
        assert_eq!(
            host.check(&["sh", "-c", "ip -6 route show table 77 | wc -l"]).unwrap().trim(),
            "50000",
            "{round}"
        );
        // And with an agent that reads.
        host.ip_batch(&batch("del")).unwrap();
    }
    let lines = log_lines(agent, "events of the kernel were lost");
    let decaseconds = 1 + began.elapsed().as_secs() as usize / 10;
    assert!(lines.len() <= decaseconds, "more than one line in ten seconds: {lines:#?}");
    measured(&bed);
    stream.finish().unwrap().nothing_lost().unwrap();
    bed.ends_clean();
}

/// The agent counts what it went through.
fn measured(bed: &Bed) {
    let foreign = bed.host().foreign_routes().unwrap().len();
    poll("the agent's metrics", 5 * SECONDS, || {
        let metrics = bed.cluster.agents[0].http("/metrics")?.1;
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
fn a_burst_of_events_is_one_pass() {
    let bed = Bed::start("burst", 3);
    let (host, agent) = (bed.host(), &bed.cluster.agents[0].process);
    let said = agent.log_len();
    host.ip("-6 route flush proto 66").unwrap();
    bed.cluster.expect_full_mesh();
    let passes = || agent.log()[said..].lines().filter(|line| line.contains("routes changed")).count();
    let quiet = passes();
    assert!((1..=3).contains(&quiet), "{quiet} batches for four routes that went at once");
    std::thread::sleep(300 * MILLISECONDS);
    assert_eq!(passes(), quiet, "its own changes are no news to it: {}", &agent.log()[said..]);
}

/// Somebody deletes a route as soon as it is back, for some seconds.
#[test]
fn a_route_that_another_process_replaces_again_and_again_is_damped_and_reported_once() {
    let bed = Bed::start("a fight", 2);
    let (host, prefix) = (bed.host(), bed.cluster.prefix("h2"));
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
    let agent = &bed.cluster.agents[0].process;
    let warnings: Vec<_> = log_lines(agent, "route repeatedly changed by another process");
    assert!(warnings.len() == 1 && warnings[0].contains("proto static"), "{warnings:#?}");
    let told = bed.cluster.node("h1")["applied"]["failed"].to_string();
    assert!(
        told.contains("route repeatedly changed by another process (proto static); backing off"),
        "{told}"
    );
    poll("the route is back once nobody undoes it", 20 * SECONDS, || {
        let routes = sorted(host.routes_of(66).unwrap());
        if routes == bed.cluster.expected_routes(0, &[0, 1]) { Ok(()) } else { Err(format!("{routes:#?}")) }
    });
    bed.ends_clean();
}

fn log_lines(process: &Process, pattern: &str) -> Vec<String> {
    process.log().lines().filter(|line| line.contains(pattern)).map(str::to_owned).collect()
}
