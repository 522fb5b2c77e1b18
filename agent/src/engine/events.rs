//! What the kernel's events change in what the engine knows.

use std::time::Duration;

use tokio::sync::mpsc;

use super::{Engine, concern::Concern};
use crate::kernel::{Event, KernelError, Route, RouteProtocol};

/// How long to gather events before a pass, so that a burst makes one pass.
const GATHER: Duration = Duration::from_millis(2);

impl Engine {
    /// Takes the burst of events that begins with `first`. Returns whether any of them concerns this host's routes or setup.
    /// Not cancel safe.
    pub(super) async fn take_events(
        &mut self,
        first: Option<Event>,
        events: &mut mpsc::Receiver<Event>,
    ) -> Result<bool, KernelError> {
        let first = first.ok_or_else(|| KernelError::Broken("the kernel's events ended".into()))?;
        let mut concerned = self.take(&first);
        tokio::time::sleep(GATHER).await;
        while let Ok(event) = events.try_recv() {
            concerned |= self.take(&event);
        }
        if concerned {
            self.timing.event();
        }
        Ok(concerned)
    }

    pub(super) fn take(&mut self, event: &Event) -> bool {
        let concern = match event {
            Event::Overrun => {
                self.take_overrun();
                return true;
            }
            Event::RulesChanged => {
                self.state.routes_are_stale(true);
                self.host.request_check();
                return true;
            }
            Event::RouteChanged(route) => return self.take_route(route, false),
            Event::RouteGone(route) | Event::RouteDeleted(route) => {
                if matches!(event, Event::RouteDeleted(_)) && route.protocol == RouteProtocol::OURS {
                    self.host.route_deleted(&route.key);
                }
                let concern = self.state.concern_of(event);
                return self.state.is_stale(concern) | self.take_route(route, true);
            }
            event => self.state.concern_of(event),
        };
        if concern == Concern::Routes {
            self.planner.link_changed();
        }
        self.state.is_stale(concern)
    }

    fn take_overrun(&mut self) {
        self.timing.meters.overruns.inc();
        self.host.advertised_changed();
        self.state.events_lost();
    }

    /// A route of another process matters where one of ours has the same destination, or where it takes packets from ours.
    fn take_route(&mut self, route: &Route, gone: bool) -> bool {
        if route.protocol == RouteProtocol::ADVERTISED {
            self.host.advertised_changed();
        }
        if self.state.is_undone_by(route, gone) {
            self.planner.undone(route.key, (!gone).then_some(route.protocol));
        }
        let wanted = self.planner.memory().wanted.knows(&route.key);
        let beside = self.planner.desired().routes.deciding(&route.key).is_some();
        let others = route.protocol != RouteProtocol::OURS;
        // The checks of a container engine are for routes too that take packets from none of ours.
        let of_engine = self.settings.docker.is_some() && route.protocol == RouteProtocol::BOOT;
        self.state.route_changed(route, gone, wanted)
            || beside
            || of_engine
            || others && (self.captures(route) || self.is_selected(route))
    }
}
