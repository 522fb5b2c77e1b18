//! The routes by router advertisement (RFC 4861 section 6.3.4).

use crate::kernel::{Kernel, KernelError, Link, Route, RouteTarget, Scope};

/// These routes as they were last read. To read them, the kernel walks through all of its routes, so they are read again only
/// where they may have changed.
#[derive(Debug, Default)]
pub(super) struct Advertised(Option<Vec<Route>>);

impl Advertised {
    /// They may have changed.
    pub(super) fn forget(&mut self) {
        self.0 = None;
    }

    /// They were read just now.
    pub(super) fn set(&mut self, routes: Vec<Route>) {
        self.0 = Some(routes);
    }

    /// The links changed: those that are down or gone have no routes, of whose end the kernel may have said nothing.
    pub(super) fn follow(&mut self, links: &[Link]) {
        let up = |index| links.iter().any(|link| link.index == index && link.up);
        if let Some(known) = &mut self.0 {
            known.retain(|route| match &route.target {
                RouteTarget::Via(hops) => hops.iter().all(|hop| up(hop.link)),
                _ => true,
            });
        }
    }

    /// The present routes.
    ///
    /// # Errors
    /// If the kernel cannot be read.
    pub(super) async fn read(&mut self, kernel: &dyn Kernel) -> Result<&[Route], KernelError> {
        let routes = match self.0.take() {
            Some(known) => known,
            None => kernel.routes(Scope::Advertised).await?,
        };
        Ok(self.0.insert(routes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{NextHop, RouteKey, RouteProtocol};

    #[test]
    fn a_link_that_is_down_or_gone_has_no_routes() {
        let route = |link| Route {
            mtu: None,
            key: RouteKey { table: 254, destination: "2001:db8:77::/64".parse().unwrap(), metric: link },
            protocol: RouteProtocol::ADVERTISED,
            target: RouteTarget::Via(NextHop { gateway: None, link, onlink: false }.into()),
        };
        let mut advertised = Advertised(Some(vec![route(1), route(2), route(3)]));
        let link = |index, up| Link { index, up, ..Link::default() };
        advertised.follow(&[link(1, true), link(2, false)]);
        assert_eq!(advertised.0, Some(vec![route(1)]));
    }
}
