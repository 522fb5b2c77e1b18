//! Containers that outlive their engine (`"live-restore": true`).

use std::process::Command;

use nix::sys::signal::Signal;
use sextant_tests::{SECONDS, enter_at, poll};

use crate::bed::{Bed, NETWORK};

const LIVE_RESTORE: [&str; 1] = ["--live-restore"];

/// Sends an echo request in the namespace of a container, without the engine.
fn ping(namespace: &std::path::Path, to: &str) {
    let ping = || Command::new("ping").args(["-6", "-c", "1", "-W", "1", to]).output();
    poll(&format!("{to} answers"), 10 * SECONDS, || {
        let done = enter_at(namespace, ping)??;
        anyhow::ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
        Ok(())
    });
}

#[test]
fn containers_reach_each_other_while_their_engines_are_away_and_keep_their_addresses() {
    let mut bed = Bed::start_with("docker live restore", 2, &[], &LIVE_RESTORE);
    let web = |index: usize| bed.engines[index].container("web", &["--network", "sextant"]).unwrap();
    let addresses = [web(0), web(1)];
    let namespaces = [0, 1].map(|index| bed.engines[index].namespace_of("web").unwrap());
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        bed.engines.iter_mut().for_each(|engine| engine.end_engine(signal).unwrap());
        bed.status_has(&["Docker does not answer at"]);
        for (from, to) in [(0, 1), (1, 0)] {
            ping(&namespaces[from], &addresses[to]);
        }
        // The agent keeps the bridge and the rules meanwhile, and also starts without an engine.
        if signal == Signal::SIGKILL {
            bed.restart_agents(&NETWORK);
            ping(&namespaces[0], &addresses[1]);
        }
        bed.engines.iter_mut().for_each(|engine| engine.start_engine(&LIVE_RESTORE).unwrap());
        bed.status_is_silent();
        for (index, address) in addresses.iter().enumerate() {
            assert_eq!(bed.engines[index].address("web").unwrap(), *address);
            assert_eq!(
                bed.engines[index].namespace_of("web").unwrap(),
                namespaces[index],
                "it was not restarted"
            );
            bed.pings(index, "web", &addresses[1 - index]);
        }
    }
    let later = bed.engines[1].container("later", &["--network", "sextant"]).unwrap();
    assert!(!addresses.contains(&later), "{later}");
    bed.pings(0, "web", &later);
}
