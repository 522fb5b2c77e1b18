//! The brake's limit, which agents and controllers share (DESIGN I6).

use std::time::Duration;

/// Peers that went within this time count together.
pub const WINDOW: Duration = Duration::from_secs(600);

/// Up to so many peers may go, whatever part of all they are.
const FEW: usize = 10;
/// Otherwise one in so many.
const PART: usize = 5;

/// How many of `peers` may go within [`WINDOW`]; those that went and are absent still are among the `peers`.
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
