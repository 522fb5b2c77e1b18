//! Reservations for people.

use super::{age, table};
use crate::answer::Reservation;

/// Reservations in a table.
pub(crate) fn list(reservations: &[Reservation], now_unix_ms: u64) -> String {
    let row = |it: &Reservation| {
        let held = if it.claimed { "yes" } else { "no" };
        let since = age(now_unix_ms, it.created_unix_ms);
        [it.prefix.to_string(), it.pool.clone(), it.node.clone(), held.into(), since, it.reason.clone()]
    };
    table::table(["PREFIX", "POOL", "NODE", "HELD", "SINCE", "REASON"], reservations.iter().map(row))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::sample;

    #[test]
    fn reservations_in_a_table() {
        assert_eq!(
            list(&[sample::reservation()], 181_000),
            "PREFIX             POOL  NODE  HELD  SINCE  REASON\n\
             2001:db8:1:5::/64  main  h1    yes   3m     the old load balancer\n"
        );
    }
}
