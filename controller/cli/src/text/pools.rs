//! Pools for people.

use super::table;
use crate::answer::PoolUse;

/// All pools.
pub(crate) fn list(pools: &[PoolUse]) -> String {
    let row = |used: &PoolUse| {
        let pool = &used.pool;
        [
            pool.name.to_string(),
            pool.prefix.to_string(),
            format!("/{}", pool.host_len),
            format!("/{}", pool.container_len),
            if pool.draining { format!("{} (closed)", claimed(used)) } else { claimed(used) },
            used.reserved.to_string(),
        ]
    };
    let header = ["NAME", "PREFIX", "HOST-LEN", "CONTAINER-LEN", "CLAIMED", "RESERVED"];
    table::table(header, pools.iter().map(row))
}

/// One pool.
pub(crate) fn show(used: &PoolUse) -> String {
    let pool = &used.pool;
    table::keys(&[
        ("name", vec![pool.name.to_string()]),
        ("prefix", vec![pool.prefix.to_string()]),
        ("host length", vec![format!("/{}", pool.host_len)]),
        ("container length", vec![format!("/{}", pool.container_len)]),
        (
            "new claims",
            vec![
                if pool.draining { "refused; `sextant pool undrain` opens the pool" } else { "accepted" }
                    .into(),
            ],
        ),
        ("claimed", vec![claimed(used)]),
        ("reserved", vec![used.reserved.to_string()]),
        ("quarantined", vec![used.quarantined.to_string()]),
    ])
}

/// `3 of 65536`; a capacity beyond 64 bits is written as a power of two.
pub(crate) fn claimed(used: &PoolUse) -> String {
    let capacity = if used.capacity == u64::MAX {
        format!("2^{}", used.pool.host_len - used.pool.prefix.len())
    } else {
        used.capacity.to_string()
    };
    format!("{} of {capacity}", used.claimed)
}

#[cfg(test)]
mod tests {
    use sextant_proto::Pool;

    use super::*;
    use crate::answer::sample;

    #[test]
    fn pools_in_a_table() {
        let mut pools = sample::healthy().pools;
        let prefix = "fd00:1::/48".parse().unwrap();
        pools.push(PoolUse {
            pool: Pool::new("wide".parse().unwrap(), prefix, 120, 124).unwrap(),
            claimed: 0,
            capacity: u64::MAX,
            reserved: 0,
            quarantined: 1,
        });
        assert_eq!(
            list(&pools),
            "NAME  PREFIX           HOST-LEN  CONTAINER-LEN  CLAIMED     RESERVED\n\
             main  2001:db8:1::/48  /64       /80            3 of 65536  2\n\
             wide  fd00:1::/48      /120      /124           0 of 2^72   0\n"
        );
    }

    #[test]
    fn one_pool() {
        assert_eq!(
            show(&sample::healthy().pools[0]),
            "name              main\n\
             prefix            2001:db8:1::/48\n\
             host length       /64\n\
             container length  /80\n\
             new claims        accepted\n\
             claimed           3 of 65536\n\
             reserved          2\n\
             quarantined       0\n"
        );
    }
}
