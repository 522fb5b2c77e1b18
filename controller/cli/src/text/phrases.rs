//! Phrases that several answers share.

use std::time::Duration;

use sextant_proto::{NodeName, Prefix, counted};

use crate::answer::Waited;

/// The largest number of names in a sentence.
const NAMES: usize = 10;

/// Untrusted text as one line: control characters, which could move a terminal's cursor or change its colours, become spaces.
pub(crate) fn one_line(text: &str) -> String {
    text.replace(|c: char| c.is_control(), " ")
}

/// The first ten names, and the number of the others.
pub(crate) fn some_names(names: &[NodeName]) -> String {
    let shown: Vec<_> = names.iter().take(NAMES).map(NodeName::as_str).collect();
    let shown = shown.join(", ");
    match names.len().saturating_sub(NAMES) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Prefixes, separated by commas.
pub(crate) fn listed(prefixes: &[Prefix]) -> String {
    prefixes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The progress of a revision.
pub(crate) fn progress(waited: &Waited) -> String {
    let Waited { revision, applied, live, laggards, .. } = waited;
    if *live == 0 {
        return format!("revision {revision}: no agent is live{}", not_ready(laggards));
    }
    let so_far = format!("revision {revision}: applied by {applied} of {}", counted(*live, "live agent"));
    if waited.laggards.is_empty() {
        so_far
    } else {
        format!("{so_far}, waiting for {}", some_names(&waited.laggards))
    }
}

/// The nodes whose agents are not live.
fn not_ready(nodes: &[NodeName]) -> String {
    match nodes {
        [] => ", and no node holds a prefix".to_owned(),
        nodes => format!("; not ready: {}", some_names(nodes)),
    }
}

/// The text for an applied revision.
pub(crate) fn waited(waited: &Waited) -> String {
    let Waited { revision, live, .. } = waited;
    match live {
        // Of earlier controllers.
        0 => format!("revision {revision}: no live agent to wait for\n"),
        1 => format!("revision {revision}: applied by the only live agent\n"),
        live => format!("revision {revision}: applied by all {live} live agents\n"),
    }
}

/// The error for a revision that is not applied in time, with the fix.
pub(crate) fn lagging(waited: &Waited, timeout: Duration) -> String {
    if waited.live == 0 {
        return format!(
            "{} within {timeout:?}; see `sextant status` and the log of sextant-agent there",
            progress(waited)
        );
    }
    format!(
        "revision {}: applied by {} of {} within {timeout:?}, not by {}; see `sextant node show NAME`, \
         and the log of sextant-agent there",
        waited.revision,
        waited.applied,
        counted(waited.live, "live agent"),
        some_names(&waited.laggards)
    )
}

#[cfg(test)]
mod tests {
    use sextant_proto::Revision;

    use super::*;

    #[test]
    fn progress_is_shown() {
        let mut it = Waited {
            revision: Revision(7),
            applied: 1,
            live: 2,
            done: false,
            laggards: vec!["host2".parse().unwrap()],
        };
        assert_eq!(progress(&it), "revision 7: applied by 1 of 2 live agents, waiting for host2");
        let late = lagging(&it, Duration::from_secs(30));
        assert!(
            late.starts_with("revision 7: applied by 1 of 2 live agents within 30s, not by host2;"),
            "{late}"
        );
        (it.applied, it.done, it.laggards) = (2, true, Vec::new());
        assert_eq!(waited(&it), "revision 7: applied by all 2 live agents\n");
        (it.applied, it.live) = (1, 1);
        assert_eq!(waited(&it), "revision 7: applied by the only live agent\n");
        assert_eq!(progress(&it), "revision 7: applied by 1 of 1 live agent");
        (it.applied, it.live, it.done) = (0, 0, false);
        let none = "revision 7: no agent is live, and no node holds a prefix";
        assert_eq!(progress(&it), none);
        assert!(
            lagging(&it, Duration::from_secs(1))
                .starts_with(&format!("{none} within 1s; see `sextant status`"))
        );
        it.laggards = vec!["host2".parse().unwrap()];
        assert_eq!(progress(&it), "revision 7: no agent is live; not ready: host2");
    }

    #[test]
    fn many_names_are_counted() {
        let names: Vec<NodeName> = (0..12).map(|n| format!("h{n}").parse().unwrap()).collect();
        assert_eq!(some_names(&names), "h0, h1, h2, h3, h4, h5, h6, h7, h8, h9 and 2 more");
        assert_eq!(some_names(&names[..1]), "h0");
    }

    #[test]
    fn control_characters_become_spaces() {
        assert_eq!(one_line("a\nb\u{1b}[2Jc"), "a b [2Jc");
    }
}
