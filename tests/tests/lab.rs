//! The lab itself: the properties that other tests rely on.
#![allow(clippy::unwrap_used)] // Clippy does not see that a test's own functions are of a test.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::Ipv6Addr,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, SystemTime},
};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use sextant_tests::{
    Container, Host, Lab, MILLISECONDS, PingOutcome, RouteMonitor, SECONDS, difference, expect_text,
    lab::process::ended_by, ping_matrix, poll, remove, tcp_matrix,
};

/// Hosts with bridges, static routes as in Docker's guide, and two containers each.
fn with_static_routes(lab: &Lab, count: u16) -> (Vec<Host>, Vec<Container>) {
    let hosts = lab.hosts(count).unwrap();
    for (index, host) in hosts.iter().enumerate() {
        host.make_bridge(format!("2001:db8:{}::/64", index + 1).parse().unwrap()).unwrap();
        for (other, peer) in hosts.iter().enumerate().filter(|(other, _)| *other != index) {
            host.ip(&format!("-6 route add 2001:db8:{}::/64 via {}", other + 1, peer.address())).unwrap();
        }
    }
    let containers =
        hosts.iter().flat_map(|host| [host.container("a").unwrap(), host.container("b").unwrap()]);
    let containers = containers.collect();
    (hosts, containers)
}

#[test]
fn containers_reach_each_other_without_address_translation() {
    let lab = Lab::new("topology").unwrap();
    let (hosts, containers) = with_static_routes(&lab, 3);
    assert_eq!(hosts[1].address(), "2001:db8::2".parse::<Ipv6Addr>().unwrap());
    assert_eq!(containers[2].address(), "2001:db8:2::2".parse::<Ipv6Addr>().unwrap());
    expect_text("all pings answered", 5 * SECONDS, "", || ping_matrix(&containers));
    expect_text("all connections made", 5 * SECONDS, "", || tcp_matrix(&containers));
    let controller = Lab::controller_address(1);
    poll("host 3 reaches the controller", 10 * SECONDS, || hosts[2].ping(controller)?.replied());
}

#[test]
fn routes_are_listed_as_text() {
    let lab = Lab::new("routes").unwrap();
    let host = lab.host("h1").unwrap();
    expect_text(
        "a new host's routes",
        SECONDS,
        "2001:db8::/64 dev eth0 proto kernel metric 256\nfe80::/64 dev eth0 proto kernel metric 256",
        || host.routes().map(|routes| routes.join("\n")),
    );
    let before = host.foreign_routes().unwrap();
    host.ip("-6 route add 2001:db8:2::/64 via 2001:db8::2 proto 66 metric 512").unwrap();
    host.ip("-6 route add unreachable 2001:db8::/32 proto 66 metric 4278198272 table 7").unwrap();
    assert_eq!(
        host.routes_of(66).unwrap(),
        [
            "unreachable 2001:db8::/32 proto 66 metric 4278198272 table 7",
            "2001:db8:2::/64 via 2001:db8::2 dev eth0 proto 66 metric 512",
        ]
    );
    assert_eq!(difference(&before, &host.foreign_routes().unwrap()), "");
    host.ip("-6 route add 2001:db8:3::/64 dev eth0 proto static").unwrap();
    assert_eq!(
        difference(&before, &host.foreign_routes().unwrap()),
        "+ 2001:db8:3::/64 dev eth0 proto static metric 1024"
    );
}

#[test]
fn a_closure_runs_in_its_namespace_only() {
    let lab = Lab::new("closure").unwrap();
    let host = lab.host("h1").unwrap();
    let own = fs::read_link("/proc/thread-self/ns/net").unwrap();
    let inside = host.enter(|| fs::read_link("/proc/thread-self/ns/net").unwrap()).unwrap();
    assert_ne!(own, inside);
    assert_eq!(inside, Path::new(host.check(&["readlink", "/proc/self/ns/net"]).unwrap().trim()));
    assert_eq!(own, fs::read_link("/proc/thread-self/ns/net").unwrap());
    let before = host.counters().unwrap();
    let target = Lab::controller_address(1);
    poll("a ping", 10 * SECONDS, || host.ping(target)?.replied());
    assert!(host.counters().unwrap().since(&before)["Icmp6InEchoReplies"] >= 1);
}

#[test]
fn refused_and_lost_pings_are_distinguished() {
    let lab = Lab::new("refusal").unwrap();
    let (hosts, containers) = with_static_routes(&lab, 2);
    let (a, c) = (&containers[0], &containers[2]);
    poll("a working path", 5 * SECONDS, || a.ping(c.address())?.replied());
    let nowhere = "2001:db8:ffff::1".parse().unwrap();
    let outcome = a.ping(nowhere).unwrap();
    assert_eq!(outcome, PingOutcome::Unreachable("No route (from 2001:db8:1::1)".to_owned()));
    assert!(hosts[0].ping(nowhere).unwrap().refused().is_ok());
    hosts[0].ip("-6 route add blackhole 2001:db8:ffff::/48").unwrap();
    assert_eq!(a.ping(nowhere).unwrap(), PingOutcome::Lost);

    let router = lab.router().unwrap();
    hosts[0].default_route_via("2001:db8::fe:1".parse().unwrap()).unwrap();
    let before = router.counters().unwrap();
    let leaking = "2001:db8:eeee::1".parse().unwrap();
    poll("the router refuses packets that follow the default route", 5 * SECONDS, || {
        match hosts[0].ping(leaking)? {
            PingOutcome::Unreachable(why) if why.contains("2001:db8::fe:1") => Ok(()),
            other => Err(anyhow::anyhow!("{other}")),
        }
    });
    assert!(router.counters().unwrap().since(&before)["Ip6InNoRoutes"] >= 1);
}

#[test]
fn a_stream_counts_the_losses_of_an_outage() {
    let lab = Lab::new("stream").unwrap();
    let (hosts, containers) = with_static_routes(&lab, 2);
    let (a, c) = (&containers[0], &containers[2]);
    poll("a working path", 5 * SECONDS, || a.ping(c.address())?.replied());

    let stream = a.udp_stream(c, 5 * MILLISECONDS).unwrap();
    stream.flows(40, 5 * SECONDS).unwrap();
    let good = stream.finish().unwrap();
    good.nothing_lost().unwrap();
    assert!(good.sent >= 40 && good.received == good.sent, "{good}");

    let stream = a.udp_stream(c, 5 * MILLISECONDS).unwrap();
    stream.flows(10, 5 * SECONDS).unwrap();
    hosts[1].isolate().unwrap();
    let (sent, _) = stream.progress();
    poll("twenty more are sent", 5 * SECONDS, || match stream.progress().0 {
        now if now >= sent + 20 => Ok(()),
        now => Err(format!("{now} sent")),
    });
    hosts[1].reconnect().unwrap();
    stream.flows(10, 5 * SECONDS).unwrap();
    let bad = stream.finish().unwrap();
    assert!(bad.lost.len() >= 15 && bad.nothing_lost().is_err(), "{bad}");
    assert!(bad.longest_outage() >= 75 * MILLISECONDS, "{bad}");
    assert_eq!(bad.received + bad.lost.len() as u64, bad.sent, "{bad}");
}

#[test]
fn a_monitor_records_each_change_with_its_time() {
    let lab = Lab::new("monitor").unwrap();
    let host = lab.host("h1").unwrap();
    poll("the link's own routes", SECONDS, || match host.routes()?.len() {
        2 => Ok(()),
        _ => Err(anyhow::anyhow!("{:?}", host.routes()?)),
    });
    let monitor = RouteMonitor::start(&host).unwrap();
    host.routes().unwrap();
    monitor.quiet_since(0).unwrap();

    let prefix = "2001:db8:2::/64".parse().unwrap();
    let before = SystemTime::now();
    host.ip("-6 route add 2001:db8:2::/64 via 2001:db8::2 proto 66 metric 512").unwrap();
    let after = SystemTime::now();
    let added = monitor.added(prefix, SECONDS).unwrap();
    assert_eq!(added.route.to_string(), "2001:db8:2::/64 via 2001:db8::2 dev eth0 proto 66 metric 512");
    assert!(host.route_table().unwrap().contains(&added.route), "{added}");
    // The thread may have waited for a CPU.
    assert!(before <= added.at && added.at <= after + 200 * MILLISECONDS, "{before:?} {added} {after:?}");

    host.ip("-6 route del 2001:db8:2::/64 proto 66").unwrap();
    let removed = monitor.removed(prefix, SECONDS).unwrap();
    assert!(removed.gone && removed.at > added.at);
    host.ip("-6 route add unreachable 2001:db8:9::/48 proto 66 metric 7").unwrap();
    let events = monitor.events().unwrap();
    assert_eq!(events.len(), 3, "{events:?}");
    assert_eq!(events[2].route.to_string(), "unreachable 2001:db8:9::/48 proto 66 metric 7");
    let error = monitor.quiet_since(2).unwrap_err().to_string();
    assert!(error.contains("+ unreachable 2001:db8:9::/48"), "{error}");
    monitor.quiet_since(3).unwrap();
}

#[test]
fn a_monitor_loses_nothing_of_many_changes() {
    let lab = Lab::new("many changes").unwrap();
    let host = lab.host("h1").unwrap();
    let monitor = RouteMonitor::start(&host).unwrap();
    let lines: Vec<_> = (0..20_000)
        .map(|number| format!("route add unreachable 2001:db8:9:{number:x}::/64 proto 66"))
        .collect();
    host.ip_batch(&lines.join("\n")).unwrap();
    let events = monitor.events().unwrap();
    assert_eq!(events.iter().filter(|event| event.route.protocol == 66).count(), 20_000);
    assert!(events.is_sorted_by_key(|event| event.at));
}

#[test]
fn processes_start_freeze_end_and_are_logged() {
    let lab = Lab::new("processes").unwrap();
    let host = lab.host("h1").unwrap();
    let script = "echo first; echo second >&2; trap 'echo bye; exit 3' TERM; while :; do sleep 0.01; done";
    let process = host.spawn("script", &["sh", "-c", script]).unwrap();
    let line = process.wait_for_line("sec", 5 * SECONDS).unwrap();
    assert_eq!(line.text, "second");
    let netns = fs::read_link(format!("/proc/{}/ns/net", process.pid())).unwrap();
    assert_eq!(netns, host.enter(|| fs::read_link("/proc/thread-self/ns/net").unwrap()).unwrap());
    let state = || fs::read_to_string(format!("/proc/{}/stat", process.pid())).unwrap();
    process.freeze().unwrap();
    poll("it is stopped", SECONDS, || match state() {
        state if state.contains(") T ") => Ok(()),
        state => Err(state),
    });
    process.thaw().unwrap();
    let skip = process.log_len();
    assert_eq!(process.terminate(5 * SECONDS).unwrap().code(), Some(3));
    process.wait_for_line_after(skip, "bye", SECONDS).unwrap();
    let error = process.wait_for_line("third", 5 * SECONDS).unwrap_err().to_string();
    assert!(error.contains("\"third\" when it ended") && error.contains("bye"), "{error}");
    assert!(process.signal(Signal::SIGTERM).is_err());

    let second = host.spawn("script", &["sleep", "1000"]).unwrap();
    second.kill().unwrap();
    assert!(ended_by(second.ended().unwrap().unwrap(), Signal::SIGKILL));
    let diagnostics = lab.diagnostics();
    assert!(diagnostics.contains("script.log") && diagnostics.contains("script.2.log"), "{diagnostics}");
    assert!(diagnostics.contains("bye") && diagnostics.contains("\"processes\""), "{diagnostics}");
}

#[test]
fn a_dropped_lab_is_removed_completely() {
    let lab = Lab::new("drop").unwrap();
    let (id, dir) = (lab.id().to_owned(), lab.dir().to_owned());
    let (_hosts, containers) = with_static_routes(&lab, 1);
    let script = "setsid sleep 1000 & echo $!; wait";
    let process = containers[0].spawn("orphan", &["sh", "-c", script]).unwrap();
    let orphan = process.wait_for_line("", 5 * SECONDS).unwrap().text;
    expect_traces(&id, 4 + 2);
    drop(lab);
    assert_eq!(traces(&id), [""; 0]);
    // Without a process that reaps it, a zombie without a command line remains.
    let command = fs::read(format!("/proc/{orphan}/cmdline")).unwrap_or_default();
    assert!(command.is_empty() && !dir.exists());
}

#[test]
fn a_lab_is_removed_when_its_owner_is_killed() {
    for whole_group in [false, true] {
        let (mut owner, id) = holder(&["hold"]);
        expect_traces(&id, 3 + 3);
        let lab = Path::new("/var/lib/sextant-lab").join(&id);
        assert!(lab.join("stubborn.log").exists());
        match whole_group {
            true => killpg(Pid::from_raw(owner.id().cast_signed()), Signal::SIGKILL).unwrap(),
            false => owner.kill().unwrap(),
        }
        owner.wait().unwrap();
        poll("namespaces, processes and directory are gone", 10 * SECONDS, || match traces(&id) {
            left if left.is_empty() && !lab.exists() => Ok(()),
            left => Err(format!("{left:?}, directory: {}", lab.exists())),
        });
    }
}

#[test]
fn a_lab_without_a_reaper_is_removed_by_the_next_lab() {
    let (mut owner, id) = holder(&["hold"]);
    expect_traces(&id, 3 + 3);
    kill(reaper_of(&id), Signal::SIGKILL).unwrap();
    owner.kill().unwrap();
    owner.wait().unwrap();
    assert_eq!(traces(&id).len(), 3 + 3, "{:?}", traces(&id));
    let (mut next, next_id) = holder(&["hold"]);
    assert_eq!(traces(&id), [""; 0]);
    next.kill().unwrap();
    next.wait().unwrap();
    expect_traces(&next_id, 0);
}

fn reaper_of(id: &str) -> Pid {
    let name = format!("sextant-lab-reaper\0{id}\0");
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let mut reapers = processes.filter(|entry| {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains(&name)
    });
    let reaper = reapers.next().expect("a held lab has a reaper");
    Pid::from_raw(reaper.file_name().to_str().unwrap().parse().unwrap())
}

#[test]
fn a_host_without_power_is_silent_and_returns_without_state() {
    let lab = Lab::new("power").unwrap();
    let (hosts, containers) = with_static_routes(&lab, 2);
    let target = hosts[1].address();
    poll("a working path", 5 * SECONDS, || hosts[0].ping(target)?.replied());
    let process = containers[2].spawn("in-container", &["sleep", "1000"]).unwrap();
    hosts[1].power_off().unwrap();
    assert!(ended_by(process.wait(SECONDS).unwrap(), Signal::SIGKILL));
    assert_eq!(hosts[0].ping(target).unwrap(), PingOutcome::Lost);
    assert!(hosts[1].routes().is_err() && containers[2].routes().is_err());
    hosts[1].power_on().unwrap();
    poll("a working path again", 5 * SECONDS, || hosts[0].ping(target)?.replied());
    assert!(hosts[1].bridge_address().is_err());
    assert_eq!(hosts[1].routes_of(3).unwrap(), [""; 0]);
}

#[test]
fn a_kept_lab_runs_until_it_is_removed() {
    let (mut owner, id) = holder(&["keep"]);
    assert!(owner.wait().unwrap().success());
    // The start of another lab does not remove a kept one.
    drop(Lab::new("a lab beside a kept one").unwrap());
    expect_traces(&id, 3 + 3);
    remove(&id).unwrap();
    assert_eq!(traces(&id), [""; 0]);
    let error = remove(&id).unwrap_err().to_string();
    assert!(error.contains(&format!("no lab \"{id}\"")), "{error}");
    assert!(remove("../../etc").is_err());
}

#[test]
fn a_failing_test_prints_the_logs() {
    let outcome =
        Command::new(env!("CARGO_BIN_EXE_lab-holder")).arg("panic").stdin(Stdio::null()).output().unwrap();
    let message = String::from_utf8_lossy(&outcome.stderr);
    assert!(!outcome.status.success());
    assert!(
        message.contains("expected within 50ms: the expected state")
            && message.contains("last state: the actual state"),
        "{message}"
    );
    assert!(message.contains("---- last lines of writer.log ----\noutput of the writer"), "{message}");
}

#[test]
fn a_lab_is_created_quickly() {
    // A generous limit: it takes some tenths of a second, but seconds if the lab waits for something.
    let started = std::time::Instant::now();
    let lab = Lab::new("speed").unwrap();
    let (_hosts, containers) = with_static_routes(&lab, 3);
    let created = started.elapsed();
    assert_eq!(containers.len(), 6);
    println!("3 hosts with 2 containers each: {created:?}");
    let started = std::time::Instant::now();
    drop(lab);
    println!("removed: {:?}", started.elapsed());
    assert!(created < Duration::from_secs(10), "{created:?}");
}

/// Starts a process in a group of its own that owns a lab; returns it with the lab's id.
fn holder(args: &[&str]) -> (Child, String) {
    let mut owner = Command::new(env!("CARGO_BIN_EXE_lab-holder"))
        .args(args)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut id = String::new();
    BufReader::new(owner.stdout.take().unwrap()).read_line(&mut id).unwrap();
    (owner, id.trim().to_owned())
}

#[track_caller]
fn expect_traces(id: &str, count: usize) {
    poll("the lab's namespaces and processes", 5 * SECONDS, || match traces(id) {
        all if all.len() == count => Ok(()),
        all => Err(format!("{all:?} instead of {count}")),
    });
}

/// The namespaces and processes of a lab.
fn traces(id: &str) -> Vec<String> {
    let mark = format!("SX_LAB={id}");
    let has_mark =
        |environment: Vec<u8>| environment.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes());
    let processes = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter(|entry| fs::read(entry.path().join("environ")).is_ok_and(has_mark));
    let namespaces = fs::read_dir("/run/netns")
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&format!("sx{id}-")));
    let found = namespaces.chain(processes).map(|entry| entry.file_name().to_string_lossy().into_owned());
    found.collect()
}

/// Runs a shell under an agent's name that logs repeated transitions of a session.
fn log_transitions(lab: &Lab) {
    let host = lab.host("h1").unwrap();
    let line = |from: &str, to: &str| {
        format!(
            "printf '{{\"timestamp\":\"%s\",\"message\":\"transition\",\"subject\":\"session\",\"from\":\"{from}\",\"to\":\"{to}\",\
             \"why\":\"claim lost\"}}\\n' $(date -u +%Y-%m-%dT%H:%M:%S.%3NZ)"
        )
    };
    let (lost, back) = (line("connected", "disconnected"), line("disconnected", "connected"));
    let script = format!("for i in $(seq 12); do {lost}; sleep 0.02; {back}; sleep 0.02; done; echo done");
    let shell = host.spawn("agent-h1", &["sh", "-c", &script]).unwrap();
    shell.wait_for_line("done", 60 * SECONDS).unwrap();
}

#[test]
fn a_daemon_in_a_loop_fails_the_test() {
    let lab = Lab::new("a loop").unwrap();
    log_transitions(&lab);
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(lab)));
    let message = ended.unwrap_err();
    let message = message.downcast_ref::<String>().unwrap();
    assert!(message.contains("agent-h1.log: loop: the same transition more than 10 times"), "{message}");
}
