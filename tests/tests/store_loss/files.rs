//! Backup files that exist already, are damaged, or conflict with the live cluster.

use std::fs;

use sextant_tests::cluster::{Cluster, GUIDE};

#[test]
fn a_backup_is_replaced_only_by_force_and_restored_only_where_it_fits() {
    let cluster = Cluster::without_agents("backup files", 0, GUIDE);
    let path = cluster.lab.dir().join("b");
    let file = path.display().to_string();
    let add = |host_len| {
        cluster.sextant(&["pool", "add", "other", "2001:db8:7::/48", "--host-len", host_len]);
    };
    add("64");
    cluster.sextant(&["backup", &file]);
    let again = cluster.lab.cli(&["backup", &file]).unwrap();
    assert!(again.code == 4 && again.stderr.contains("--force"), "{again:?}");
    cluster.sextant(&["backup", &file, "--force"]);

    let status = |key: &str| cluster.lab.cli_json(&["status"]).unwrap()[key].clone();
    let before = status("incarnation");
    let mut octets = fs::read(&path).unwrap();
    *octets.last_mut().unwrap() ^= 1;
    let damaged = cluster.lab.dir().join("damaged");
    fs::write(&damaged, &octets).unwrap();
    let refused = cluster.lab.cli(&["restore", &damaged.display().to_string()]).unwrap();
    assert!(refused.code == 2 && refused.stderr.contains("is damaged: its checksum is"), "{refused:?}");

    cluster.sextant(&["pool", "remove", "other"]);
    add("60");
    let refused = cluster.lab.cli(&["restore", &file]).unwrap();
    assert_eq!(refused.code, 4, "{refused:?}");
    let why =
        "pool other 2001:db8:7::/48 (hosts /64) is at odds with pool other 2001:db8:7::/48 (hosts /60) here";
    assert!(refused.stderr.contains(why), "{refused:?}");
    assert_eq!((status("incarnation"), status("restoring")), (before.clone(), false.into()));

    cluster.sextant(&["pool", "remove", "other"]);
    cluster.sextant(&["restore", &file]);
    assert_ne!(status("incarnation"), before);
    cluster.sextant(&["pool", "show", "other"]);
    let nothing = cluster.lab.cli(&["restore", "--undo"]).unwrap();
    assert_eq!(nothing.code, 4, "{nothing:?}");
}
