//! The unit files, checked by systemd's own tools.

use std::{fs, process::Command};

use sextant_tests::bin;

use crate::machine::deploy_systemd;

const UNITS: [&str; 5] = [
    "sextant-agent.service",
    "sextant-controller.service",
    "sextant-agent-prepare.service",
    "sextant-docker-setup.service",
    "sextant-docker-setup.path",
];
/// The unit that starts the agent.
const SOCKET: &str = "sextant-docker-ipam.socket";
/// What `systemd-analyze security` may say at most, of 10: the agent must change the network, and little else is open. The setup of
/// Docker runs as root.
const EXPOSURE: [f64; 4] = [2.0, 1.5, 2.0, 3.0];

#[test]
fn systemd_analyze_verifies_the_units() {
    let dir = std::env::temp_dir().join(format!("sextant-units-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    // The binaries need not be installed here.
    let built = bin("sextant-agent").unwrap().parent().unwrap().display().to_string();
    let paths: Vec<_> = UNITS
        .into_iter()
        .chain([SOCKET])
        .map(|unit| {
            let text = fs::read_to_string(deploy_systemd().join(unit)).unwrap();
            fs::write(dir.join(unit), text.replace("/usr/local/bin", &built)).unwrap();
            dir.join(unit)
        })
        .collect();
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).args(&paths).output().unwrap();
    fs::remove_dir_all(&dir).unwrap();
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && printed.is_empty(),
        "systemd-analyze verify: {}: {printed}",
        output.status
    );
}

#[test]
fn the_units_stay_sandboxed() {
    for (unit, most) in UNITS.iter().zip(EXPOSURE) {
        let command = &mut Command::new("systemd-analyze");
        let output =
            command.args(["security", "--offline=yes"]).arg(deploy_systemd().join(unit)).output().unwrap();
        let printed =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        let line = printed.lines().find(|line| line.contains("Overall exposure level")).unwrap_or_default();
        println!("{line}");
        let level = line.split_whitespace().find_map(|word| word.parse::<f64>().ok());
        assert!(level.is_some_and(|level| level <= most), "more than {most}:\n{printed}");
    }
}
