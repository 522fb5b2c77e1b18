//! Agent and controller over TLS: the units' users read the keys by the group and the drop-in of docs/identity.md.

use std::{fs, path::Path};

use serde_json::Value;
use sextant_tests::{Lab, SECONDS, poll};

use crate::{
    authority::{Authority, Files},
    machine::Machine,
};

/// The code blocks of this language in docs/identity.md.
fn blocks(language: &str) -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/identity.md");
    let page = fs::read_to_string(page).unwrap();
    let fence = format!("```{language}\n");
    page.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// Installs a member's files, with the key for the group, and the drop-in of the unit.
fn install(machine: &Machine, unit: &str, files: &Files) {
    let paths = files.paths();
    let command = blocks("sh").into_iter().find(|block| block.contains("groupadd")).unwrap();
    let group = command.lines().find(|line| line.contains("groupadd")).unwrap().trim_start_matches("sudo ");
    let install =
        command.lines().find(|line| line.contains("install -o")).unwrap().trim_start_matches("sudo ");
    for (path, name, mode) in [
        (&paths.authorities, "ca.pem", "644"),
        (&paths.certificate, "cert.pem", "644"),
        (&paths.key, "c1.key", "600"),
    ] {
        machine.write(&format!("/root/{name}"), mode, &fs::read_to_string(path).unwrap());
    }
    // /etc/sextant is read-only in the lab's machine.
    let install = install.replace("/etc/sextant/", "/etc/sextant-tls/");
    let public = "install -m 644 ca.pem cert.pem /etc/sextant-tls/";
    let line = format!("set -e; cd /root; mkdir -p /etc/sextant-tls; {group}; {install}; {public}");
    machine.run(&["sh", "-c", &line]).unwrap();
    let drop_in = blocks("ini").into_iter().find(|block| block.contains("SupplementaryGroups")).unwrap();
    machine.write(&format!("/run/systemd/system/{unit}.service.d/tls.conf"), "644", &drop_in);
    machine.systemctl(&["daemon-reload"]);
}

const TLS: &str = "[tls]\nca = \"/etc/sextant-tls/ca.pem\"\ncert = \"/etc/sextant-tls/cert.pem\"\nkey = \"/etc/sextant-tls/c1.key\"\n";

#[test]
fn agent_and_controller_read_their_keys_by_the_documented_drop_in() {
    let lab = Lab::new("TLS under systemd").unwrap();
    let hosts = lab.hosts(1).unwrap();
    let authority = Authority::new();
    let member = |name: &str, role| {
        let dir = lab.dir().join(format!("tls-{}", name.replace('/', "-")));
        authority.member(&dir, &format!("spiffe://default/{name}"), role)
    };
    let config = format!("listen = \"[2001:db8::c:1]:7300\"\n{TLS}");
    let controller = Machine::boot(&lab, lab.switch(), &[("controller.toml", &config)]);
    install(&controller, "sextant-controller", &member("controller/c1", None));
    lab.switch().ip("address replace 2001:db8::c:1/64 dev br0 nodad").unwrap();
    controller.systemctl(&["enable", "--now", "sextant-controller"]);
    let admin = member("admin/ann", Some("admin")).flags();
    let sextant = |args: &[&str]| {
        let flags: Vec<&str> = admin.iter().map(String::as_str).collect();
        lab.cli_at("https://[2001:db8::c:1]:7300", &[&flags[..], args].concat())
            .unwrap()
            .succeeded()
            .unwrap()
            .stdout
    };
    sextant(&["pool", "add", "main", "2001:db8:8000::/40", "--host-len", "64", "--container-len", "80"]);

    let config = format!(
        "controller = [\"https://[2001:db8::c:1]:7300\"]\nnode = \"h1\"\n[uplink]\ninterface = [\"eth0\"]\n[bridge]\n\
         interface = \"docker0\"\ncreate = true\n{TLS}"
    );
    let agent = Machine::boot(&lab, &hosts[0], &[("agent.toml", &config)]);
    install(&agent, "sextant-agent", &member("node/h1", None));
    agent.systemctl(&["enable", "--now", "sextant-agent"]);
    poll("h1 is ready over TLS", 30 * SECONDS, || {
        let nodes: Value = serde_json::from_str(&sextant(&["-o", "json", "node", "list"]))?;
        anyhow::ensure!(nodes[0]["state"] == "ready" && nodes[0]["connected"] == true, "{nodes}");
        anyhow::Ok(())
    });
    for (machine, unit) in [(&controller, "sextant-controller"), (&agent, "sextant-agent")] {
        assert!(!machine.process_status(unit, "Uid").starts_with('0'), "{unit} runs as root");
        let mode = machine.run(&["stat", "--format=%a %U %G", "/etc/sextant-tls/c1.key"]).unwrap();
        assert_eq!(mode, "640 root sextant-tls", "{unit}");
    }
    assert!(sextant(&["events"]).contains("node h1 at "));
    // Without the drop-in, the key cannot be read.
    controller.run(&["rm", "/run/systemd/system/sextant-controller.service.d/tls.conf"]).unwrap();
    controller.systemctl(&["daemon-reload"]);
    controller.systemctl(&["stop", "sextant-controller"]);
    controller.systemctl(&["start", "--no-block", "sextant-controller"]);
    poll("it says why", 20 * SECONDS, || {
        let journal = controller.journal("sextant-controller");
        anyhow::ensure!(
            journal.contains("/etc/sextant-tls/c1.key") && journal.contains("Permission denied"),
            "{journal}"
        );
        anyhow::Ok(())
    });
}
