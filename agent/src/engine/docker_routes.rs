//! Routes that a container engine makes to its bridges: the checks of the engine judge them, so they are no conflicts; and those that
//! it has left on the agent's own bridge are removed.

use std::sync::Arc;

use super::{Engine, inputs::Latest};
use crate::{
    containers::checks::is_of_containers,
    docker::pools,
    kernel::{KernelError, LOCAL_TABLE, MAIN_TABLE, Route, RouteKey, RouteProtocol},
    routes::Capture,
    settings::DockerMode,
};

impl Engine {
    /// Whether the checks of the container engine judge this route: one of the engine, or the kernel's of the engine's address.
    pub(super) fn is_engines(&self, latest: &Latest, capture: &Capture<'_>) -> bool {
        let Capture { key, protocol, target, .. } = capture;
        let of_engine = [RouteProtocol::BOOT, RouteProtocol::KERNEL].contains(protocol)
            && [MAIN_TABLE, LOCAL_TABLE].contains(&key.table);
        let of_pool = || pools(&latest.input).iter().any(|pool| pool.covers(key.destination));
        self.settings.docker.is_some()
            && of_engine
            && target.direct_link().is_some_and(|link| self.is_of_containers(latest, link))
            && of_pool()
    }

    fn is_of_containers(&self, latest: &Latest, index: u32) -> bool {
        let link = self.state.links().iter().find(|link| link.index == index);
        let (bridge, uplinks) = (&self.settings.bridge.name, self.state.uplink_names());
        link.is_some_and(|link| {
            is_of_containers(&link.name, bridge, uplinks, |name| latest.bridges.contains(name))
        })
    }

    /// Removes routes of the agent's former networks from its bridge. Docker up to 26 leaves them, and they would take packets to the
    /// prefix's next owner.
    pub(super) async fn remove_left(&mut self, latest: &Latest) -> Result<(), KernelError> {
        for route in self.left(latest) {
            let Some(link) = route.target.direct_link() else { continue };
            self.kernel.remove_boot_route(&route.key, link).await?;
            self.state.removed(&route);
            let (bridge, route) = (&self.settings.bridge.name, route.key.destination);
            tracing::info!(bridge, %route, "route removed that Docker left of the former network");
        }
        Ok(())
    }

    fn left(&self, latest: &Latest) -> Vec<Route> {
        let keeps = self.settings.docker.as_ref().is_some_and(|docker| docker.mode == DockerMode::Network);
        if !keeps || latest.left.is_empty() {
            return Vec::new();
        }
        let bridge = self.state.links().iter().find(|link| link.name == self.settings.bridge.name);
        let claimed = |key: &RouteKey| {
            latest.input.claims.iter().any(|claim| claim.container_prefix().overlaps(key.destination))
        };
        let is_left = |route: &Route| {
            route.target.direct_link() == bridge.map(|bridge| bridge.index)
                && latest.left.contains(&route.key.destination)
                && !claimed(&route.key)
        };
        self.of_boot().into_iter().filter(is_left).collect()
    }

    /// Publishes the routes of `proto boot`.
    pub(super) fn publish_boot_routes(&self) {
        if self.settings.docker.is_none() {
            return;
        }
        let now = self.of_boot();
        self.boot_routes.send_if_modified(|before| {
            let changed = **before != now;
            if changed {
                *before = Arc::new(now);
            }
            changed
        });
    }

    /// The routes of `proto boot` in the main table that lead to a link without a gateway.
    fn of_boot(&self) -> Vec<Route> {
        let foreign = self.state.actual().foreign.iter().filter(|(key, _)| key.table == MAIN_TABLE);
        let all = foreign.flat_map(|(key, occupants)| occupants.iter().map(move |occupant| (key, occupant)));
        all.filter(|(_, (protocol, target))| {
            *protocol == RouteProtocol::BOOT && target.direct_link().is_some()
        })
        .map(|(key, (protocol, target))| Route {
            key: *key,
            protocol: *protocol,
            target: target.clone(),
            mtu: None,
        })
        .collect()
    }
}
