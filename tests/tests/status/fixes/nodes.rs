//! Nodes: copied disks, other names, other settings than the claim, and hosts that are gone.

use std::{fs, path::Path};

use sextant_proto::CLEAR_COPY;
use sextant_tests::{AgentOptions, SECONDS, poll};

use super::{
    bed::{Bed, commands, setting},
    copies::clear,
};
use crate::cluster::Cluster;

const ETH0: &str = "uplink.interface = \"eth0\"";

/// The files of a running agent, without its lock and the files that it is about to rename.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_file && entry.file_name() != "lock" {
            let _renamed = fs::copy(entry.path(), to.join(entry.file_name()));
        }
    }
}

pub fn state_dir(cluster: &Cluster, index: usize) -> std::path::PathBuf {
    cluster.lab.state_dir(&cluster.hosts[index])
}

/// The copy has its own name already.
#[test]
fn a_copied_disk_is_cleared_and_the_copy_gets_a_prefix_of_its_own() {
    let mut bed = Bed::well("fixed copy");
    let held = bed.cluster.prefix("h1");
    clear(&bed, 1);
    bed.run(0, "sextant node forget h2 --force");
    copy(&state_dir(&bed.cluster, 0), &state_dir(&bed.cluster, 1));
    bed.start_again(1, ETH0);
    let text = bed.expect("duplicate node id; the agent at");
    assert!(text.contains(CLEAR_COPY), "{text}");
    clear(&bed, 1);
    bed.start_again(1, ETH0);
    bed.cluster.settle();
    bed.renew_container(1);
    bed.expect_healed();
    assert_eq!(bed.cluster.prefix("h1"), held);
}

#[test]
fn a_host_with_anothers_name_gets_its_own_back_and_loses_nothing() {
    let mut bed = Bed::well("fixed name");
    let held = bed.cluster.prefix("h1");
    bed.stop(0);
    let named = AgentOptions { node: Some("h2".into()), ..AgentOptions::default() };
    bed.cluster.agents[0] = bed.cluster.lab.agent(bed.host(0), named).unwrap();
    let text = bed.expect("node h1 is refused under the name h2");
    let name = text.split_once("start the agent with --node ").unwrap().1.split([' ', ',', ';']).next();
    bed.stop(0);
    let named = AgentOptions { node: name.map(str::to_owned), ..AgentOptions::default() };
    bed.cluster.agents[0] = bed.cluster.lab.agent(bed.host(0), named).unwrap();
    bed.expect_healed();
    assert_eq!(bed.cluster.prefix("h1"), held);
}

const OTHER_LENGTH: (&str, &str) = ("host-len = 60", "--host-len 60 has no effect");
const OTHER_POOL: (&str, &str) = ("pool = \"other\"", "--pool other has no effect");

fn add_other_pool(bed: &Bed) {
    bed.run(0, "sextant pool add other fd00:0:5e00::/40 --host-len 64 --container-len 80");
}

/// Each fix has two alternatives: this is the first one.
#[test]
fn settings_that_differ_from_the_claim_are_changed() {
    let mut bed = Bed::well("fixed settings");
    let held = bed.cluster.prefix("h1");
    add_other_pool(&bed);
    for (settings, words) in [OTHER_LENGTH, OTHER_POOL] {
        bed.restart(0, &format!("{settings}\n{ETH0}"));
        let text = bed.expect(words);
        let key = settings.split(' ').next().unwrap();
        bed.restart(0, &format!("{}\n{ETH0}", setting(&text, key, "")));
        bed.expect_well();
        assert_eq!(bed.cluster.prefix("h1"), held);
    }
}

#[test]
fn a_node_whose_settings_differ_from_the_claim_claims_again() {
    let mut bed = Bed::well("fixed claim");
    for ((settings, words), becomes) in [(OTHER_LENGTH, "::/60"), (OTHER_POOL, "fd00:")] {
        if words == OTHER_POOL.1 {
            add_other_pool(&bed);
        }
        bed.restart(0, &format!("{settings}\n{ETH0}"));
        let text = bed.expect(words);
        let [drain, forget, list] = commands(&text)[..] else { panic!("{text}") };
        bed.run(0, drain);
        bed.stop(0);
        poll("the controller knows that the agent is stopped", 40 * SECONDS, || {
            let listed = bed.cluster.sextant(&list.split(' ').skip(1).collect::<Vec<_>>());
            let line = listed.lines().find(|line| line.starts_with("h1")).unwrap_or_default().to_owned();
            if line.contains("stopped") || line.contains("down") { Ok(()) } else { Err(line) }
        });
        bed.run(0, forget);
        bed.start_again(0, &format!("{settings}\n{ETH0}"));
        bed.cluster.settle();
        bed.renew_container(0);
        bed.expect_well();
        let prefix = bed.cluster.prefix("h1").to_string();
        assert!(prefix.contains(becomes), "{prefix}");
    }
}

#[test]
fn a_stopped_agent_is_started_and_a_host_that_is_gone_is_forgotten() {
    let mut bed = Bed::well("fixed down");
    let held = bed.cluster.prefix("h2");
    bed.stop(1);
    let text = bed.expect("node h2 is ready, but its agent was stopped");
    assert!(text.contains("start sextant-agent there"), "{text}");
    bed.start_again(1, ETH0);
    bed.expect_healed();
    assert_eq!(bed.cluster.prefix("h2"), held);

    bed.stop(1);
    bed.host(1).isolate().unwrap();
    let text = bed.expect("node h2 is ready, but its host is");
    bed.run(0, commands(&text)[0]);
    bed.containers.pop();
    poll("only h1 is left", 20 * SECONDS, || {
        let status = bed.cluster.sextant(&["status"]);
        anyhow::ensure!(status.starts_with("All is well"), "{status}");
        anyhow::Ok(())
    });
    bed.cluster.expect_routes(0, &[0]);
}
