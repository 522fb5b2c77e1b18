//! The socket of the IPAM driver, on which systemd listens for the agent.

use std::fs;

use sextant_tests::{Lab, SECONDS, expect_text, poll};

use crate::{
    agent::start_controller,
    machine::{Machine, deploy_systemd},
};

const AGENT: &str = "sextant-agent";
const SOCKET: &str = "sextant-docker-ipam.socket";
const CONFIG: &str = r#"
    controller = ["http://[2001:db8::c:1]:7300"]
    insecure = true
    node = "h1"
    [uplink]
    interface = ["eth0"]
    [docker]
    mode = "ipam"
"#;
/// Asks the driver for the kinds of plugin that it is, as an engine does when it starts.
const ACTIVATE: &str = r#"perl -MIO::Socket::UNIX -e '
    $socket = IO::Socket::UNIX->new("/run/sextant/docker-ipam.sock") or die $!;
    print $socket "POST /Plugin.Activate HTTP/1.0\r\nContent-Length: 0\r\n\r\n";
    print <$socket>' 2>&1"#;

fn answers(machine: &Machine) {
    let answer = machine.shell(ACTIVATE);
    assert!(answer.contains(r#"{"Implements":["IpamDriver"]}"#), "{answer}\n{}", machine.journal(AGENT));
}

#[test]
fn a_request_starts_the_agent_which_takes_the_socket_over() {
    let lab = Lab::new("the socket of the IPAM driver").unwrap();
    let hosts = lab.hosts(1).unwrap();
    let controller = start_controller(&lab);
    let machine = Machine::boot(&lab, &hosts[0], &[("agent.toml", CONFIG)]);
    let unit = fs::read_to_string(deploy_systemd().join(SOCKET)).unwrap();
    machine.write(&format!("/etc/systemd/system/{SOCKET}"), "644", &unit);
    machine.systemctl(&["daemon-reload"]);
    machine.systemctl(&["enable", "--now", SOCKET]);
    assert_eq!(machine.shell("systemctl is-active sextant-agent").trim(), "inactive");
    answers(&machine);
    poll("the agent is ready", 30 * SECONDS, || {
        let state = machine.property(AGENT, "ActiveState");
        anyhow::ensure!(state == "active", "{state}");
        Ok(())
    });
    answers(&machine);
    // A stopped agent is started again, also where no controller can be reached.
    drop(controller);
    machine.systemctl(&["stop", AGENT]);
    answers(&machine);
    machine.systemctl(&["restart", AGENT]);
    answers(&machine);
    expect_text("the socket is root's alone", SECONDS, "600 root", || {
        machine.run(&["stat", "--format=%a %U", "/run/sextant/docker-ipam.sock"])
    });
}
