//! systemd-networkd. It removes other programs' routes when it configures a link again (`ManageForeignRoutes=`, networkd.conf(5)),
//! and other programs' addresses from links that it manages. By default it ignores router advertisements on a link whose file makes it
//! forward.

use super::{
    Ground, Root,
    ini::{Ini, is_no},
};
use crate::{kernel::Link, problems::Finding};

const DROP_INS: &str = "/etc/systemd/networkd.conf.d";

pub(super) fn findings(root: Root<'_>, ground: &Ground<'_>) -> Vec<Finding> {
    let daemon = Ini::merged(root, "systemd/networkd.conf");
    let rules = ground.by_rules.then(|| foreign(&daemon, "ManageForeignRoutingPolicyRules", "rules"));
    let routes = foreign(&daemon, "ManageForeignRoutes", "routes");
    let uplinks = ground.uplinks().filter(|link| ground.advertised.contains(&link.index));
    let advertised = uplinks.filter_map(|link| ignores_advertisements(root, &daemon, link));
    let bridge = ground.bridge().and_then(|bridge| manages_bridge(root, bridge));
    routes.into_iter().chain(rules.flatten()).chain(advertised).chain(bridge).collect()
}

fn foreign(daemon: &Ini, key: &str, what: &str) -> Option<Finding> {
    let set = daemon.last("Network", key);
    if set.is_some_and(|(value, _)| is_no(value)) {
        return None;
    }
    let drop_in = format!("zz-sextant-{}.conf", key.to_lowercase());
    let saw = set.map_or("by default".to_owned(), |(value, file)| format!("{key}={value} in {file}"));
    let change = match set {
        Some((_, file)) if is_after(file, &drop_in) => format!("sed -i 's/^ *{key} *=.*/{key}=no/' {file}"),
        _ => format!("mkdir -p {DROP_INS} && printf '[Network]\\n{key}=no\\n' >{DROP_INS}/{drop_in}"),
    };
    Some(Finding::new(
        "networkd-removes-foreign-routes",
        format!(
            "systemd-networkd runs here, and removes other programs' {what} when it configures a link again ({saw}): the agent \
             restores its own ones, but packets are lost meanwhile, or leave by the default route"
        ),
        format!("{change} && systemctl restart systemd-networkd"),
    ))
}

/// Whether `file` is a drop-in that overrides `drop_in`.
fn is_after(file: &str, drop_in: &str) -> bool {
    file.rsplit_once("/networkd.conf.d/").is_some_and(|(_, name)| name >= drop_in)
}

/// The settings file of a link that networkd manages.
fn file_of(root: Root<'_>, link: &Link) -> Option<String> {
    let state = root.read(&format!("/run/systemd/netif/links/{}", link.index))?;
    let file = state.lines().find_map(|line| line.strip_prefix("NETWORK_FILE="));
    file.filter(|_| !state.contains("ADMIN_STATE=unmanaged")).map(str::to_owned)
}

fn ignores_advertisements(root: Root<'_>, daemon: &Ini, link: &Link) -> Option<Finding> {
    let file = file_of(root, link)?;
    let name = file.rsplit('/').next()?;
    let network = Ini::with_drop_ins(root, &file, &format!("systemd/network/{name}"));
    if network.last("Network", "IPv6AcceptRA").is_some() {
        return None;
    }
    let forwards = |ini: &Ini, key: &'static str, no: &[&str]| {
        let (value, _) = ini.last("Network", key)?;
        (!is_no(value) && !no.contains(&value)).then(|| format!("{key}={value}"))
    };
    let keys =
        [("IPForward", ["ipv4", "kernel"]), ("IPMasquerade", ["ipv4", ""]), ("IPv6Forwarding", ["", ""])];
    let by = keys.iter().find_map(|(key, no)| forwards(&network, key, no));
    let by = by.or_else(|| forwards(daemon, "IPv6Forwarding", &[]))?;
    let dir = format!("/etc/systemd/network/{name}.d");
    Some(Finding::new(
        "networkd-ignores-router-advertisements",
        format!(
            "systemd-networkd ignores router advertisements on uplink {}, as {file} has no IPv6AcceptRA=, and {by}: its addresses \
             and its default route end with their lifetimes",
            link.name
        ),
        format!(
            "mkdir -p {dir} && printf '[Network]\\nIPv6AcceptRA=yes\\n' >{dir}/sextant.conf && networkctl reload"
        ),
    ))
}

fn manages_bridge(root: Root<'_>, bridge: &Link) -> Option<Finding> {
    let (name, file) = (&bridge.name, file_of(root, bridge)?);
    Some(Finding::new(
        "networkd-manages-bridge",
        format!(
            "systemd-networkd manages the containers' bridge {name} by {file}: when it configures the bridge, it removes the \
             addresses that are not in that file"
        ),
        format!(
            "mkdir -p /etc/systemd/network && printf '[Match]\\nName={name}\\n[Link]\\nUnmanaged=yes\\n' \
             >/etc/systemd/network/00-sextant-{name}.network && networkctl reload"
        ),
    ))
}
