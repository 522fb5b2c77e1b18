//! The brake's limit, which agents and controllers share (DESIGN I6).

use std::time::Duration;

/// The window in which absent peers are counted.
pub const WINDOW: Duration = Duration::from_secs(600);

/// This many peers may become absent, whatever their share.
const FEW: usize = 10;
/// In larger clusters, one in this many.
const PART: usize = 5;

/// The limit of absent peers within [`WINDOW`]; the absent ones are included in `peers`.
pub fn limit(peers: usize) -> usize {
    FEW.max(peers / PART)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_or_a_fifth() {
        let table = [(0, 10), (12, 10), (54, 10), (55, 11), (60, 12), (62, 12), (1000, 200)];
        for (peers, expected) in table {
            assert_eq!(limit(peers), expected, "{peers}");
        }
    }
}
