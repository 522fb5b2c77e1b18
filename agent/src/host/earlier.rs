//! The problems of changes for earlier settings that are not undone yet.

use super::{
    SetupError,
    undo::{Kept, Step},
};
use crate::{kernel::KernelError, problems::Finding};

/// A change that cannot be undone yet.
pub(super) fn of_kept(kept: &Kept) -> Finding {
    let kept_for = |name: &str, change: &str, why: &str| {
        format!("{name} {change} by the agent for earlier settings, and is kept: {why}")
    };
    let (saw, fix) = match kept {
        Kept::BusyBridge { interface, ports } => {
            let why = format!("{} are connected to it", ports.join(", "));
            (kept_for(interface, "was created", &why), move_containers(interface))
        }
        Kept::BusyInterface { interface, ports } => {
            let why = format!("{} are connected to it", ports.join(", "));
            (kept_for(interface, "was set up", &why), move_containers(interface))
        }
        Kept::AddressedInterface { interface, addresses } => {
            let why = format!("it also has {}, which the agent did not add", addresses.join(", "));
            (kept_for(interface, "was set up", &why), remove_addresses(interface, addresses))
        }
        other => return Finding::new("earlier-settings", other.to_string(), ""),
    };
    Finding::new("earlier-bridge", saw, fix)
}

fn move_containers(interface: &str) -> String {
    format!(
        "move these containers to the bridge of the present settings; the agent then undoes its changes to {interface}"
    )
}

fn remove_addresses(interface: &str, addresses: &[String]) -> String {
    let ipv6 = addresses.iter().filter(|address| address.contains(':'));
    let commands: Vec<_> =
        ipv6.map(|address| format!("`ip -6 address del {address} dev {interface}`")).collect();
    let now = if commands.is_empty() { String::new() } else { format!(", and now: {}", commands.join(", ")) };
    format!(
        "if nothing uses {interface} any more, remove its addresses where they are configured{now}; the agent then undoes its \
         changes to {interface}; else set [bridge] interface = \"{interface}\" in agent.toml (--bridge) again"
    )
}

/// A change that the kernel refuses to undo.
pub(super) fn not_undone(step: &Step, error: &KernelError) -> Finding {
    let by_hand = step.command().map(|command| format!("run `{command}` where that is permitted; "));
    Finding::new(
        "earlier-settings",
        format!("a change for earlier settings cannot be undone ({step}): {error}"),
        format!("{}the agent tries again with each resync", by_hand.unwrap_or_default()),
    )
    .about(step.to_string())
}

/// What was undone cannot be recorded as such.
pub(super) fn not_recorded(error: &SetupError) -> Finding {
    Finding::new(
        "earlier-settings",
        format!("the end of changes for earlier settings cannot be recorded: {error}"),
        "check the disk, and that root may write to --state-dir; the agent tries again with each resync",
    )
}

/// Recorded changes that the present settings do not need: the agent undoes them when it starts.
pub fn of_undo<'a>(steps: impl IntoIterator<Item = &'a Step>) -> impl Iterator<Item = Finding> {
    steps.into_iter().map(|step| {
        Finding::new(
            "earlier-settings",
            format!("a change for earlier settings remains on this host; to undo: {step}"),
            "start sextant-agent with the present settings, or run `sextant-agent cleanup`",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kept_link_has_a_fix() {
        let kept = |addresses: &[&str]| {
            let addresses = addresses.iter().map(|it| (*it).to_owned()).collect();
            of_kept(&Kept::AddressedInterface { interface: "br1".into(), addresses })
        };
        let both = kept(&["fd00::1/64", "an IPv4 address"]);
        assert!(
            both.saw
                .ends_with("is kept: it also has fd00::1/64, an IPv4 address, which the agent did not add")
        );
        assert!(
            both.fix.contains("configured, and now: `ip -6 address del fd00::1/64 dev br1`; the"),
            "{both:?}"
        );
        assert!(kept(&["an IPv4 address"]).fix.contains("where they are configured; the agent then"));
    }
}
