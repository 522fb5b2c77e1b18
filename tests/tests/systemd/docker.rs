//! The unit that gives Docker the host's prefix, with a real engine as a service.

use sextant_tests::{Lab, SECONDS, poll};

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
fn follows(machine: &Machine, lab: &Lab, not: &str) -> String {
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

#[test]
fn docker_follows_the_prefix_by_itself_where_that_is_allowed() {
    let lab = Lab::new("systemd docker").unwrap();
    let hosts = lab.hosts(1).unwrap();
    let _controller = start_controller(&lab);
    let machine = Machine::boot(&lab, &hosts[0], &[("agent.toml", CONFIG)]);
    machine.write("/etc/systemd/system/docker.service", "644", DOCKER);
    machine.systemctl(&["daemon-reload"]);
    machine.systemctl(&["start", "docker"]);
    machine.systemctl(&["enable", "--now", "sextant-docker-setup.path"]);
    machine.systemctl(&["enable", "--now", "sextant-agent"]);
    let first = follows(&machine, &lab, "");
    lab.cli(&["node", "reassign", "h1"]).unwrap().succeeded().unwrap();
    let second = follows(&machine, &lab, &first);
    let bridge = hosts[0].ip("-6 route show dev docker0").unwrap();
    assert!(!bridge.contains(&first) && bridge.contains(&second), "{bridge}");
    assert_eq!(machine.property("sextant-docker-setup", "Result"), "success");
}
