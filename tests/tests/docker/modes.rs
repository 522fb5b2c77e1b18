//! A host that is set up for one mode after another: nothing of a former one is left.

use std::fs;

use sextant_tests::{SECONDS, poll};

use crate::setup_bed::SetupBed;

/// Sets the only host up for a mode, as an operator does by what the command says. Returns that.
fn change_to(bed: &mut SetupBed, mode: &str) -> String {
    let shown = bed.setup(0, &["--mode", mode]).unwrap();
    if shown.contains("restart Docker") {
        bed.restart_engine(0).unwrap();
    }
    let bridge = if ["daemon", "pools"].contains(&mode) { "docker0" } else { "" };
    bed.restart_agent_on(0, bridge);
    bed.setup(0, &[]).unwrap();
    shown
}

fn networks(bed: &SetupBed) -> String {
    bed.engines[0].run(&["network", "ls", "--format", "{{.Name}}"]).unwrap()
}

#[test]
fn a_mode_takes_back_what_another_one_wrote_into_daemon_json() {
    let mut bed = SetupBed::start("docker modes", 1, &[]);
    let file = bed.engines[0].daemon_json();
    let before = "{ \"debug\": true }";
    fs::write(&file, before).unwrap();
    change_to(&mut bed, "daemon");
    bed.status_is_silent();
    let first = bed.container_prefix(0).replace("/80", "1/80");
    for mode in ["network", "none"] {
        let shown = change_to(&mut bed, mode);
        assert!(shown.contains("take back what an earlier setup wrote into"), "{shown}");
        assert_eq!(fs::read_to_string(&file).unwrap(), before, "{shown}");
        poll("docker0 has nothing of Docker's", 10 * SECONDS, || {
            // With none, docker0 is the bridge of the agent's settings, which has the agent's address.
            let bridge = bed.bridge(0);
            let right = if mode == "none" { bridge == first } else { bridge.is_empty() };
            anyhow::ensure!(right, "{bridge}");
            Ok(())
        });
        if mode == "network" {
            poll("the network is made", 20 * SECONDS, || {
                anyhow::ensure!(networks(&bed).lines().any(|name| name == "sextant"));
                Ok(())
            });
            let taken = bed.setup(0, &["--mode", "daemon"]).unwrap_err().to_string();
            assert!(taken.contains("docker network rm sextant"), "{taken}");
            // The fix, word for word.
            bed.cluster.agents[0].process.freeze().unwrap();
            bed.engines[0].run(&["network", "rm", "sextant"]).unwrap();
            bed.cluster.hosts[0].ip("link delete sextant0").unwrap();
            bed.setup(0, &["--mode", "daemon"]).unwrap();
            bed.cluster.agents[0].process.thaw().unwrap();
            change_to(&mut bed, "daemon");
            bed.status_is_silent();
            assert!(!networks(&bed).contains("sextant"));
        }
        let again = bed.setup(0, &[]).unwrap();
        assert!(again.contains("nothing to do"), "{again}");
    }
    bed.setup(0, &["--undo"]).unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), before);
}

#[test]
fn pools_for_networks_go_with_their_mode_where_docker_has_them() {
    let mut bed = SetupBed::start("docker modes pools", 1, &[]);
    let version = bed.engines[0].run(&["version", "-f", "{{.Server.Version}}"]).unwrap();
    if version.split('.').next().unwrap().parse::<u32>().unwrap() < 27 {
        return;
    }
    let (file, theirs) =
        (bed.engines[0].daemon_json(), "\"default-address-pools\":[{\"base\":\"10.99.0.0/16\",\"size\":24}]");
    fs::write(&file, format!("{{{theirs}}}")).unwrap();
    let has_pools = |bed: &SetupBed| {
        let text = fs::read_to_string(bed.engines[0].daemon_json()).unwrap();
        text.contains(&bed.container_prefix(0).replace("/80", "/64"))
    };
    change_to(&mut bed, "pools");
    assert!(has_pools(&bed));
    change_to(&mut bed, "daemon");
    let text = fs::read_to_string(&file).unwrap();
    assert!(!has_pools(&bed) && text.contains(theirs) && text.contains("fixed-cidr-v6"), "{text}");
    bed.status_is_silent();
    change_to(&mut bed, "pools");
    assert!(has_pools(&bed));
    change_to(&mut bed, "none");
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("{{{theirs}}}"));
}
