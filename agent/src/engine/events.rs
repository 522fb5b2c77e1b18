//! What the kernel's events change in what the engine knows.

use std::time::Duration;

use tokio::sync::mpsc;

use super::Engine;
use crate::kernel::{Event, KernelError, Route};

/// How long to gather events before a pass, so that a burst makes one pass.
const GATHER: Duration = Duration::from_millis(2);

impl Engine {
    /// Takes the burst of events that begins with `first`. Not cancel safe.
    pub(super) async fn take_events(
        &mut self,
        first: Option<Event>,
        events: &mut mpsc::Receiver<Event>,
    ) -> Result<(), KernelError> {
        let first = first.ok_or_else(|| KernelError::Broken("the kernel's events ended".into()))?;
        self.timing.event();
        self.take(&first);
        tokio::time::sleep(GATHER).await;
        while let Ok(event) = events.try_recv() {
            self.take(&event);
        }
        Ok(())
    }

    pub(super) fn take(&mut self, event: &Event) {
        match event {
            Event::Overrun => self.take_overrun(),
            Event::RouteChanged(route) => self.take_route(route, false),
            Event::RouteGone(route) => self.take_route(route, true),
            Event::LinkChanged(link) | Event::LinkGone(link) => {
                let carries_routes = self.state.carries_routes(link);
                self.planner.link_changed(carries_routes);
                self.state.link_changed(carries_routes);
            }
            Event::RulesChanged => self.state.routes_are_stale(true),
            Event::AddressChanged(_) | Event::AddressGone(_) => self.state.links_are_stale(),
        }
    }

    fn take_overrun(&mut self) {
        self.timing.meters.overruns.inc();
        self.state.events_lost();
    }

    fn take_route(&mut self, route: &Route, gone: bool) {
        if self.state.is_undone_by(route, gone) {
            self.planner.undone(route.key, (!gone).then_some(route.protocol));
        }
        let wanted = self.planner.memory().wanted.knows(&route.key);
        self.state.route_changed(route, gone, wanted);
    }
}
