//! Commands without a reader: they do their work, and exit with the code of their result.

use std::{
    io::{BufRead, BufReader, PipeWriter, pipe},
    process::{Command, Stdio},
};

use sextant_tests::{
    Namespace, SECONDS, bin,
    cluster::{Cluster, GUIDE},
    lab::daemons::controller_url,
    try_poll,
};

/// The exit code of a program without a reader of its output and its errors.
fn unread(namespace: &Namespace, program: &str, args: &[&str]) -> Option<i32> {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let mut command = piped(program, args, &writer);
    command.stderr(writer);
    namespace.enter(|| command.status()).unwrap().unwrap().code()
}

fn piped(program: &str, args: &[&str], stdout: &PipeWriter) -> Command {
    let mut command = Command::new(bin(program).unwrap());
    command.args(args).stdin(Stdio::null()).stdout(stdout.try_clone().unwrap());
    command
}

#[test]
fn the_agents_commands_do_their_work_without_a_reader() {
    let mut cluster = Cluster::start("unread agent", 1, GUIDE);
    let host = cluster.hosts[0].clone();
    assert_eq!(unread(&host, "sextant-agent", &["--uplink", "eth0", "doctor"]), Some(0));
    for fix in [&[][..], &["--fix"]] {
        assert_eq!(unread(&host, "sextant-agent", &[&["--uplink", "eth7", "doctor"], fix].concat()), Some(1));
    }
    assert_eq!(unread(&host, "sextant-agent", &["--help"]), Some(0));
    assert_eq!(unread(&host, "sextant-agent", &["--no-such-flag"]), Some(2));
    let state_dir = cluster.lab.state_dir(&host).display().to_string();
    let cleanup = ["cleanup", "--state-dir", &state_dir];
    assert_eq!(unread(&host, "sextant-agent", &cleanup), Some(1), "an agent uses the directory");
    cluster.agents.remove(0).process.terminate(10 * SECONDS).unwrap();
    assert_eq!(unread(&host, "sextant-agent", &[&cleanup[..], &["--dry-run"]].concat()), Some(0));
    assert!(!host.routes_of(66).unwrap().is_empty());
    assert_eq!(unread(&host, "sextant-agent", &cleanup), Some(0));
    assert_eq!(host.routes_of(66).unwrap(), [""; 0]);
}

#[test]
fn the_command_line_does_its_work_without_a_reader() {
    let cluster = Cluster::start("unread commands", 2, GUIDE);
    let (switch, url) = (cluster.lab.switch(), controller_url(1));
    let backup = cluster.lab.dir().join("backup").display().to_string();
    let commands: [(&[&str], i32); 13] = [
        (&["status"], 0),
        (&["node", "list"], 0),
        (&["node", "show", "nobody"], 3),
        (&["route", "list"], 0),
        (&["events"], 0),
        (&["wait", "--timeout", "10s"], 0),
        (&["trace", "h1", "h2"], 0),
        (&["backup", &backup], 0),
        (&["pool", "add", "other", "2001:db8:a000::/40", "--host-len", "64"], 0),
        (&["node", "drain", "h2"], 0),
        (&["node", "undrain", "h2"], 0),
        (&["completions", "bash"], 0),
        (&["pool", "add", "other"], 2),
    ];
    for (args, code) in commands {
        let args = [&["--controller", &url, "--insecure"], args].concat();
        assert_eq!(unread(switch, "sextant", &args), Some(code), "{args:?}");
    }
    assert!(cluster.lab.cli(&["pool", "show", "other"]).unwrap().succeeded().is_ok());
    assert!(std::fs::metadata(&backup).unwrap().len() > 0);
    for (bad, code) in [(&["--no-such-flag"][..], 2), (&["--store", "nowhere"], 1)] {
        assert_eq!(unread(switch, "sextant-controller", bad), Some(code), "{bad:?}");
    }
}

#[test]
fn following_events_ends_when_the_reader_has_gone_before_the_next_event() {
    let cluster = Cluster::start("events | head", 1, GUIDE);
    let url = controller_url(1);
    let (reader, writer) = pipe().unwrap();
    let args = ["--controller", &url, "--insecure", "events", "--follow", "--last", "10"];
    let mut command = piped("sextant", &args, &writer);
    drop(writer);
    let mut follow = cluster.lab.switch().enter(|| command.spawn()).unwrap().unwrap();
    drop(command);
    let mut line = String::new();
    let mut reader = BufReader::new(reader);
    reader.read_line(&mut line).unwrap();
    assert!(!line.is_empty());
    assert_eq!(follow.try_wait().unwrap(), None);
    drop(reader);
    let ended = try_poll(2 * SECONDS, || follow.try_wait().unwrap().ok_or(()));
    let _ = follow.kill();
    assert!(ended.unwrap().success(), "{ended:?}");
}
