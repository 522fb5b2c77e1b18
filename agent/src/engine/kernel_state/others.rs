//! A table of the kernel, read for all who want to know of others' routes.

use crate::{
    kernel::{Route, RouteProtocol, RouteReader},
    routes::ForeignReader,
    uplinks::LinkRouteReader,
};

/// The readers of one dump. None takes our routes, which may be a hundred thousand.
#[derive(Debug, Default)]
pub(super) struct OthersReader {
    pub(super) foreign: ForeignReader,
    pub(super) of_links: LinkRouteReader,
    /// Those by router advertisement.
    pub(super) advertised: Vec<Route>,
}

impl RouteReader for OthersReader {
    fn begin(&mut self) {
        self.foreign.begin();
        self.of_links.begin();
        self.advertised.begin();
    }

    fn takes(&self, protocol: RouteProtocol) -> bool {
        protocol != RouteProtocol::OURS
    }

    fn take(&mut self, route: Route) {
        if !self.takes(route.protocol) {
            return;
        }
        if route.protocol == RouteProtocol::ADVERTISED {
            self.advertised.push(route.clone());
        }
        self.of_links.take(route.clone());
        self.foreign.take(route);
    }
}
