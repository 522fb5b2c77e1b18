//! BGP neighbours for people.

use std::time::Duration;

use sextant_proto::{BgpNeighbour, NodeName};

use super::table;

/// Neighbours with their nodes.
pub(crate) fn list<'a>(
    neighbours: impl Iterator<Item = (&'a NodeName, &'a BgpNeighbour)>,
    now_unix_ms: u64,
) -> String {
    let row = |(node, it): (&NodeName, &BgpNeighbour)| {
        [
            node.to_string(),
            it.name(),
            it.remote_as.to_string(),
            it.state.clone(),
            since(it.since_unix_ms, now_unix_ms),
            if it.bfd.is_empty() { "-".into() } else { it.bfd.clone() },
            it.sent.to_string(),
            it.received.to_string(),
            it.imported.to_string(),
            it.error.clone(),
        ]
    };
    let header =
        ["NODE", "NEIGHBOUR", "AS", "STATE", "FOR", "BFD", "SENT", "RECEIVED", "IMPORTED", "LAST ERROR"];
    table::table(header, neighbours.map(row))
}

/// The age in whole seconds.
fn since(then_unix_ms: u64, now_unix_ms: u64) -> String {
    let secs = now_unix_ms.saturating_sub(then_unix_ms) / 1000;
    format!("{:?}", Duration::from_secs(secs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_in_a_table() {
        let it = BgpNeighbour {
            address: "2001:db8::fe:1".parse().unwrap(),
            interface: String::new(),
            remote_as: 65000,
            state: "connecting".into(),
            since_unix_ms: 1_000,
            sent: 2,
            received: 1,
            error: "no answer within 5s".into(),
            bfd: "down".into(),
            imported: 7,
        };
        let node = "h1".parse().unwrap();
        assert_eq!(
            list([(&node, &it)].into_iter(), 6_500),
            "NODE  NEIGHBOUR       AS     STATE       FOR  BFD   SENT  RECEIVED  IMPORTED  LAST ERROR\n\
             h1    2001:db8::fe:1  65000  connecting  5s   down  2     1         7         no answer within 5s\n"
        );
    }
}
