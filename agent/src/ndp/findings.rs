//! What keeps neighbours from reaching this host's containers. Pure.

use sextant_ndp::responder::Known;
use sextant_proto::Claim;

use crate::{kernel::ProxyEntry, problems::Finding, uplinks::LocalUplink};

/// So many addresses are named.
const NAMED: usize = 3;

pub(super) fn all(
    claims: &[Claim],
    uplinks: &[LocalUplink],
    known: &Known,
    entries: &[ProxyEntry],
) -> Vec<Finding> {
    let off_link = claims.iter().filter(|claim| !is_on_link(claim, uplinks)).map(not_on_link);
    let trouble = known.trouble.iter().map(|trouble| {
        let fix = "see the error; the agent needs CAP_NET_RAW, and tries again every few seconds";
        Finding::new("ndp-not-heard", trouble.clone(), fix)
    });
    let foreign = foreign(known, entries);
    off_link.chain(trouble).chain(others(known)).chain(foreign).collect()
}

fn is_on_link(claim: &Claim, uplinks: &[LocalUplink]) -> bool {
    uplinks.is_empty()
        || uplinks.iter().any(|uplink| uplink.on_link.prefixes().any(|it| it.covers(claim.prefix)))
}

fn not_on_link(claim: &Claim) -> Finding {
    let (prefix, pool) = (claim.prefix, &claim.pool);
    let saw = format!(
        "{prefix} of pool {} {} is in no prefix that is on-link on an uplink: neighbours do not solicit its addresses",
        pool.name, pool.prefix
    );
    let fix = "with topology = \"ndp-proxy\", a pool lies inside of the link's own prefix (ip -6 route show dev UPLINK); add such a \
               pool, or set topology = \"switched\" or \"routed\"";
    Finding::new("ndp-not-on-link", saw, fix).about(pool.name.to_string())
}

/// Another host answers for an address of ours.
fn others(known: &Known) -> Option<Finding> {
    let (addr, mac) = known.others.iter().next()?;
    let mac: Vec<_> = mac.iter().map(|octet| format!("{octet:02x}")).collect();
    let more = match known.others.len() {
        1 => String::new(),
        count => format!(", and for {} more", count - 1),
    };
    let saw = format!(
        "the host with MAC address {} advertises {addr}, which is a container's of this host{more}",
        mac.join(":")
    );
    let fix = "find that host on the link (ip -6 neighbour), and stop its proxy (ndppd, proxy_ndp), or give that address up there";
    Some(Finding::new("ndp-other-answers", saw, fix))
}

/// Entries of others for addresses in use: they stay when the container is gone.
fn foreign(known: &Known, entries: &[ProxyEntry]) -> Option<Finding> {
    let alive = known.alive.as_ref()?;
    let foreign: Vec<_> =
        entries.iter().filter(|it| !it.is_ours() && alive.contains(&it.addr)).map(|it| it.addr).collect();
    let named: Vec<_> = foreign.iter().take(NAMED).map(ToString::to_string).collect();
    let saw = format!(
        "another process has added proxy entries for {} of this host's containers: {}",
        sextant_proto::counted(foreign.len(), "address"),
        named.join(", ")
    );
    let fix = "remove them with `ip -6 neighbour del proxy ADDRESS dev UPLINK`, and stop what adds them; the agent adds its own";
    (!foreign.is_empty()).then(|| Finding::new("ndp-foreign-entry", saw, fix))
}
