//! The flags of a graceful restart (RFC 4724 §3) at a start of the agent. Pure.

use super::wire::open::Restart;
use crate::state::Exported;

/// A start in this boot of the host, after an agent that had announced `before`. Within one boot, forwarding was preserved: the engine
/// has just found or made all of the host's own routes.
pub(super) fn since(before: Option<&Exported>, boot: &str) -> Restart {
    Restart {
        restarted: before.is_some_and(|before| !before.prefixes().is_empty()),
        preserved: before.is_some_and(|before| before.boot_id == boot && !boot.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwarding_is_preserved_within_one_boot_only() {
        let prefixes = ["2001:db8:1::/64".parse().unwrap()];
        let of = |before: Option<(&str, &[_])>, boot| {
            let before = before.map(|(boot, prefixes)| Exported::new(boot, prefixes));
            let Restart { restarted, preserved } = since(before.as_ref(), boot);
            (restarted, preserved)
        };
        assert_eq!(of(None, "a"), (false, false), "the first start");
        assert_eq!(of(Some(("a", &prefixes)), "a"), (true, true));
        assert_eq!(of(Some(("a", &prefixes)), "b"), (true, false), "the host was started again");
        assert_eq!(of(Some(("", &prefixes)), ""), (true, false), "it is not known");
        assert_eq!(of(Some(("a", &[])), "a"), (false, true), "nothing was announced");
    }
}
