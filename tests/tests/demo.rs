//! `deploy/demo` shows each of its steps, and leaves nothing behind.
#![allow(clippy::unwrap_used)] // Clippy does not see that a test's own functions are of a test.

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sextant_tests::{SECONDS, bin, poll};

fn demo(args: &[&str]) -> Command {
    let mut command = Command::new(bin("sextant-demo").unwrap());
    command.args(args).stdin(Stdio::null());
    command
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The id in "namespaces named sx<id>-…".
fn id(text: &str) -> String {
    let (_, rest) = text.split_once("namespaces named sx").unwrap_or_else(|| panic!("no id in {text}"));
    rest.split('-').next().unwrap().to_owned()
}

/// The namespaces and directories of a demo.
fn remains(id: &str) -> Vec<String> {
    let of = |dir: &str| fs::read_dir(dir).into_iter().flatten().flatten();
    let names = of("/run/netns").chain(of("/var/lib/sextant-lab")).map(|entry| entry.file_name());
    names.filter_map(|name| name.into_string().ok()).filter(|name| name.contains(id)).collect()
}

#[test]
fn the_demo_shows_routes_pings_and_failures_and_leaves_nothing_behind() {
    let began = Instant::now();
    let output = demo(&[]).output().unwrap();
    let (took, text) = (began.elapsed(), text(&output));
    assert!(output.status.success(), "{text}");
    let expected = [
        "$ sextant-controller pki init --admin ann",
        "--down-after 2 --pki /etc/sextant/pki",
        "export SEXTANT_CONTROLLER=https://[2001:db8::c:1]:7300 SEXTANT_TLS_CERT=/etc/sextant/pki/ann.pem",
        "$ sextant pool add main 2001:db8:8000::/40 --host-len 64 --container-len 80",
        "$ sextant token create --node 'h*' --count 4 >join-token",
        "--controller https://[2001:db8::c:1]:7300 --uplink eth0 --bridge docker0 --bridge-create --join-token-file join-token",
        "$ sextant node list",
        "via 2001:db8::2 dev eth0 metric 512",
        "from \\ to  h1/a  h1/b  h2/a  h2/b  h3/a  h3/b",
        "30 of 30 pings answered",
        "all 3 peers have the route after",
        "returned, 0 lost",
        "$ sextant node forget h2",
        "packets that followed the default route: 0",
        "56 of 56 pings answered",
        "All checks passed",
    ];
    let missing: Vec<_> = expected.iter().filter(|line| !text.contains(**line)).collect();
    assert!(missing.is_empty(), "not shown: {missing:?}; all:\n{text}");
    assert!(!text.contains("http://") && !text.contains("--insecure"), "{text}");
    assert!(!text.contains('\x1b'), "colours are for terminals:\n{text}");
    assert_eq!(remains(&id(&text)), [""; 0], "left behind");
    assert!(took < Duration::from_secs(60), "it took {took:?}");
}

#[test]
fn the_demo_runs_with_docker_engines() {
    let output = demo(&["--docker"]).output().unwrap();
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    let expected = [
        "sextant-agent --controller https://[2001:db8::c:1]:7300 --uplink eth0 --docker-mode network",
        "h3 $ docker run -d --name web --network sextant lab sleep 100000",
        "6 of 6 pings answered",
        "container web",
        "h1 $ docker network rm sextant",
        "All checks passed",
    ];
    let missing: Vec<_> = expected.iter().filter(|line| !text.contains(**line)).collect();
    assert!(missing.is_empty(), "not shown: {missing:?}; all:\n{text}");
    assert_eq!(remains(&id(&text)), [""; 0], "left behind");
}

#[test]
fn the_demo_shows_the_ndp_proxy() {
    let output = demo(&["--topology", "ndp-proxy"]).output().unwrap();
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    let expected = [
        "$ sextant pool add main 2001:db8::c000/116 --host-len 125 --container-len 125",
        "--bridge-create --topology ndp-proxy",
        "6 of 6 containers answer the router.",
        "h1 $ ip -6 neighbour show proxy dev eth0",
        "30 of 30 pings answered",
        "The router, which has forgotten its neighbours, reaches the container.",
        "h3 has no entry for 2001:db8::c",
        "All checks passed",
    ];
    let missing: Vec<_> = expected.iter().filter(|line| !text.contains(**line)).collect();
    assert!(missing.is_empty(), "not shown: {missing:?}; all:\n{text}");
    assert_eq!(remains(&id(&text)), [""; 0], "left behind");
}

#[test]
fn the_demo_runs_on_etcd_with_two_controllers() {
    let output = demo(&["--store", "etcd", "--hosts", "2", "--containers", "1"]).output().unwrap();
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    let expected = [
        "sextant-controller --store etcd:http://[2001:db8::e:1]:2379,http://[2001:db8::e:2]:2379,",
        "--listen '[2001:db8::c:2]:7300'",
        "$ sextant-controller pki controller c2",
        "sextant-agent --controller https://[2001:db8::c:1]:7300,https://[2001:db8::c:2]:7300",
        "returned, 0 lost",
        "packets that followed the default route: 0",
        "All checks passed",
    ];
    let missing: Vec<_> = expected.iter().filter(|line| !text.contains(**line)).collect();
    assert!(missing.is_empty(), "not shown: {missing:?}; all:\n{text}");
    assert_eq!(remains(&id(&text)), [""; 0], "left behind");
}

#[test]
fn the_demo_runs_without_tls_if_it_is_asked_to() {
    let output = demo(&["--insecure", "--hosts", "2", "--containers", "1"]).output().unwrap();
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    for shown in
        ["export SEXTANT_CONTROLLER=http://[2001:db8::c:1]:7300 SEXTANT_INSECURE=true", "All checks passed"]
    {
        assert!(text.contains(shown), "{shown}: {text}");
    }
    assert!(!text.contains("pki") && !text.contains("token"), "{text}");
}

#[test]
fn a_kept_demo_keeps_running_until_it_is_removed() {
    let output = demo(&["--hosts", "2", "--containers", "1", "--keep"]).output().unwrap();
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    let id = id(&text);
    let mut lines = text.lines().filter_map(|line| line.trim().strip_prefix("$ sudo "));
    let ask = lines.find(|line| line.ends_with("node list"));
    let nodes = Command::new("sh").args(["-c", ask.unwrap_or("false")]).output().unwrap();
    let container = format!("sx{id}-h1-a");
    let ping = ["netns", "exec", &container, "ping", "-c1", "-W1", "2001:db8::2"];
    let answer = Command::new("ip").args(ping).output().unwrap();
    let ended = demo(&["--end", &id]).output().unwrap();
    assert!(answer.status.success(), "{answer:?} in:\n{text}");
    assert!(nodes.status.success(), "{ask:?}: {nodes:?}");
    assert!(text.contains(&format!("sudo deploy/demo --end {id}")), "{text}");
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(remains(&id), [""; 0], "left behind");
}

#[test]
fn ctrl_c_removes_everything() {
    let mut child = demo(&[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    let mut seen = Vec::new();
    let mut stdout = child.stdout.take().unwrap();
    while !String::from_utf8_lossy(&seen).contains("A pool of prefixes") {
        let mut some = [0; 512];
        let read = std::io::Read::read(&mut stdout, &mut some).unwrap();
        assert!(read > 0, "it ended early: {}", String::from_utf8_lossy(&seen));
        seen.extend(&some[..read]);
    }
    kill(pid, Signal::SIGINT).unwrap();
    let status = poll("the demo ends", 20 * SECONDS, || child.try_wait().unwrap().ok_or("it runs"));
    assert_eq!((status.code(), status.signal()), (Some(130), None));
    let id = id(&String::from_utf8_lossy(&seen));
    // The lab's reaper may still be running.
    poll("nothing is left", 10 * SECONDS, || match remains(&id) {
        left if left.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    });
}

#[test]
fn ending_an_unknown_demo_fails() {
    let output = demo(&["--end", "0000000"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("there is no lab \"0000000\""), "{}", text(&output));
}
