//! Who the router on a link is, where only its interface is configured: the one that advertises itself (RFC 4861).
//!
//! Such neighbours find each other both ways: we advertise ourselves too, as no default router.

use std::{io, net::Ipv6Addr, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::icmp::Link;

/// How often we are heard.
const INTERVAL: Duration = Duration::from_secs(10);
/// How often until a router is heard (RFC 4861 §6.3.7 has it so).
const FIRST_INTERVAL: Duration = Duration::from_secs(4);

pub(in crate::bgp) struct Discovery {
    interface: Arc<str>,
    link: Option<Link>,
    announce_at: Instant,
    found: bool,
}

impl Discovery {
    pub(in crate::bgp) fn new(interface: Arc<str>) -> Self {
        Self { interface, link: None, announce_at: Instant::now(), found: false }
    }

    async fn next(&mut self) -> io::Result<Ipv6Addr> {
        loop {
            let heard = async {
                match &self.link {
                    Some(link) => link.heard().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                heard = heard => {
                    self.found |= heard.is_ok();
                    return heard;
                }
                () = sleep_until(self.announce_at) => {
                    self.announce_at = Instant::now() + if self.found { INTERVAL } else { FIRST_INTERVAL };
                    self.announce()?;
                }
            }
        }
    }

    /// Anew each time that it fails: the interface may have been another one.
    fn announce(&mut self) -> io::Result<()> {
        let link = match self.link.take() {
            Some(link) => link,
            None => Link::open(&self.interface)?,
        };
        link.announce()?;
        self.link = Some(link);
        Ok(())
    }
}

/// The next that is heard of the router, or why nothing can be; never anything where its address is configured. Cancel safe.
pub(in crate::bgp) async fn heard(discovery: &mut Option<Discovery>) -> io::Result<Ipv6Addr> {
    match discovery {
        Some(discovery) => discovery.next().await,
        None => std::future::pending().await,
    }
}
