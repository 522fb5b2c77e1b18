//! The unit that gives Docker the host's prefix, with a real engine as a service.

use sextant_tests::{Host, Lab, SECONDS, poll};

use crate::{agent::start_controller, machine::Machine};

const CONFIG: &str = r#"
    controller = ["http://[2001:db8::c:1]:7300"]
    insecure = true
    node = "h1"
    [uplink]
    interface = ["eth0"]
    [docker]
    mode = "daemon"
    restart = true
"#;
const DOCKER: &str = "[Service]\nType=notify\nExecStart=/usr/sbin/dockerd --storage-driver vfs --iptables=false\nDelegate=yes\n";

/// Waits until the engine's own bridge has the container prefix of the host. Returns that.
pub fn follows(machine: &Machine, lab: &Lab, not: &str) -> String {
    poll("Docker has the container prefix", 60 * SECONDS, || {
        let node = lab.cli_json(&["node", "show", "h1"])?;
        let prefix = node["claims"][0]["container_prefixes"][0].as_str().unwrap_or_default().to_owned();
        anyhow::ensure!(!prefix.is_empty() && prefix != not, "{node}");
        let format = "{{range .IPAM.Config}}{{.Subnet}} {{end}}";
        let has = machine.run(&["docker", "network", "inspect", "-f", format, "bridge"])?;
        let journal = machine.journal("sextant-docker-setup");
        anyhow::ensure!(has.split(' ').any(|it| it == prefix), "{has}, not {prefix}; {journal}");
        Ok(prefix)
    })
}

fn boot(lab: &Lab, host: &Host) -> Machine {
    let machine = Machine::boot(lab, host, &[("agent.toml", CONFIG)]);
    machine.write("/etc/systemd/system/docker.service", "644", DOCKER);
    machine.systemctl(&["daemon-reload"]);
    machine
}

#[test]
fn docker_follows_the_prefix_by_itself_where_that_is_allowed() {
    let lab = Lab::new("systemd docker").unwrap();
    let hosts = lab.hosts(1).unwrap();
    let _controller = start_controller(&lab);
    let machine = boot(&lab, &hosts[0]);
    machine.systemctl(&["start", "docker"]);
    // Later engines do not make it.
    machine.shell("rm -rf /etc/docker");
    machine.systemctl(&["enable", "--now", "sextant-docker-setup.path"]);
    machine.systemctl(&["enable", "--now", "sextant-agent"]);
    let first = follows(&machine, &lab, "");
    lab.cli(&["node", "reassign", "h1"]).unwrap().succeeded().unwrap();
    let second = follows(&machine, &lab, &first);
    // Docker puts a route of the former prefix there when it starts.
    poll("only the present prefix is on docker0", 10 * SECONDS, || {
        let bridge = hosts[0].ip("-6 route show dev docker0")?;
        anyhow::ensure!(!bridge.contains(&first) && bridge.contains(&second), "{bridge}");
        Ok(())
    });
    assert_eq!(machine.property("sextant-docker-setup", "Result"), "success");
}

/// systemd does not look at the files while the setup runs, which takes as long as Docker's restart.
#[test]
fn a_prefix_that_changes_during_a_setup_is_followed_too() {
    let lab = Lab::new("systemd docker twice").unwrap();
    let hosts = lab.hosts(1).unwrap();
    let _controller = start_controller(&lab);
    let machine = boot(&lab, &hosts[0]);
    machine.systemctl(&["start", "docker"]);
    machine.systemctl(&["enable", "--now", "sextant-docker-setup.path"]);
    machine.systemctl(&["enable", "--now", "sextant-agent"]);
    let first = follows(&machine, &lab, "");
    settled(&machine);
    let slow = "[Service]\nExecStopPost=/bin/sleep 4\n";
    machine.write("/etc/systemd/system/docker.service.d/slow.conf", "644", slow);
    machine.systemctl(&["daemon-reload"]);
    lab.cli(&["node", "reassign", "h1"]).unwrap().succeeded().unwrap();
    poll("the setup restarts Docker", 20 * SECONDS, || {
        let state = machine.property("docker", "SubState");
        anyhow::ensure!(state.starts_with("stop"), "{state}");
        Ok(())
    });
    lab.cli(&["node", "reassign", "h1"]).unwrap().succeeded().unwrap();
    follows(&machine, &lab, &first);
}

/// Pools of Docker's own have a part of each claim, so each counts; the file of the primary one is not written for others.
#[test]
fn the_setup_follows_each_of_several_claims() {
    let lab = Lab::new("systemd docker further claims").unwrap();
    let hosts = lab.hosts(1).unwrap();
    let _controller = start_controller(&lab);
    let further = ["pool", "add", "ula", "fd00:5e00::/40", "--host-len", "64", "--container-len", "80"];
    lab.cli(&further).unwrap().succeeded().unwrap();
    let config = format!("pool = [\"main\", \"ula\"]\n{CONFIG}");
    let machine = Machine::boot(&lab, &hosts[0], &[("agent.toml", &config)]);
    machine.write("/etc/systemd/system/docker.service", "644", DOCKER);
    machine.systemctl(&["daemon-reload"]);
    machine.systemctl(&["start", "docker"]);
    machine.systemctl(&["enable", "--now", "sextant-docker-setup.path"]);
    machine.systemctl(&["enable", "--now", "sextant-agent"]);
    let primary = follows(&machine, &lab, "");
    for (change, claims) in [("drain", 1), ("undrain", 2)] {
        let before = settled(&machine);
        lab.cli(&["pool", change, "ula"]).unwrap().succeeded().unwrap();
        if change == "drain" {
            lab.cli(&["node", "forget", "h1", "--pool", "ula", "--force"]).unwrap().succeeded().unwrap();
        }
        poll(&format!("the setup runs after {change}"), 20 * SECONDS, || {
            let node = lab.cli_json(&["node", "show", "h1"])?;
            let count = node["claims"].as_array().map_or(0, Vec::len);
            let now = invocation(&machine);
            anyhow::ensure!(count == claims && now != before, "{now} after {before}: {node}");
            Ok(())
        });
        assert_eq!(follows(&machine, &lab, ""), primary, "the primary claim is as it was");
    }
}

/// The last run of the setup.
fn invocation(machine: &Machine) -> String {
    machine.property("sextant-docker-setup", "InvocationID")
}

/// The last run of the setup, which has ended, and no other follows.
fn settled(machine: &Machine) -> String {
    poll("the setup has ended", 30 * SECONDS, || {
        let (state, before) = (machine.property("sextant-docker-setup", "ActiveState"), invocation(machine));
        anyhow::ensure!(state == "inactive", "{state}");
        machine.shell("sleep 1");
        anyhow::ensure!(invocation(machine) == before, "another run");
        Ok(before)
    })
}

#[test]
fn a_longer_prefix_at_the_same_address_takes_two_starts_of_docker() {
    let lab = Lab::new("systemd docker longer").unwrap();
    let hosts = lab.hosts(1).unwrap();
    let _controller = start_controller(&lab);
    let machine = boot(&lab, &hosts[0]);
    machine.systemctl(&["enable", "--now", "sextant-agent"]);
    machine.systemctl(&["stop", "sextant-agent"]);
    let nodes = lab.cli_json(&["node", "list"]).unwrap();
    let host = nodes[0]["prefix"].as_str().unwrap();
    let daemon_json = format!("{{\"ipv6\": true, \"fixed-cidr-v6\": \"{host}\"}}");
    machine.write("/etc/docker/daemon.json", "644", &daemon_json);
    machine.systemctl(&["start", "docker"]);
    let setup = |args: &[&str]| machine.shell(&format!("sextant-agent docker setup {}", args.join(" ")));
    let shown = setup(&["--dry-run"]);
    assert_eq!(shown.matches("restart Docker").count(), 2, "{shown}");
    let done = setup(&[]);
    machine.systemctl(&["start", "sextant-agent"]);
    follows(&machine, &lab, "");
    assert!(setup(&[]).contains("nothing to do"), "{done}");
    let bridge = hosts[0].ip("-6 address show dev docker0 scope global").unwrap();
    assert!(bridge.contains("/80") && !bridge.contains("/64"), "{bridge}");
    assert!(setup(&["--undo"]).contains("daemon.json restored"));
    assert_eq!(machine.shell("cat /etc/docker/daemon.json"), daemon_json);
}
