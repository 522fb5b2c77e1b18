//! What keeps neighbours from reaching this host's containers, as the agent sees it. Pure.

use sextant_ndp::responder::{Known, Trouble};
use sextant_proto::{Claim, Prefix};
use tokio::time::Instant;

use super::{entries::Entries, facts::Facts, lasting_faults::Faults};
use crate::{ndp_faults::checks, problems::Finding, settings::NdpSettings, uplinks::LocalUplink};

/// What is seen at one moment.
pub(super) struct Seen<'a> {
    pub(super) settings: &'a NdpSettings,
    pub(super) facts: &'a Facts,
    pub(super) claims: &'a [Claim],
    pub(super) uplinks: &'a [LocalUplink],
    pub(super) known: &'a Known,
    pub(super) entries: &'a Entries,
    pub(super) faults: &'a Faults,
    pub(super) now: Instant,
}

pub(super) fn all(seen: &Seen<'_>) -> Vec<Finding> {
    let Seen { claims, uplinks, known, entries, .. } = seen;
    let off_link = claims.iter().filter(|claim| !is_on_link(claim, uplinks)).map(not_on_link);
    let trouble = known.trouble.iter().map(|trouble| {
        let fix = "see the error; the agent needs CAP_NET_RAW, and tries again every few seconds";
        let unready = matches!(trouble, Trouble::Unheard { uplink: true, .. });
        Finding { unready, ..Finding::new("ndp-not-heard", trouble_text(trouble, seen.facts), fix) }
    });
    let prefixes: Vec<Prefix> = claims.iter().map(|claim| claim.prefix).collect();
    let mut found: Vec<_> = off_link.chain(trouble).collect();
    found.extend(seen.faults.findings(&prefixes, seen.now));
    found.extend(checks::others(&known.others));
    let name = |link| seen.facts.link(link).map(|link| link.name.as_str());
    found.extend(checks::foreign(&prefixes, entries.foreign(), name));
    found.extend(checks::unheeded(&known.unheeded, seen.settings.source));
    found
}

/// What the responder cannot do.
pub(super) fn trouble_text(trouble: &Trouble, facts: &Facts) -> String {
    match trouble {
        Trouble::Unheard { link, error, .. } => {
            let name =
                facts.link(*link).map_or_else(|| format!("interface {link}"), |link| link.name.clone());
            format!("neighbour discovery on {name} cannot be heard: {error}")
        }
        Trouble::Groups(error) => {
            format!("the multicast groups of the addresses in use cannot be joined: {error}")
        }
    }
}

/// While no uplink has an address, as while all are down, that is not known, and is reported itself.
fn is_on_link(claim: &Claim, uplinks: &[LocalUplink]) -> bool {
    uplinks.iter().all(|uplink| uplink.uplink.addresses.is_empty())
        || uplinks.iter().any(|uplink| uplink.on_link.prefixes().any(|it| it.covers(claim.prefix)))
}

fn not_on_link(claim: &Claim) -> Finding {
    let (prefix, pool) = (claim.prefix, &claim.pool);
    let saw = format!(
        "{prefix} of pool {} {} is in no prefix that is on-link on an uplink: it is not answered for",
        pool.name, pool.prefix
    );
    let fix = "with topology = \"ndp-proxy\", a pool lies inside of the link's own prefix (ip -6 route show dev UPLINK); add such a \
               pool, or set topology = \"switched\" or \"routed\"";
    Finding::new("ndp-not-on-link", saw, fix).about(pool.name.to_string())
}
