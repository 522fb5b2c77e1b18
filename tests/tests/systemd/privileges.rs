//! What the unit needs for a feature, by the drop-ins of the documentation, word for word.

use std::{fs, path::Path};

use sextant_tests::{Controller, ControllerOptions, Host, Lab, SECONDS, poll};

use crate::machine::Machine;

const AGENT: &str = "sextant-agent";
/// CAP_NET_ADMIN and CAP_NET_RAW, as /proc writes them.
const BOTH: &str = "0000000000003000";

const CONFIG: &str = r#"
controller = ["http://[2001:db8::c:1]:7300"]
insecure = true
node = "h1"
"#;

/// The drop-in of a page.
fn drop_in(page: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(page);
    let text = fs::read_to_string(&page).unwrap();
    let is_drop_in = |block: &&str| block.contains("[Service]") && block.contains("CAP_NET_RAW");
    let block =
        text.split("```").find(is_drop_in).unwrap_or_else(|| panic!("no drop-in in {}", page.display()));
    block.split_once('\n').unwrap().1.to_owned()
}

struct Bed {
    machine: Machine,
    host: Host,
    _controller: Controller,
    lab: Lab,
}

/// A host whose agent has these further settings and the drop-in of a page, once it is ready without a problem.
fn start(test: &str, pool: [&str; 6], settings: &str, page: &str) -> Bed {
    let lab = Lab::new(test).unwrap();
    let host = lab.hosts(1).unwrap().remove(0);
    let controller = lab.controller(ControllerOptions::default()).unwrap();
    controller.wait_ready(10 * SECONDS).unwrap();
    lab.cli(&[&["pool", "add"], &pool[..]].concat()).unwrap().succeeded().unwrap();
    let config = format!("{CONFIG}{settings}\n[uplink]\ninterface = [\"eth0\"]\n");
    let machine = Machine::boot(&lab, &host, &[("agent.toml", &config)]);
    machine.write("/run/systemd/system/sextant-agent.service.d/raw.conf", "644", &drop_in(page));
    machine.systemctl(&["daemon-reload"]);
    machine.systemctl(&["start", AGENT]);
    assert_eq!(machine.process_status(AGENT, "CapEff"), BOTH);
    poll("the host is ready without a problem", 20 * SECONDS, || {
        let node = lab.cli_json(&["node", "show", "h1"])?;
        let well =
            node["state"] == "ready" && node["applied"]["problems"].as_array().is_some_and(Vec::is_empty);
        anyhow::ensure!(well, "{node}");
        Ok(())
    });
    Bed { machine, host, _controller: controller, lab }
}

#[test]
fn the_agent_answers_solicitations_with_the_drop_in_of_the_ndp_proxy() {
    let pool = ["main", "2001:db8::c000/124", "--host-len", "125", "--container-len", "125"];
    let settings = "topology = \"ndp-proxy\"\n[bridge]\ninterface = \"docker0\"\ncreate = true";
    let bed = start("ndp proxy under systemd", pool, settings, "ndp-proxy.md");
    let container = bed.host.container("a").unwrap();
    let outsider = bed.lab.router().unwrap();
    poll("the container is reached", 20 * SECONDS, || {
        let journal = bed.machine.journal(AGENT);
        let ping = ["ping", "-6", "-c", "1", "-W", "1", &container.address().to_string()];
        outsider.check(&ping).map_err(|error| error.context(journal))
    });
}

#[test]
fn containers_get_addresses_with_the_drop_in_of_router_advertisements() {
    let pool = ["main", "2001:db8:8000::/40", "--host-len", "64", "--container-len", "64"];
    let settings = "[bridge]\ninterface = \"docker0\"\ncreate = true\nadvertise = true";
    let bed = start("advertisements under systemd", pool, settings, "containers.md");
    let container = bed.host.container_by_slaac("c").unwrap();
    assert!(container.address().to_string().starts_with("2001:db8:80"), "{}", container.address());
}
