//! The embedded store's file is removed under a running controller.

use std::fs;

use sextant_tests::{
    ControllerOptions, SECONDS,
    cluster::{Cluster, GUIDE},
    poll,
};

/// Nothing that is acknowledged may be lost, so nothing is acknowledged until the file is back at its path.
#[test]
fn a_store_with_a_removed_file_takes_no_writes_and_no_other_controller_starts_on_its_path() {
    let cluster = Cluster::start("removed", 1, GUIDE);
    let path = cluster.lab.dir().join("controller-1");
    let (away, backup) = (cluster.lab.dir().join("away"), cluster.lab.dir().join("b").display().to_string());
    let controller = cluster.controller.as_ref().unwrap();
    fs::rename(&path, &away).unwrap();

    let reserve = ["reserve", "2001:db8:8000:77::/64"];
    let refused = cluster.lab.cli(&reserve).unwrap();
    assert!(refused.code == 5 && refused.stderr.contains("controller-1"), "{refused:?}");
    poll("the controller is not ready", 30 * SECONDS, || {
        let (code, body) = controller.http("/readyz")?;
        anyhow::ensure!(code == 503 && body.contains("controller-1"), "{code}: {body}");
        anyhow::Ok(())
    });
    let options = ControllerOptions {
        number: 2,
        store: Some(format!("embedded:{}", path.display())),
        ..ControllerOptions::default()
    };
    let second = cluster.lab.controller(options).unwrap();
    let status = second.process.wait(20 * SECONDS).unwrap();
    assert_eq!(status.code(), Some(1), "{}", second.process.log());
    assert!(!path.exists(), "a second controller made a store where the first one's was");
    cluster.sextant(&["backup", &backup]);

    fs::rename(&away, &path).unwrap();
    poll("the controller is ready again", 30 * SECONDS, || {
        let (code, body) = controller.http("/readyz")?;
        anyhow::ensure!(code == 200, "{code}: {body}");
        anyhow::Ok(())
    });
    cluster.sextant(&reserve);
    cluster.settle();
}
