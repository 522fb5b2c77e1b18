//! Invalid input is refused with an error that names the object, the value and the fix, and with the documented exit code.

use std::{fs, os::unix::fs::PermissionsExt};

use sextant_controller::registry::{Op, Registry, Txn, embedded::EmbeddedStore};
use sextant_tests::{
    AgentOptions, CliOutput, Controller, ControllerOptions, Lab, MILLISECONDS, Process, SECONDS, SmallDisk,
    bin, poll,
};

use crate::cluster::{Cluster, GUIDE, PoolArgs};

#[track_caller]
fn refused(out: &CliOutput, code: i32, words: &[&str]) {
    assert_eq!(out.code, code, "{out:?}");
    assert!(words.iter().all(|word| out.stderr.contains(word)), "{words:?} in {out:?}");
}

/// A daemon that does not start: its exit code is 1, and its last line says why.
#[track_caller]
fn does_not_start(process: &Process, words: &[&str]) {
    let status = process.wait(10 * SECONDS).unwrap();
    let log = process.log();
    assert_eq!(status.code(), Some(1), "{log}");
    let last = log.lines().last().unwrap_or_default();
    assert!(words.iter().all(|word| last.contains(word)), "{words:?} in: {log}");
}

fn controller_with(lab: &Lab, args: &[&str]) -> Controller {
    let args = args.iter().map(ToString::to_string).collect();
    lab.controller(ControllerOptions { args, ..ControllerOptions::default() }).unwrap()
}

#[test]
fn invalid_pools_are_refused() {
    let cluster = Cluster::without_agents("bad pools", 0, GUIDE);
    let add = |name: &str, prefix: &str, host_len: &str| {
        cluster.lab.cli(&["pool", "add", name, prefix, "--host-len", host_len]).unwrap()
    };
    refused(&add("x", "2001:db8:1::1/48", "64"), 2, &["2001:db8:1::1/48", "host bits", "2001:db8:1::/48"]);
    refused(&add("x", "2001:db8:1::/48", "40"), 2, &["40", "shorter", "2001:db8:1::/48"]);
    refused(&add("x", "2001:db8:1::/127", "127"), 2, &["2001:db8:1::/127", "/126"]);
    refused(&add("X!", "2001:db8:1::/48", "64"), 2, &["X!", "lower-case"]);
    refused(
        &add("x", "2001:db8:8080::/48", "64"),
        4,
        &["2001:db8:8080::/48", "overlaps", "main", GUIDE.prefix],
    );
    refused(&add("main", "2001:db8:1::/48", "64"), 4, &["main", "exists", GUIDE.prefix]);
    refused(&cluster.lab.cli(&["pool", "show", "nope"]).unwrap(), 3, &["nope"]);
    refused(&cluster.lab.cli(&["pool", "remove", "nope"]).unwrap(), 3, &["nope"]);
    refused(&cluster.lab.cli(&["node", "drain", "nope"]).unwrap(), 3, &["nope"]);
    refused(&cluster.lab.cli(&["node", "forget", "nope"]).unwrap(), 3, &["nope"]);
    refused(&cluster.lab.cli(&["pool", "add", "x"]).unwrap(), 2, &["PREFIX"]);
    let pools = cluster.lab.cli_json(&["pool", "list"]).unwrap();
    assert_eq!(pools.as_array().map(Vec::len), Some(1), "nothing was added: {pools}");
}

#[test]
fn an_exhausted_pool_is_reported() {
    let pool = PoolArgs { prefix: "2001:db8:9::/64", host_len: "65", container_len: "80" };
    let mut cluster = Cluster::start("exhausted", 2, pool);
    cluster.hosts.push(cluster.lab.host("h3").unwrap());
    cluster.start_agent(2);
    let reported = cluster.agents[2].process.wait_for_line("exhausted", 10 * SECONDS).unwrap().text;
    assert!(
        ["main", "2001:db8:9::/64", "2 host prefixes", "sextant node forget"]
            .iter()
            .all(|word| reported.contains(word)),
        "{reported}"
    );
    cluster.expect_routes(0, &[1]);
    cluster.sextant(&["wait", "--timeout", "5s"]);
}

#[test]
fn a_second_host_with_the_same_name_is_refused() {
    let mut cluster = Cluster::start("one name", 1, GUIDE);
    let before = cluster.node("h1");
    let other = cluster.lab.host("other").unwrap();
    let options = AgentOptions { node: Some("h1".into()), ..AgentOptions::default() };
    cluster.agents.push(cluster.lab.agent(&other, options).unwrap());
    let reported = cluster.agents[1].process.wait_for_line("belongs to node id", 10 * SECONDS).unwrap().text;
    assert!(
        reported.contains("h1") && reported.contains("--node") && reported.contains("node forget h1"),
        "{reported}"
    );
    assert_eq!(cluster.node("h1")["node_id"], before["node_id"]);
    assert_eq!(cluster.node("h1")["prefix"], before["prefix"]);
    assert!(other.routes_of(66).unwrap().is_empty());
}

#[test]
fn a_store_that_is_open_or_has_wrong_permissions_is_refused() {
    let lab = Lab::new("store permissions").unwrap();
    let first = lab.controller(ControllerOptions::default()).unwrap();
    first.wait_ready(10 * SECONDS).unwrap();
    let added = ["pool", "add", "main", GUIDE.prefix, "--host-len", "64"];
    lab.cli(&added).unwrap().succeeded().unwrap();
    let second =
        controller_with(&lab, &["--listen", "[2001:db8::c:1]:7400", "--http", "[2001:db8::c:1]:7401"]);
    does_not_start(&second.process, &["controller-1", "already open"]);
    first.process.terminate(5 * SECONDS).unwrap();

    let store = lab.dir().join("controller-1");
    fs::set_permissions(&store, fs::Permissions::from_mode(0o666)).unwrap();
    does_not_start(&controller_with(&lab, &[]).process, &["controller-1", "666", "chmod 600"]);
    fs::set_permissions(&store, fs::Permissions::from_mode(0o600)).unwrap();
    let program = bin("sextant-controller").unwrap().display().to_string();
    let address = format!("embedded:{}", store.display());
    let as_nobody = ["setpriv", "--reuid=65534", "--clear-groups", &program, "--store", &address];
    // Its lab's directory is root's alone too: the path is named, whichever of the two refuses.
    let process = lab.switch().spawn("as-nobody", &as_nobody).unwrap();
    does_not_start(&process, &["controller-1", "ermission denied"]);

    let again = lab.controller(ControllerOptions::default()).unwrap();
    again.wait_ready(10 * SECONDS).unwrap();
    let pools = lab.cli_json(&["pool", "list"]).unwrap();
    assert_eq!(pools[0]["name"], "main", "nothing was lost: {pools}");
}

#[test]
fn a_full_disk_refuses_changes_and_loses_nothing() {
    let lab = Lab::new("full disk").unwrap();
    let disk = SmallDisk::mount(&lab, 5).unwrap();
    let path = disk.path().join("store");
    let options =
        || ControllerOptions { store: Some(format!("embedded:{}", path.display())), ..Default::default() };
    // A store of a cluster first, then made nearly full, so that a few pools do the rest.
    let first = lab.controller(options()).unwrap();
    first.wait_ready(10 * SECONDS).unwrap();
    first.process.terminate(5 * SECONDS).unwrap();
    // Both stores have some room. How much fits into it is found out with the other one.
    let scratch = disk.path().join("scratch");
    for store in [&path, &scratch] {
        assert_eq!(fill_store(store, ROOM), ROOM);
    }
    disk.fill().unwrap();
    let fits = fill_store(&scratch, u32::MAX);
    fs::remove_file(&scratch).unwrap();
    disk.fill().unwrap();
    // The store holds a cluster's keys too, and has been opened before.
    assert_eq!(fill_store(&path, fits - 20), fits - 20, "the store kept the room that it had");
    let controller = lab.controller(options()).unwrap();
    controller.wait_ready(10 * SECONDS).unwrap();
    let mut added = 0;
    let mut add = || {
        let prefix = format!("2001:db8:{:x}::/48", added + 1);
        let out = lab.cli(&["pool", "add", &format!("p{added}"), &prefix, "--host-len", "64"]).unwrap();
        added += usize::from(out.code == 0);
        (out, added)
    };
    let (full, fitted) = poll("the store is full", 40 * SECONDS, || match add() {
        (out, added) if out.code == 0 => Err(format!("{added} pools fit so far")),
        refused => Ok(refused),
    });
    refused(&full, 5, &["store", "MiB more", "No space left", "free space"]);
    let count = || lab.cli_json(&["pool", "list"]).unwrap().as_array().map(Vec::len);
    assert_eq!(count(), Some(fitted), "what was acknowledged is there");
    assert!(controller.process.ended().unwrap().is_none(), "the controller goes on");
    disk.empty().unwrap();
    let again = poll("there is room again", 10 * SECONDS, || match add() {
        (out, added) if out.code == 0 => Ok(added),
        (out, _) => Err(format!("{out:?}")),
    });
    assert_eq!(count(), Some(again));
    controller.process.kill().unwrap();
    let controller = lab.controller(options()).unwrap();
    controller.wait_ready(10 * SECONDS).unwrap();
    assert_eq!(count(), Some(again), "after a kill too");
}

/// How many keys are put into a new store, which is small at first.
const ROOM: u32 = 200;

/// Puts up to `most` keys of another cluster into the store; how many fitted.
fn fill_store(path: &std::path::Path, most: u32) -> u32 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = EmbeddedStore::open(path).unwrap();
        let mut keys = 0;
        while keys < most {
            let op = Op::put(format!("/filler/{keys:06}"), vec![0; 2048]);
            if store.commit(Txn { guards: vec![], ops: vec![op] }).await.is_err() {
                break;
            }
            keys += 1;
        }
        keys
    })
}

#[test]
fn what_another_daemon_uses_is_reported_with_the_flag() {
    let mut cluster = Cluster::start("ports", 1, GUIDE);
    let store = Some(format!("embedded:{}", cluster.lab.dir().join("other").display()));
    let options = ControllerOptions { store, ..ControllerOptions::default() };
    let second = cluster.lab.controller(options).unwrap();
    does_not_start(&second.process, &["--listen [2001:db8::c:1]:7300", "ADDRESS:PORT"]);
    assert!(!cluster.lab.dir().join("other").exists(), "nothing was made");
    let state = cluster.lab.dir().join("agent-2").display().to_string();
    let args = ["--state-dir", &state, "--node", "x"].map(str::to_owned).to_vec();
    let second = cluster.lab.agent(&cluster.hosts[0], AgentOptions { args, ..Default::default() }).unwrap();
    does_not_start(&second.process, &["another sextant-agent (process ", "in this network namespace"]);
    drop(second);
    let second = cluster.lab.agent(&cluster.hosts[0], AgentOptions::default()).unwrap();
    does_not_start(&second.process, &["another agent uses it", "--state-dir"]);
    cluster.settle();
    cluster.controller = None;
}

#[test]
fn unknown_config_keys_and_invalid_values_are_refused() {
    let lab = Lab::new("config").unwrap();
    let host = lab.host("h1").unwrap();
    let config = lab.dir().join("bad.toml");
    fs::write(&config, "listne = \"[::1]:7300\"\n").unwrap();
    let path = config.display().to_string();
    let controller = controller_with(&lab, &["--config", &path]);
    does_not_start_anywhere(&controller.process, &["bad.toml", "listne", "line 1"]);
    fs::write(&config, "[uplink]\nintreface = [\"eth0\"]\n").unwrap();
    let agent = |args: &[&str]| {
        let args = args.iter().map(ToString::to_string).collect();
        lab.agent(&host, AgentOptions { args, ..AgentOptions::default() }).unwrap()
    };
    does_not_start_anywhere(&agent(&["--config", &path]).process, &["bad.toml", "intreface", "line 2"]);
    does_not_start(&agent(&["--routes-table", "255"]).process, &["--routes-table 255"]);
}

/// As [`does_not_start`], for errors of several lines.
#[track_caller]
fn does_not_start_anywhere(process: &Process, words: &[&str]) {
    let status = process.wait(10 * SECONDS).unwrap();
    let log = process.log();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(words.iter().all(|word| log.contains(word)), "{words:?} in: {log}");
}

#[test]
fn a_missing_uplink_and_a_missing_capability_are_reported() {
    let lab = Lab::new("uplink").unwrap();
    let host = lab.host("h1").unwrap();
    let program = bin("sextant-agent").unwrap().display().to_string();
    let state = lab.dir().join("state").display().to_string();
    let base = [&program[..], "--controller", "http://[::1]:7300", "--node", "h1", "--state-dir", &state];
    let missing = host.spawn("missing", &[&base[..], &["--uplink", "eth7"]].concat()).unwrap();
    does_not_start(&missing, &["uplink \"eth7\" does not exist", "eth0", "agent.toml"]);
    let none = host.spawn("none", &base).unwrap();
    does_not_start(&none, &["no uplink is configured", "eth0", "--uplink"]);
    let drop = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"];
    let powerless = host.spawn("powerless", &[&drop[..], &base[..], &["--uplink", "eth0"]].concat()).unwrap();
    does_not_start(&powerless, &["CAP_NET_ADMIN", "root"]);
    assert!(host.routes_of(66).unwrap().is_empty());
}

#[test]
fn plain_text_beyond_loopback_needs_insecure() {
    let lab = Lab::new("plain text").unwrap();
    let program = bin("sextant-controller").unwrap().display().to_string();
    let args = [&program[..], "--listen", "[2001:db8::c:1]:7300"];
    does_not_start(
        &lab.switch().spawn("controller", &args).unwrap(),
        &["--listen 2001:db8::c:1", "--insecure"],
    );
}

#[test]
fn a_controller_address_with_another_server_is_reported() {
    let mut cluster = Cluster::start("something else", 1, GUIDE);
    cluster.controller = None;
    let address = "[2001:db8::c:1]:7300".parse::<std::net::SocketAddr>().unwrap();
    let listener = cluster.lab.switch().enter(|| std::net::TcpListener::bind(address)).unwrap().unwrap();
    // A web server, as far as it matters: it answers every request with a page.
    let server = std::thread::spawn(move || {
        listener.set_nonblocking(true).unwrap();
        let end = std::time::Instant::now() + 12 * SECONDS;
        while std::time::Instant::now() < end {
            if let Ok((mut stream, _)) = listener.accept() {
                let page = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                let _sent = std::io::Write::write_all(&mut stream, page);
            } else {
                std::thread::sleep(5 * MILLISECONDS);
            }
        }
    });
    let out = cluster.lab.cli(&["status"]).unwrap();
    refused(&out, 5, &["2001:db8::c:1", "not as a sextant-controller", "--listen"]);
    let reported =
        cluster.agents[0].process.wait_for_line("not as a sextant-controller", 10 * SECONDS).unwrap().text;
    assert!(reported.contains("2001:db8::c:1"), "{reported}");
    assert!(cluster.agents[0].process.ended().unwrap().is_none(), "the agent goes on, and keeps its routes");
    server.join().unwrap();
}

#[test]
fn an_unreachable_controller_is_reported() {
    let lab = Lab::new("no controller").unwrap();
    refused(&lab.cli(&["status"]).unwrap(), 5, &["[2001:db8::c:1]:7300"]);
}
