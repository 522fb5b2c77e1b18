//! The cluster's own authority and join tokens with the units, as docs/identity.md says.

use std::{fs, path::Path};

use sextant_tests::{Host, Lab, SECONDS, poll};

use crate::machine::Machine;

const CONTROLLER: &str = "sextant-controller";
const AGENT: &str = "sextant-agent";
/// `/etc/sextant` is read-only in the lab's machine.
const PKI: &str = "/run/pki";
const CONTROLLER_TOML: &str = "listen = \"[2001:db8::c:1]:7300\"\npki = \"/run/pki\"\n";
const TOKEN: &str = "/etc/credstore/sextant-join-token";
const AGENT_TOML: &str = r#"
    controller = ["https://[2001:db8::c:1]:7300"]
    node = "h1"
    [uplink]
    interface = ["eth0"]
    [bridge]
    interface = "docker0"
    create = true
"#;

/// The drop-in of docs/identity.md with this name.
fn drop_in(name: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/identity.md");
    let page = fs::read_to_string(page).unwrap();
    let block = page.split("```ini\n").find(|block| block.lines().next().unwrap_or_default().ends_with(name));
    let block = block.unwrap_or_else(|| panic!("docs/identity.md has no {name}"));
    block.split("```").next().unwrap().replace("/etc/sextant/pki", PKI)
}

/// A controller with an authority of its own, by the commands of the page, and the pool "main".
struct Site {
    controller: Machine,
    hosts: Vec<Host>,
    lab: Lab,
}

impl Site {
    fn start(test: &str) -> Self {
        let lab = Lab::new(test).unwrap();
        let hosts = lab.hosts(1).unwrap();
        let controller = Machine::boot(&lab, lab.switch(), &[("controller.toml", CONTROLLER_TOML)]);
        controller.run(&["sextant-controller", "pki", "init", "--admin", "ann"]).unwrap();
        controller.write(
            "/run/systemd/system/sextant-controller.service.d/pki.conf",
            "644",
            &drop_in("/pki.conf"),
        );
        controller.systemctl(&["daemon-reload"]);
        controller.systemctl(&["start", CONTROLLER]);
        assert!(!controller.process_status(CONTROLLER, "Uid").starts_with('0'), "it runs as root");
        for name in ["root.pem", "ann.pem", "ann.key"] {
            let path = lab.dir().join(name);
            fs::write(&path, controller.run(&["cat", &format!("{PKI}/{name}")]).unwrap()).unwrap();
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        }
        let site = Self { controller, hosts, lab };
        site.sextant(&["pool", "add", "main", "2001:db8:8000::/40", "--host-len", "64"]);
        site
    }

    /// Runs `sextant` as ann.
    fn sextant(&self, args: &[&str]) -> String {
        let certificate = self.lab.dir().join("ann.pem").display().to_string();
        let args = [&["--tls-cert", &certificate], args].concat();
        self.lab.cli_at("https://[2001:db8::c:1]:7300", &args).unwrap().succeeded().unwrap().stdout
    }

    fn wait_connected(&self, is_connected: bool) {
        poll(&format!("h1 is connected: {is_connected}"), 40 * SECONDS, || {
            let nodes = self.sextant(&["-o", "json", "node", "list"]);
            let connected = nodes.contains("\"ready\"") && nodes.contains("\"connected\": true");
            if connected == is_connected { Ok(()) } else { Err(nodes) }
        });
    }
}

/// Keys that only root may read, units without privileges, and `join` by root before and after the agent's first start.
#[test]
fn the_units_use_an_authority_that_only_root_may_read() {
    let site = Site::start("an authority under systemd");
    // The commands continue to use the directory, and not the copies of the service.
    site.controller.run(&["sextant-controller", "pki", "admin", "bob", "--role", "viewer"]).unwrap();
    site.controller.run(&["stat", &format!("{PKI}/bob.pem")]).unwrap();

    let host = Machine::boot(&site.lab, &site.hosts[0], &[("agent.toml", AGENT_TOML)]);
    let join = || {
        host.write("/run/token", "600", &site.sextant(&["token", "create", "--node", "h1"]));
        host.run(&["sh", "-c", "sextant-agent join </run/token"]).unwrap();
    };
    join();
    host.systemctl(&["start", AGENT]);
    site.wait_connected(true);
    assert!(!host.process_status(AGENT, "Uid").starts_with('0'), "it runs as root");
    // A new key, in the directory of the unit's user.
    host.systemctl(&["stop", AGENT]);
    host.run(&["sh", "-c", "rm -r /var/lib/sextant/agent/tls"]).unwrap();
    join();
    host.systemctl(&["start", AGENT]);
    site.wait_connected(true);
    assert_eq!(host.run(&["stat", "--format=%a", "/var/lib/sextant/agent/tls/node.key"]).unwrap(), "600");
}

/// A host of a fleet: its image has the drop-in, the token is in a file that only root may read, and goes after the first start.
#[test]
fn a_unit_joins_at_its_first_start_and_starts_without_the_token_later() {
    let site = Site::start("a fleet under systemd");
    let host = Machine::boot(&site.lab, &site.hosts[0], &[("agent.toml", AGENT_TOML)]);
    host.write("/run/systemd/system/sextant-agent.service.d/join.conf", "644", &drop_in("/join.conf"));
    host.write(TOKEN, "600", &site.sextant(&["token", "create", "--node", "h*", "--count", "1"]));
    host.systemctl(&["daemon-reload"]);
    host.systemctl(&["start", AGENT]);
    site.wait_connected(true);
    host.systemctl(&["stop", AGENT]);
    site.wait_connected(false);
    host.run(&["rm", TOKEN]).unwrap();
    host.systemctl(&["start", AGENT]);
    site.wait_connected(true);
}
