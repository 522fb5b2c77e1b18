//! Changes for earlier settings that are kept, because something uses what they are of.

use sextant_tests::{BRIDGE, SECONDS, SmallDisk, poll};

use super::bed::{Bed, commands, setting};

const ETH0: &str = "uplink.interface = \"eth0\"";
const OTHER: &str = "uplink.interface = \"eth0\"\nbridge.interface = \"ctr0\"\nbridge.create = true";

fn expect_gone(bed: &Bed, bridge: &str) {
    poll(&format!("{bridge} is gone"), 20 * SECONDS, || {
        let links = bed.host(0).ip("-br link show")?;
        anyhow::ensure!(!links.contains(bridge), "{links}");
        anyhow::Ok(())
    });
}

#[test]
fn containers_are_moved_from_an_earlier_bridge_and_it_goes() {
    let mut bed = Bed::well("fixed earlier");
    bed.restart(0, OTHER);
    let text = bed.expect(&format!("{BRIDGE} was created by the agent for earlier settings, and is kept"));
    assert!(text.contains("move these containers to the bridge of the present settings"), "{text}");
    bed.host(0).ip("link set ve1 master ctr0").unwrap();
    bed.containers[0].ip("-6 neigh flush dev eth0").unwrap();
    expect_gone(&bed, BRIDGE);
    bed.expect_healed();
}

/// A bridge that the operator created, and the agent set up, is set down only once nothing is connected to it.
#[test]
fn containers_are_moved_from_a_bridge_that_was_set_up_for_earlier_settings() {
    let prepare = |cluster: &crate::cluster::Cluster| {
        cluster.hosts[0].ip(&format!("link add {BRIDGE} type bridge")).unwrap();
    };
    let mut bed = Bed::start("fixed set up", [ETH0; 2], prepare);
    bed.expect_well();
    bed.restart(0, OTHER);
    let text = bed.expect(&format!("{BRIDGE} was set up by the agent for earlier settings, and is kept"));
    assert!(text.contains("move these containers to the bridge of the present settings"), "{text}");
    bed.host(0).ip("link set ve1 master ctr0").unwrap();
    bed.containers[0].ip("-6 neigh flush dev eth0").unwrap();
    bed.expect_healed();
    assert!(bed.host(0).ip(&format!("-br link show dev {BRIDGE}")).unwrap().contains("DOWN"));
}

#[test]
fn addresses_of_others_on_an_earlier_bridge_are_removed_or_it_is_the_bridge_again() {
    for again in [false, true] {
        let mut bed = Bed::well("fixed addresses");
        bed.containers.remove(0);
        bed.host(0).ip("link delete ve1").unwrap();
        bed.host(0).ip(&format!("-6 address add fd00:7::1/64 dev {BRIDGE} nodad")).unwrap();
        bed.restart(0, OTHER);
        let text = bed.expect("it also has fd00:7::1/64, which the agent did not add");
        if again {
            bed.restart(
                0,
                &format!("{}\nbridge.create = true\n{ETH0}", setting(&text, "bridge.interface", "")),
            );
            expect_gone(&bed, "ctr0");
            bed.cluster.settle();
            let container = bed.host(0).container("again").unwrap();
            bed.containers.insert(0, container);
        } else {
            bed.run(0, commands(&text)[0]);
            expect_gone(&bed, BRIDGE);
        }
        bed.expect_healed();
    }
}

/// The first host's state directory is on a disk of its own.
fn on_disk(test: &str) -> (Bed, SmallDisk) {
    let mut disk = None;
    let bed = Bed::start(test, [ETH0; 2], |cluster| {
        let mounted = SmallDisk::mount(&cluster.lab, 1).unwrap();
        std::os::unix::fs::symlink(mounted.path(), cluster.lab.state_dir(&cluster.hosts[0])).unwrap();
        disk = Some(mounted);
    });
    (bed, disk.unwrap())
}

/// The disk is full when the containers have been moved.
#[test]
fn an_undo_that_cannot_be_recorded_is_recorded_once_there_is_room() {
    let (mut bed, disk) = on_disk("fixed record");
    bed.expect_well();
    bed.restart(0, &format!("routes.resync = 1\n{OTHER}"));
    bed.expect(&format!("{BRIDGE} was created by the agent for earlier settings, and is kept"));
    disk.fill().unwrap();
    bed.host(0).ip("link set ve1 master ctr0").unwrap();
    bed.containers[0].ip("-6 neigh flush dev eth0").unwrap();
    let text = bed.expect("the end of changes for earlier settings cannot be recorded");
    assert!(text.contains("No space left") && text.contains("check the disk"), "{text}");
    bed.expect_reached();
    disk.empty().unwrap();
    expect_gone(&bed, BRIDGE);
    bed.expect_healed();
}
