//! What the kernel needs to answer neighbour solicitations for containers (topology `ndp-proxy`).
//!
//! `conf.IF.proxy_ndp` lets it answer those that are sent to a group; those to an address itself, by which neighbours check that it
//! is still there (RFC 4861 §7.3), it takes only with `conf.all.proxy_ndp` (`ip6_forward` in net/ipv6/ip6_output.c). With the default
//! `proxy_delay` it waits for up to 0.8 s.

use super::{HostSetup, SetupError, sysctls::of_interface};
use crate::{damping::Change, kernel::Link};

const PROXY_NDP: &str = "proxy_ndp";
const PROXY_DELAY: &str = "proxy_delay";

/// The interface of a sysctl that is set here, e.g. of `net/ipv6/conf/eth0/proxy_ndp`; `all` is one of them.
pub(super) fn interface(path: &str) -> Option<&str> {
    let conf = || path.strip_prefix("net/ipv6/conf/")?.strip_suffix(PROXY_NDP)?.strip_suffix('/');
    let neigh = || path.strip_prefix("net/ipv6/neigh/")?.strip_suffix(PROXY_DELAY)?.strip_suffix('/');
    conf().or_else(neigh)
}

impl HostSetup {
    /// Lets the kernel answer on the uplinks, at once.
    pub(super) fn ensure_proxying(&mut self, links: &[Link]) -> Result<(), SetupError> {
        if self.settings.ndp_source.is_none() {
            return Ok(());
        }
        let uplinks = links.iter().filter(|link| self.settings.uplinks.contains(&link.name));
        let names: Vec<_> = uplinks.map(|link| link.name.clone()).collect();
        for name in names.iter().map(String::as_str).chain(["all"]) {
            self.ensure_sysctl(
                &of_interface(name, PROXY_NDP),
                |found| found == "0",
                "1",
                Change::Forwarding,
            )?;
        }
        for name in &names {
            let path = format!("net/ipv6/neigh/{name}/{PROXY_DELAY}");
            self.ensure_sysctl(&path, |found| found != "0", "0", Change::Forwarding)?;
        }
        Ok(())
    }
}
