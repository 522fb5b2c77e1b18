use std::{fs, path::Path};

use tempfile::TempDir;

use super::*;

/// A host on which all three programs run, with these files besides.
fn host(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let running = [
        (
            "/proc/net/netlink",
            "sk Eth Pid Groups\n0 16 39 0\n0 0 0 0\n0 0 40 551\n0 0 47 551\n0 0 4113314197 0\n",
        ),
        ("/sys/fs/cgroup/unified/system.slice/systemd-networkd.service/cgroup.procs", "39\n"),
        ("/proc/40/comm", "NetworkManager\n"),
        ("/run/dhcpcd/pid", "47\n"),
        ("/etc/dhcpcd.conf", "denyinterfaces veth*\n"),
        ("/etc/systemd/networkd.conf", "[Network]\nManageForeignRoutes=no\n"),
    ];
    for (path, text) in running.iter().chain(files) {
        write(dir.path(), path, text);
    }
    dir
}

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path.trim_start_matches('/'));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn found(files: &[(&str, &str)], change: impl FnOnce(&mut Ground<'_>)) -> Vec<(&'static str, String)> {
    let dir = host(files);
    let link = |index, name: &str| Link { index, name: name.into(), up: true, ..Link::default() };
    let links = [
        link(2, "eth0"),
        Link { bridge: true, ..link(3, "br0") },
        Link { controller: Some(3), ..link(4, "veth1") },
    ];
    let uplinks = ["eth0".to_owned()];
    let mut ground = Ground { links: &links, bridge: Some("br0"), uplinks: &uplinks, ..Ground::default() };
    ground.advertised.insert(2);
    change(&mut ground);
    of_root(Root(dir.path()), &ground)
        .into_iter()
        .map(|it| (it.what, format!("{}; {}", it.saw, it.fix)))
        .collect()
}

fn kinds(files: &[(&str, &str)]) -> Vec<&'static str> {
    found(files, |_| {}).into_iter().map(|(what, _)| what).collect()
}

const DROP_INS: &str = "/etc/systemd/networkd.conf.d";

#[test]
fn settings_that_leave_the_agent_alone_are_no_problem() {
    assert_eq!(found(&[], |_| {}), []);
}

#[test]
fn a_program_that_does_not_run_in_this_network_namespace_is_none() {
    let defaults = [("/etc/systemd/networkd.conf", ""), ("/etc/dhcpcd.conf", "")];
    assert_eq!(kinds(&defaults), ["networkd-removes-foreign-routes", "dhcpcd-on-containers"]);
    let elsewhere = [defaults[0], defaults[1], ("/proc/net/netlink", "sk Eth Pid\n0 0 41 0\n")];
    assert_eq!(kinds(&elsewhere), [""; 0]);
}

#[test]
fn the_last_setting_in_systemds_order_counts() {
    let of = |files: &[(&str, &str)]| found(files, |_| {}).pop().map(|(_, text)| text);
    let yes = "[Network]\nManageForeignRoutes=yes\n";
    let drop_in = format!("{DROP_INS}/50-x.conf");
    let text = of(&[(&drop_in, yes)]).unwrap();
    assert!(text.contains("(ManageForeignRoutes=yes in /etc/systemd/networkd.conf.d/50-x.conf)"), "{text}");
    assert!(
        text.contains("no\\n' >/etc/systemd/networkd.conf.d/zz-sextant-manageforeignroutes.conf &&"),
        "{text}"
    );
    let late = format!("{DROP_INS}/zzz.conf");
    let text = of(&[(&late, yes)]).unwrap();
    assert!(text.contains("; sed -i 's/^ *ManageForeignRoutes *=.*/ManageForeignRoutes=no/' "), "{text}");
    // A drop-in of a name in an earlier directory replaces those of the same name.
    let masked = [("/usr/lib/systemd/networkd.conf.d/50-x.conf", yes), (&drop_in, "")];
    assert_eq!(of(&masked), None);
    let overridden = [
        (&drop_in[..], yes),
        ("/run/systemd/networkd.conf.d/60-x.conf", "[Network]\nManageForeignRoutes = off\n"),
    ];
    assert_eq!(of(&overridden), None);
    let other = [(
        "/etc/systemd/networkd.conf",
        "[DHCPv6]\nManageForeignRoutes=no\n#[Network]\n#ManageForeignRoutes=no\n",
    )];
    assert!(of(&other).is_some_and(|text| text.contains("(by default)")));
}

#[test]
fn rules_matter_where_the_agents_table_needs_one() {
    let found = |files: &[(&str, &str)]| found(files, |ground| ground.by_rules = true);
    let text = &found(&[])[0].1;
    assert!(text.contains("removes other programs' rules"), "{text}");
    let both = "[Network]\nManageForeignRoutes=no\nManageForeignRoutingPolicyRules=no\n";
    assert_eq!(found(&[("/etc/systemd/networkd.conf", both)]), []);
}

#[test]
fn a_link_whose_file_makes_it_forward_ignores_router_advertisements_by_default() {
    let state = "# private\nADMIN_STATE=configured\nNETWORK_FILE=/run/systemd/network/10-eth0.network\n";
    let with = |network: &str, drop_in: &str| {
        let files = [
            ("/run/systemd/netif/links/2", state),
            ("/run/systemd/network/10-eth0.network", network),
            ("/etc/systemd/network/10-eth0.network.d/x.conf", drop_in),
        ];
        found(&files, |_| {}).pop().map(|(what, text)| format!("{what}: {text}"))
    };
    for (network, drop_in) in [
        ("[Network]\nIPForward=yes\n", ""),
        ("[Network]\nIPForward=ipv6\n", ""),
        ("", "[Network]\nIPMasquerade=both\n"),
        ("[Network]\nIPv6Forwarding=1\n", ""),
    ] {
        let text = with(network, drop_in).unwrap_or_default();
        assert!(text.starts_with("networkd-ignores-router-advertisements"), "{network}{drop_in}: {text}");
        assert!(
            text.contains("IPv6AcceptRA=yes\\n' >/etc/systemd/network/10-eth0.network.d/sextant.conf"),
            "{text}"
        );
    }
    for (network, drop_in) in [
        ("[Network]\nIPForward=ipv4\n", ""),
        ("[Network]\nIPForward=yes\n", "[Network]\nIPv6AcceptRA=yes\n"),
        ("[Network]\nDHCP=yes\n", ""),
        ("[Network]\nIPMasquerade=no\n", ""),
    ] {
        assert_eq!(with(network, drop_in), None, "{network}{drop_in}");
    }
}

#[test]
fn a_bridge_that_another_program_manages_is_named() {
    let networkd = |state: &str| kinds(&[("/run/systemd/netif/links/3", state)]);
    assert_eq!(
        networkd("ADMIN_STATE=configured\nNETWORK_FILE=/etc/systemd/network/any.network\n"),
        ["networkd-manages-bridge"]
    );
    assert_eq!(networkd("ADMIN_STATE=unmanaged\n"), [""; 0]);
    // By a file with `Unmanaged=yes`.
    assert_eq!(networkd("ADMIN_STATE=unmanaged\nNETWORK_FILE=/etc/systemd/network/00-x.network\n"), [""; 0]);
    let network_manager = |state: &str| kinds(&[("/run/NetworkManager/devices/3", state)]);
    assert_eq!(network_manager("[device]\nmanaged=true\n"), ["networkmanager-manages-bridge"]);
    assert_eq!(network_manager("[device]\nmanaged=false\n"), [""; 0]);
    let managed = ("/run/NetworkManager/devices/3", "[device]\nmanaged=true\n");
    let with = |text: &str| kinds(&[managed, ("/etc/NetworkManager/conf.d/x.conf", text)]).len();
    for text in [
        "unmanaged-devices+=interface-name:br0",
        "unmanaged-devices=mac:02:00:00:00:00:01;interface-name:br*",
    ] {
        assert_eq!(with(&format!("[keyfile]\n{text}\n")), 0, "{text}");
    }
    let port = ("/run/NetworkManager/devices/4", "[device]\nmanaged=true\n");
    let text = found(&[port], |_| {}).remove(0).1;
    assert!(
        text.contains("br0 (veth1)") && text.contains("unmanaged-devices+=interface-name:veth*\\n'"),
        "{text}"
    );
    assert_eq!(with("[keyfile]\nunmanaged-devices+=interface-name:br1\n"), 1);
    assert_eq!(with("[device]\nunmanaged-devices=interface-name:br0\n"), 1);
    assert_eq!(kinds(&[("/run/dhcpcd/br0-6.pid", "47\n")]), ["dhcpcd-on-containers"]);
}

#[test]
fn dhcpcd_takes_ports_of_containers_unless_its_settings_exclude_them() {
    let of = |conf: &str| found(&[("/etc/dhcpcd.conf", conf)], |_| {}).pop().map(|(_, text)| text);
    for conf in ["", "denyinterfaces eth*\n", "allowinterfaces *\n", "interface eth0\ndenyinterfaces veth*\n"]
    {
        assert!(of(conf).is_some_and(|text| text.contains("denyinterfaces veth*'")), "{conf}");
    }
    for conf in ["denyinterfaces docker* veth*\n", "allowinterfaces eth0 en?s*\n", "denyinterfaces *\n"] {
        assert_eq!(of(conf), None, "{conf}");
    }
}
