//! Permanent neighbour entries for next hops of peers. Pure.
//!
//! The kernel sends to their MAC addresses whoever has them, and never asks. It makes none itself, nor do container engines; routing
//! daemons mark theirs as learned outside of the kernel.

use sextant_proto::{NodeName, link_name_word};

use crate::{
    kernel::{Neighbour, NeighbourState},
    problems::Finding,
};

/// So many are listed.
const LISTED: usize = 3;

/// A next hop of a peer, with its entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PermanentHop {
    pub(super) peer: NodeName,
    pub(super) uplink: String,
    pub(super) entry: Neighbour,
}

/// Whether the kernel never checks this entry.
pub(super) fn is_permanent(entry: &Neighbour) -> bool {
    entry.state == NeighbourState::Permanent
}

/// What is reported of all of them.
pub(super) fn finding(all: &[PermanentHop]) -> Option<Finding> {
    let listed = || all.iter().take(LISTED);
    let more = |each: &str| match all.len().saturating_sub(LISTED) {
        0 => String::new(),
        more => format!("{each}{more} more"),
    };
    let entries: Vec<_> = listed().map(text).collect();
    let commands: Vec<_> = listed().map(command).collect();
    (!all.is_empty()).then(|| {
        Finding::new(
            "neighbour-permanent",
            format!(
                "neighbour entries of peers are permanent: {}{}; the kernel never checks them, so packets to a peer are lost when its \
                 entry is wrong, and it is not noticed when the host is dead",
                entries.join(", "),
                more(" and ")
            ),
            format!(
                "let the kernel resolve them: {}{} (all: ip -6 neigh show nud permanent), and remove them from the configuration \
                 that adds them",
                commands.join("; "),
                more("; the same for ")
            ),
        )
    })
}

fn text(it: &PermanentHop) -> String {
    let mac = it.entry.mac.map_or_else(String::new, |mac| {
        let octets: Vec<_> = mac.iter().map(|octet| format!("{octet:02x}")).collect();
        format!(" lladdr {}", octets.join(":"))
    });
    format!("{} dev {}{mac} of node {}", it.entry.addr, it.uplink, it.peer)
}

fn command(it: &PermanentHop) -> String {
    format!("ip -6 neigh del {} dev {}", it.entry.addr, link_name_word(&it.uplink))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(n: u8) -> PermanentHop {
        let addr = format!("2001:db8::{n:x}").parse().unwrap();
        let entry =
            Neighbour { link: 2, addr, state: NeighbourState::Permanent, mac: Some([2, 0, 0, 0, 0, n]) };
        PermanentHop { peer: format!("h{n}").parse().unwrap(), uplink: "eth0".into(), entry }
    }

    #[test]
    fn each_is_named_with_its_command() {
        assert_eq!(finding(&[]), None);
        let found = finding(&[hop(2), hop(3)]).unwrap();
        assert!(
            found.saw.starts_with(
                "neighbour entries of peers are permanent: 2001:db8::2 dev eth0 lladdr 02:00:00:00:00:02 of node h2, 2001:db8::3 dev"
            ),
            "{found:?}"
        );
        assert!(
            found.fix.contains("ip -6 neigh del 2001:db8::2 dev eth0; ip -6 neigh del 2001:db8::3 dev eth0"),
            "{found:?}"
        );
        assert!(!found.saw.contains("more") && !found.fix.contains("more"), "{found:?}");
        let many: Vec<_> = (2..200).map(hop).collect();
        let found = finding(&many).unwrap();
        assert!(found.saw.contains(" and 195 more;") && found.fix.contains("; the same for 195 more (all: "));
        assert!(found.saw.len() < 500 && found.fix.len() < 500, "{found:?}");
    }
}
