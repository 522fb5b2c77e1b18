//! A container of systemd-nspawn that boots, with this machine's own `/usr`: its networkd gives it an address.

use std::fs;

use sextant_tests::in_own_cgroup;

use crate::{
    bed::{Bed, OWN},
    documented::blocks,
};

/// A namespace that ends with the container's supervisor: the container has another network than the lab's, so the reaper does not find it.
const TIED: [&str; 6] = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
/// It boots to networkd alone: this machine's `/usr` may have any services.
const TARGET: &str = "[Unit]\nRequires=basic.target systemd-networkd.service\n";

#[test]
fn a_container_that_boots_is_on_the_bridge() {
    let bed = Bed::start("nspawn boot");
    let (dir, etc) = (bed.host().dir(), "/etc/systemd");
    let network = blocks("systemd-nspawn", "ini", bed.prefix).remove(0);
    let files = [
        ("lab.target", TARGET, format!("{etc}/system/lab.target")),
        ("none.preset", "disable *\n", format!("{etc}/system-preset/00-none.preset")),
        ("host0.network", &network, format!("{etc}/network/10-host0.network")),
    ];
    let mut words = in_own_cgroup(bed.host()).to_vec();
    words.extend(TIED.map(str::to_owned));
    words.extend(
        ["systemd-nspawn", "--quiet", "--boot", "--directory=/", "--volatile=yes"].map(str::to_owned),
    );
    words.extend(["--register=no", "--keep-unit", "--console=pipe"].map(str::to_owned));
    words.push(format!("--machine={}", bed.unique("boot")));
    words.push(format!("--network-bridge={OWN}"));
    for (name, text, to) in files {
        fs::write(dir.join(name), text).unwrap();
        words.push(format!("--bind-ro={}:{to}", dir.join(name).display()));
    }
    words.extend(["systemd.unit=lab.target", "systemd.firstboot=no"].map(str::to_owned));
    let container = bed.host().spawn("nspawn", &words).unwrap();
    bed.is_reached();
    drop(container);
}
