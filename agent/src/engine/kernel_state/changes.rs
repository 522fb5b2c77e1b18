//! What makes the known state stale, or changes it.

use tokio::time::Instant;

use super::{
    super::{concern::Concern, outcome::Outcome},
    KernelState, Stale,
};
use crate::{
    kernel::{Event, Route, RouteProtocol},
    log_limiter::Line,
    routes::{Desired, selected},
};

impl KernelState {
    /// Events of the kernel were lost.
    pub(in crate::engine) fn events_lost(&mut self) {
        if let Some(withheld) = self.log.admit(Line::Overrun, Instant::now()) {
            tracing::info!(withheld, "events of the kernel were lost; reading everything anew");
        }
        self.all_is_stale();
    }

    /// Nothing that is known counts any more.
    pub(in crate::engine) fn all_is_stale(&mut self) {
        self.stale = Stale::ALL;
    }

    /// A resync: reads our routes anew, and those of others with `foreign`.
    pub(in crate::engine) fn routes_are_stale(&mut self, foreign: bool) {
        self.stale.ours = true;
        self.stale.foreign |= foreign;
    }

    /// The addresses have changed, or the links.
    pub(in crate::engine) fn links_are_stale(&mut self) {
        self.stale.links = true;
    }

    /// What the event of a link, an address or forwarding concerns.
    pub(in crate::engine) fn concern_of(&mut self, event: &Event) -> Concern {
        match event {
            Event::LinkChanged(link) => self.concerned.link_changed(link),
            Event::LinkGone(link) => self.concerned.link_gone(link),
            Event::AddressChanged(address) => self.concerned.address_changed(address),
            Event::AddressGone(address) => self.concerned.address_gone(address),
            Event::RouteGone(route) | Event::RouteDeleted(route) => self.concerned.route_gone(route),
            Event::Forwarding { link, on: false } => self.concerned.forwarding_off(*link),
            _ => Concern::Nothing,
        }
    }

    /// What is concerned must be read again. Returns whether that is anything, now.
    pub(in crate::engine) fn is_stale(&mut self, concern: Concern) -> bool {
        self.stale.links |= concern >= Concern::Host;
        // The kernel drops the routes of a link that goes, and may say nothing of them.
        self.stale.ours |= concern == Concern::Routes;
        self.stale.foreign |= concern == Concern::Routes;
        self.containers |= concern == Concern::Later;
        concern >= Concern::Host
    }

    /// Has the links read again if links of containers have come. Returns whether they have.
    pub(in crate::engine) fn look_at_containers(&mut self) -> bool {
        self.stale.links |= self.containers;
        std::mem::take(&mut self.containers)
    }

    /// A route has changed or is gone. Its place is that of a route that is `wanted`, or not. Returns whether any must be read
    /// again.
    pub(in crate::engine) fn route_changed(&mut self, route: &Route, gone: bool, wanted: bool) -> bool {
        let ours = route.protocol == RouteProtocol::OURS;
        // A replace removes the previous route without an event, whichever process made it.
        self.stale.foreign |= !gone && self.actual.is_anothers(route);
        self.stale.foreign |= !ours && self.decides_neighbours(route);
        if !ours && gone {
            self.actual.lost(route);
        } else if !ours && self.is_followed(route.key.table) {
            self.actual.saw(route);
        }
        if !ours && self.is_selected(route.key.table) {
            if gone {
                self.selected.lost(route);
            } else {
                self.selected.saw(route);
            }
        }
        self.stale.ours |= ours || wanted;
        self.stale != Stale::NOTHING
    }

    /// Whether rules for some packets lead to this table.
    pub(in crate::engine) fn is_selected(&self, table: u32) -> bool {
        selected(&self.rules, self.settings.routes.table).any(|it| it == table)
    }

    /// The agent has removed a route of another process: the kernel does not notify of that.
    pub(in crate::engine) fn removed(&mut self, route: &Route) {
        self.actual.lost(route);
    }

    /// Whether another process's route may make a destination a neighbour on an uplink, or one no more, or change the gateways.
    fn decides_neighbours(&self, route: &Route) -> bool {
        let neighbours = || self.uplinks.iter().any(|local| local.is_decided_by(route));
        let others = || self.names.are_decided_by(route) || self.gateways.are_decided_by(route);
        self.link_routes.uses(route.key.table) && (others() || neighbours())
    }

    /// Lets what is and what should be share their memory where they are the same.
    pub(in crate::engine) fn share_with(&mut self, desired: &Desired) {
        self.actual.share_with(desired);
    }

    /// The kernel has acknowledged changes, or refused them.
    pub(in crate::engine) fn apply_outcome(&mut self, outcome: Outcome) {
        if outcome.contradicts_known_routes() {
            self.routes_are_stale(true);
        }
        self.actual.acknowledged(outcome.done);
    }
}
