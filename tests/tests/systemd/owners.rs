//! Agent and controller of one machine: users and state directories of their own, and the way there from units that shared them.

use std::{fs, path::Path};

use sextant_tests::{Host, Lab, SECONDS, bin, poll};

use crate::machine::Machine;

const UNITS: [&str; 2] = ["sextant-controller", "sextant-agent"];
const CONTROLLER: &str = "listen = \"[::1]:7300\"\ninsecure = true\n";
const AGENT: &str = "controller = [\"http://[::1]:7300\"]\ninsecure = true\nnode = \"h1\"\n[bridge]\ncreate = true\n[uplink]\ninterface = [\"eth0\"]\n";
/// What the units had before.
const SHARED: &str = "[Service]\nUser=sextant\nStateDirectory=\nStateDirectory=sextant\n";

struct Bed {
    machine: Machine,
    host: Host,
    _lab: Lab,
}

impl Bed {
    fn new(test: &str) -> Self {
        let lab = Lab::new(test).unwrap();
        let host = lab.hosts(1).unwrap().remove(0);
        let files = [("controller.toml", CONTROLLER), ("agent.toml", AGENT)];
        Self { machine: Machine::boot(&lab, &host, &files), host, _lab: lab }
    }

    fn sextant(&self, args: &[&str]) -> anyhow::Result<String> {
        let program = bin("sextant")?.display().to_string();
        self.host.check(&[&[program.as_str()], args].concat())
    }

    fn start(&self) {
        self.machine.systemctl(&["start", UNITS[0], UNITS[1]]);
    }

    /// The claim's prefix and the store's incarnation, once there is a claim.
    fn claim(&self) -> [String; 2] {
        poll("the node is ready", 30 * SECONDS, || {
            let nodes: serde_json::Value =
                serde_json::from_str(&self.sextant(&["-o", "json", "node", "list"])?)?;
            anyhow::ensure!(nodes[0]["state"] == "ready", "{nodes}");
            let status: serde_json::Value = serde_json::from_str(&self.sextant(&["-o", "json", "status"])?)?;
            Ok([nodes[0]["prefix"].to_string(), status["incarnation"].to_string()])
        })
    }

    fn add_pool(&self) {
        self.sextant(&["pool", "add", "main", "2001:db8:8000::/40", "--host-len", "64"]).unwrap();
    }
}

#[test]
fn neither_daemon_reads_the_others_state() {
    let bed = Bed::new("owners");
    bed.start();
    bed.add_pool();
    bed.claim();
    let machine = &bed.machine;
    let dirs = ["/var/lib/sextant/controller", "/var/lib/sextant/agent"];
    let users =
        UNITS.map(|unit| machine.process_status(unit, "Uid").split_whitespace().next().unwrap().to_owned());
    assert_ne!(users[0], users[1]);
    for (index, (user, dir)) in users.iter().zip(dirs).enumerate() {
        assert_eq!(machine.run(&["stat", "-L", "--format=%u %a", dir]).unwrap(), format!("{user} 700"));
        // Beside the mode, systemd hides the directory of such users from all others.
        let list = ["setpriv", "--reuid", user, "--clear-groups", "ls", dirs[1 - index]];
        let error = machine.run(&list).unwrap_err().to_string();
        assert!(error.contains("Permission denied"), "{error}");
    }
}

/// The commands of the page that begin with these words, up to the end of their block.
fn commands_from(words: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md");
    let text = fs::read_to_string(&page).unwrap();
    let block = text.split("```").find(|block| block.contains(words));
    let block = block.unwrap_or_else(|| panic!("no `{words}` in {}", page.display()));
    block.split_once('\n').unwrap().1.replace("sudo ", "")
}

#[test]
fn a_store_and_a_claim_of_former_units_are_moved_by_the_documented_commands() {
    let bed = Bed::new("former owners");
    let machine = &bed.machine;
    let drop_ins = UNITS.map(|unit| format!("/run/systemd/system/{unit}.service.d/shared.conf"));
    drop_ins.iter().for_each(|path| machine.write(path, "644", SHARED));
    let store = "SEXTANT_STORE=embedded:/var/lib/sextant/controller.redb";
    machine.write(&drop_ins[0], "644", &format!("{SHARED}Environment={store}\n"));
    machine.systemctl(&["daemon-reload"]);
    bed.start();
    bed.add_pool();
    let before = bed.claim();

    machine.run(&[&["rm"], &drop_ins.each_ref().map(String::as_str)[..]].concat()).unwrap();
    machine.systemctl(&["daemon-reload"]);
    machine.run(&["sh", "-e", "-c", &commands_from("controller.redb* ")]).unwrap();
    assert_eq!(bed.claim(), before);
    assert_eq!(machine.run(&["ls", "/var/lib/sextant"]).unwrap(), "agent\ncontroller");
}
