//! NetworkManager and dhcpcd.

use std::collections::BTreeSet;

use super::{Ground, Root, ini::Ini, running};
use crate::{kernel::Link, problems::Finding};

const DHCPCD_CONF: &str = "/etc/dhcpcd.conf";

/// NetworkManager adopts each bridge that another program makes. It changes one only on request; then it replaces the addresses, and
/// manages the ports too.
///
/// If it has changed it, a reload with the fix takes the bridge down and its ports out of it; a restart does not, where the ports
/// are excluded with it. The state of an earlier run stays, so the settings count too.
pub(super) fn of_network_manager(root: Root<'_>, ground: &Ground<'_>) -> Option<Finding> {
    let bridge = ground.bridge()?;
    let ini = Ini::of_network_manager(root);
    let lists = ini.list("keyfile", "unmanaged-devices").into_iter().flat_map(|list| list.split([';', ',']));
    let excluded: Vec<_> = lists.filter_map(|it| it.trim().strip_prefix("interface-name:")).collect();
    let manages = |link: &&Link| {
        let state = root.read(&format!("/run/NetworkManager/devices/{}", link.index)).unwrap_or_default();
        let by_settings = excluded.iter().any(|it| matches(it.trim_start_matches('='), &link.name));
        !by_settings && state.lines().any(|line| line.trim() == "managed=true")
    };
    let managed: Vec<_> = ports_of(ground, bridge).chain([bridge]).filter(manages).collect();
    if managed.is_empty() {
        return None;
    }
    let names: BTreeSet<_> = managed.iter().map(|link| pattern(&link.name)).chain([pattern(PORT)]).collect();
    let devices: Vec<_> = names.iter().map(|name| format!("interface-name:{name}")).collect();
    let (name, dir, devices) = (&bridge.name, "/etc/NetworkManager/conf.d", devices.join(";"));
    let managed: Vec<_> = managed.iter().map(|link| link.name.as_str()).collect();
    Some(Finding::new(
        "networkmanager-manages-bridge",
        format!(
            "NetworkManager manages links of the containers' bridge {name} ({}): `nmcli` and its applets can remove the bridge's \
             addresses and ports",
            managed.join(", ")
        ),
        format!(
            "mkdir -p {dir} && printf '[keyfile]\\nunmanaged-devices+={devices}\\n' >>{dir}/sextant-{name}.conf && systemctl restart \
             NetworkManager"
        ),
    ))
}

/// dhcpcd takes router advertisements itself, so `accept_ra` = 0 does not stop those of a container. By default, it runs
/// on the ports of bridges, and not on bridges.
pub(super) fn of_dhcpcd(root: Root<'_>, ground: &Ground<'_>, ports: &BTreeSet<u32>) -> Option<Finding> {
    let bridge = ground.bridge()?;
    let own = ["", "-4", "-6"].iter().map(|family| format!("/run/dhcpcd/{}{family}.pid", bridge.name));
    if own.into_iter().any(|path| running::of_pid_file(root, ports, &path)) {
        return Some(finding(
            format!("dhcpcd runs on the containers' bridge {}", bridge.name),
            format!("dhcpcd --exit {name}, and end what starts dhcpcd for {name}", name = bridge.name),
        ));
    }
    let all = ["/run/dhcpcd/pid", "/run/dhcpcd.pid"];
    if !all.iter().any(|path| running::of_pid_file(root, ports, path)) {
        return None;
    }
    let filter = Filter::of(&root.read(DHCPCD_CONF).unwrap_or_default());
    let names = ports_of(ground, bridge).map(|link| link.name.as_str()).chain([PORT]);
    let taken: BTreeSet<_> = names.filter(|name| filter.takes(name)).map(pattern).collect();
    let taken: Vec<_> = taken.into_iter().collect();
    (!taken.is_empty()).then(|| {
        let taken = taken.join(" ");
        finding(
            format!("dhcpcd runs on links of containers ({taken})"),
            format!("echo 'denyinterfaces {taken}' >>{DHCPCD_CONF}, and restart dhcpcd"),
        )
    })
}

fn finding(saw: String, fix: String) -> Finding {
    let saw =
        format!("{saw}: a container's router advertisement can give this host a default route or an address");
    Finding::new("dhcpcd-on-containers", saw, fix)
}

/// A name that engines give to ports, for those that come.
const PORT: &str = "veth0";

fn ports_of<'a>(ground: &'a Ground<'_>, bridge: &Link) -> impl Iterator<Item = &'a Link> + use<'a> {
    let bridge = bridge.index;
    ground.links.iter().filter(move |link| link.controller == Some(bridge))
}

/// As engines name the ports of containers; another name stands for itself.
fn pattern(name: &str) -> String {
    if name.starts_with("veth") { "veth*".to_owned() } else { name.to_owned() }
}

/// Which interfaces dhcpcd takes (dhcpcd.conf(5)).
#[derive(Debug, Default)]
struct Filter {
    allowed: Vec<String>,
    denied: Vec<String>,
}

impl Filter {
    fn of(conf: &str) -> Self {
        let mut filter = Self::default();
        for line in conf.lines() {
            let mut words = line.split_whitespace().map(str::to_owned);
            match words.next().as_deref() {
                Some("allowinterfaces") => filter.allowed.extend(words),
                Some("denyinterfaces") => filter.denied.extend(words),
                // What follows is for one interface, or one network.
                Some("interface" | "ssid" | "profile") => break,
                _ => {}
            }
        }
        filter
    }

    fn takes(&self, name: &str) -> bool {
        let matched = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, name));
        (self.allowed.is_empty() || matched(&self.allowed)) && !matched(&self.denied)
    }
}

/// A pattern of the shell: with `*` and `?` only, which is what names of interfaces need.
fn matches(pattern: &str, name: &str) -> bool {
    match (pattern.chars().next(), name.chars().next()) {
        (None, None) => true,
        (Some('*'), _) => {
            let rest = &pattern[1..];
            (0..=name.len()).filter(|at| name.is_char_boundary(*at)).any(|at| matches(rest, &name[at..]))
        }
        (Some('?'), Some(it)) => matches(&pattern[1..], &name[it.len_utf8()..]),
        (Some(expected), Some(it)) if expected == it => {
            matches(&pattern[it.len_utf8()..], &name[it.len_utf8()..])
        }
        _ => false,
    }
}
