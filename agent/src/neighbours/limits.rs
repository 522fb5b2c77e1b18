//! Whether the limits of the neighbour table are high enough for a host. Pure.

/// Limits that are too low.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TooLow {
    /// The problem, with the values.
    pub(crate) text: String,
    /// The fix.
    pub(crate) fix: String,
    /// The sysctls with the values that fix it.
    pub(crate) sysctls: Vec<(&'static str, u64)>,
}

/// The kernel drops neighbours above the second threshold, and adds none above the third. `limits` are `gc_thresh2` and 3.
pub(crate) fn too_low(limits: (u64, u64), next_hops: usize, containers: usize) -> Option<TooLow> {
    let (second, third) = limits;
    let needed = (next_hops + containers) as u64;
    if second >= needed && third >= needed * 2 {
        return None;
    }
    let (two, three) = (second.max(needed * 2), third.max(needed * 4));
    Some(TooLow {
        text: format!(
            "the kernel keeps {second} to {third} IPv6 neighbours, but {needed} next hops and containers need entries"
        ),
        fix: format!(
            "sysctl -w net.ipv6.neigh.default.gc_thresh2={two} net.ipv6.neigh.default.gc_thresh3={three}, and add both \
             to /etc/sysctl.d"
        ),
        sysctls: vec![
            ("net/ipv6/neigh/default/gc_thresh3", three),
            ("net/ipv6/neigh/default/gc_thresh2", two),
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_too_low_for_more_than_512_neighbours() {
        assert_eq!(too_low((512, 1024), 500, 12), None);
        let low = too_low((512, 1024), 1100, 5).unwrap();
        assert!(low.text.contains("keeps 512 to 1024 IPv6 neighbours, but 1105 next hops"), "{low:?}");
        assert!(low.fix.contains("gc_thresh2=2210 net.ipv6.neigh.default.gc_thresh3=4420"), "{low:?}");
        assert_eq!(too_low((2210, 4420), 1100, 5), None, "the fix is enough");
    }
}
