//! The cluster's own authority and join tokens with the units, as docs/identity.md says.

use std::fs;

use sextant_tests::{Lab, SECONDS, poll};

use crate::machine::Machine;

const CONTROLLER: &str = "sextant-controller";
const AGENT: &str = "sextant-agent";
const CONTROLLER_TOML: &str =
    "listen = \"[2001:db8::c:1]:7300\"\npki = \"/run/credentials/sextant-controller.service\"\n";
const AGENT_TOML: &str = r#"
    controller = ["https://[2001:db8::c:1]:7300"]
    node = "h1"
    [uplink]
    interface = ["eth0"]
    [bridge]
    interface = "docker0"
    create = true
"#;
/// The lines of the drop-in, with the directory of this test.
const DROP_IN: &str = "[Service]\nLoadCredential=root.pem:/run/pki/root.pem\nLoadCredential=issuing.pem:/run/pki/issuing.pem\n\
                       LoadCredential=issuing.key:/run/pki/issuing.key\n";

/// Keys that only root may read, units without privileges, and `join` by root before and after the agent's first start.
#[test]
fn the_units_use_an_authority_that_only_root_may_read() {
    let lab = Lab::new("an authority under systemd").unwrap();
    let hosts = lab.hosts(1).unwrap();
    let machine = Machine::boot(&lab, lab.switch(), &[("controller.toml", CONTROLLER_TOML)]);
    let pki = |args: &[&str]| {
        machine.run(&[&["sextant-controller", "pki"], args, &["--dir", "/run/pki"]].concat()).unwrap()
    };
    pki(&["init", "--name", "c1"]);
    pki(&["admin", "ann"]);
    machine.write("/run/systemd/system/sextant-controller.service.d/pki.conf", "644", DROP_IN);
    machine.systemctl(&["daemon-reload"]);
    machine.systemctl(&["start", CONTROLLER]);
    assert!(!machine.process_status(CONTROLLER, "Uid").starts_with('0'), "it runs as root");

    let files = [("--tls-ca", "root.pem"), ("--tls-cert", "ann.pem"), ("--tls-key", "ann.key")];
    let flags: Vec<String> = files
        .into_iter()
        .flat_map(|(flag, name)| {
            let path = lab.dir().join(name);
            fs::write(&path, machine.run(&["cat", &format!("/run/pki/{name}")]).unwrap()).unwrap();
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
            [flag.to_owned(), path.display().to_string()]
        })
        .collect();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let sextant = |args: &[&str]| {
        let output = lab.cli_at("https://[2001:db8::c:1]:7300", &[&flags[..], args].concat()).unwrap();
        output.succeeded().unwrap().stdout
    };
    sextant(&["pool", "add", "main", "2001:db8:8000::/40", "--host-len", "64"]);

    let host = Machine::boot(&lab, &hosts[0], &[("agent.toml", AGENT_TOML)]);
    let join = || {
        host.write("/run/token", "600", &sextant(&["token", "create", "--node", "h1"]));
        host.run(&["sh", "-c", "sextant-agent join </run/token"]).unwrap();
    };
    let connected = || {
        poll("h1 is connected", 40 * SECONDS, || {
            let nodes = sextant(&["-o", "json", "node", "list"]);
            if nodes.contains("\"ready\"") && nodes.contains("\"connected\": true") {
                Ok(())
            } else {
                Err(nodes)
            }
        });
    };
    join();
    host.systemctl(&["start", AGENT]);
    connected();
    assert!(!host.process_status(AGENT, "Uid").starts_with('0'), "it runs as root");
    // A new key, in the directory of the unit's user.
    host.systemctl(&["stop", AGENT]);
    host.run(&["sh", "-c", "rm -r /var/lib/sextant/agent/tls"]).unwrap();
    join();
    host.systemctl(&["start", AGENT]);
    connected();
    assert_eq!(host.run(&["stat", "--format=%a", "/var/lib/sextant/agent/tls/node.key"]).unwrap(), "600");
}
