//! The order of a boot: the host is set up before a container engine starts.

use sextant_tests::{Lab, SECONDS, poll};

use crate::{
    agent::{CONFIG, start_controller},
    machine::Machine,
};

const KEPT: &[&str] = &["/var/lib/private"];
/// In the place of an engine: it fails unless the host forwards, and the bridge has an address.
const ENGINE: &str = "[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nRemainAfterExit=yes\n\
    ExecStart=/bin/sh -c 'grep -qx 1 /proc/sys/net/ipv6/conf/all/forwarding && ip -6 address show dev docker0 | grep -q 2001:db8:8000:'\n";

fn boot(lab: &Lab, host: &sextant_tests::Host) -> Machine {
    let machine = Machine::boot_keeping(lab, host, &[("agent.toml", CONFIG)], KEPT);
    machine.write("/etc/systemd/system/docker.service", "644", ENGINE);
    machine.systemctl(&["daemon-reload"]);
    machine
}

#[test]
fn at_a_boot_without_a_controller_the_host_is_set_up_before_the_engine_starts() {
    let lab = Lab::new("boot order").unwrap();
    let host = lab.hosts(1).unwrap().remove(0);
    let controller = start_controller(&lab);
    let machine = boot(&lab, &host);
    machine.systemctl(&["start", "sextant-agent-prepare"]);
    assert!(machine.shell("systemctl start docker; systemctl is-failed docker").contains("failed"));
    machine.systemctl(&["stop", "sextant-agent-prepare"]);
    machine.systemctl(&["start", "sextant-agent"]);
    poll("the bridge has its address", 20 * SECONDS, || host.bridge_address());
    drop((machine, controller));
    host.power_off().unwrap();
    host.power_on().unwrap();

    let machine = boot(&lab, &host);
    // All at once, as at a boot.
    let all = ["sextant-agent-prepare", "sextant-agent", "docker"];
    machine.systemctl(&[&["start", "--no-block"], &all[..]].concat());
    poll("the engine has started", 30 * SECONDS, || {
        let state = machine.property("docker", "ActiveState");
        anyhow::ensure!(state == "active", "{state}: {}", machine.journal("sextant-agent-prepare"));
        Ok(())
    });
    poll("the agent runs", 30 * SECONDS, || {
        let state = machine.property("sextant-agent", "ActiveState");
        anyhow::ensure!(state == "active", "{state}: {}", machine.journal("sextant-agent"));
        Ok(())
    });
}
