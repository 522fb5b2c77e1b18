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

/// An engine, whose socket is of a group.
const DOCKER: &str = "[Service]\nType=notify\nExecStart=/usr/sbin/dockerd --storage-driver vfs --iptables=false --bridge none \
                      --group docker\nDelegate=yes\n";
const SPEC: &str = "/etc/docker/plugins/sextant.spec";

#[test]
fn one_command_sets_the_driver_up_and_takes_it_back() {
    let lab = Lab::new("the setup of the IPAM driver").unwrap();
    let hosts = lab.hosts(1).unwrap();
    let _controller = start_controller(&lab);
    let before = CONFIG.replace("mode = \"ipam\"", "mode = \"none\"");
    let machine = Machine::boot(&lab, &hosts[0], &[("agent.toml", &before)]);
    machine.etc_is_writable();
    machine.shell("getent group docker || groupadd --system docker");
    machine.write("/etc/systemd/system/docker.service", "644", DOCKER);
    machine.systemctl(&["daemon-reload"]);
    machine.systemctl(&["start", "docker"]);
    machine.systemctl(&["start", AGENT]);
    let setup = |args: &str| machine.shell(&format!("sextant-agent docker setup {args} 2>&1"));
    let state = |unit: &str| machine.property(unit, "ActiveState");
    poll("the host has a prefix", 30 * SECONDS, || {
        let shown = setup("--mode ipam --dry-run");
        anyhow::ensure!(shown.contains("would be done:"), "{shown}");
        Ok(())
    });
    assert!(machine.shell(&format!("ls {SPEC} 2>&1")).contains("No such file"));
    let asked = setup("--mode ipam");
    assert!(
        asked.contains("left to do: systemctl daemon-reload && systemctl stop sextant-agent &&"),
        "{asked}"
    );
    assert_ne!(state(SOCKET), "active", "nothing is restarted without permission");
    let done = setup("--restart");
    assert!(done.contains("done: systemd listens at the socket"), "{done}");
    answers(&machine);
    assert_eq!(machine.property(SOCKET, "UnitFileState"), "enabled");
    assert_eq!(machine.shell(&format!("cat {SPEC}")).trim(), "unix:///run/sextant/docker-ipam.sock");
    let again = setup("");
    assert!(again.contains("nothing to do"), "{again}");
    poll("a network of the driver", 20 * SECONDS, || {
        machine.run(&["docker", "network", "create", "--ipv6", "--ipam-driver", "sextant", "web"])
    });
    // Another mode needs no driver: its socket goes once no network uses it.
    let refused = setup("--mode none --restart");
    assert!(refused.contains("(`docker network rm web`), and try again"), "{refused}");
    assert_eq!(state(SOCKET), "active", "{refused}");
    machine.run(&["docker", "network", "rm", "web"]).unwrap();
    let left = setup("--mode none --restart");
    assert!(left.contains(&format!("{SOCKET} disabled")) && left.contains("sextant.spec removed"), "{left}");
    assert_ne!(state(SOCKET), "active");
    for file in [SPEC, "/etc/systemd/system/sextant-docker-ipam.socket"] {
        assert!(machine.shell(&format!("ls {file} 2>&1")).contains("No such file"), "{file}");
    }
    assert_eq!(machine.property(SOCKET, "LoadState"), "not-found");
    let again = setup("");
    assert!(again.contains("nothing to do"), "{again}");
    // The mode is changed by hand while there is a network.
    setup("--mode ipam --restart");
    let create = ["docker", "network", "create", "--ipv6", "--ipam-driver", "sextant", "web"];
    poll("a network of the driver", 20 * SECONDS, || machine.run(&create));
    machine.shell("sed -i s/ipam/none/ /etc/sextant/agent.toml");
    let said = setup("--restart");
    assert!(said.contains("left to do: docker network rm web, "), "{said}");
    machine.run(&["docker", "network", "rm", "web"]).unwrap();
    let left = setup("--restart");
    assert!(left.contains("sextant.spec removed"), "{left}");
    machine.shell("sed -i s/none/ipam/ /etc/sextant/agent.toml");
    let back = setup("--restart");
    assert!(back.contains("done: systemd listens at the socket"), "{back}");
    answers(&machine);

    let undone = setup("--undo");
    for words in
        ["sextant-docker-ipam.socket disabled", "sextant.spec removed", "systemctl restart sextant-agent"]
    {
        assert!(undone.contains(words), "{undone}");
    }
    assert_ne!(state(SOCKET), "active");
    for file in [SPEC, "/etc/systemd/system/sextant-docker-ipam.socket"] {
        assert!(machine.shell(&format!("ls {file} 2>&1")).contains("No such file"), "{file}");
    }
    assert_eq!(machine.shell("cat /etc/sextant/agent.toml"), before.trim());
}
