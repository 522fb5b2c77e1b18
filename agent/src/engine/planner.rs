//! Computes the desired routes and the plan, with the memory of earlier passes. It knows the kernel's routes only as an argument.

use std::{net::Ipv6Addr, sync::Arc};

use sextant_proto::{Claim, FailedRoute, Prefix};
use tokio::time::Instant;

use super::{basis::Basis, brake_file::BrakeFile, outcome::Outcome};
use crate::{
    kernel::{RouteKey, RouteProtocol},
    log_limiter::{Line, LogLimiter},
    problems::Finding,
    routes::{self, Actual, Desired, Imports, Known, Memory, Plan},
    settings::Settings,
    state::StateDir,
    uplinks::LocalUplink,
};

/// The desired routes with their basis, and the memory of earlier passes.
pub(super) struct Planner {
    settings: Arc<Settings>,
    basis: Basis,
    memory: Memory,
    findings: Vec<Finding>,
    refused_pools: Vec<Prefix>,
    brake_file: BrakeFile,
    log: LogLimiter,
}

impl Planner {
    /// Nothing is desired yet.
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        Self {
            settings,
            basis: Basis::default(),
            memory: Memory::new(Instant::now()),
            findings: Vec::new(),
            refused_pools: Vec::new(),
            brake_file: BrakeFile::default(),
            log: LogLimiter::default(),
        }
    }

    /// Continues with the brake in the state directory, and saves it there.
    pub(super) fn keep_brake_in(&mut self, state: Arc<StateDir>) {
        (self.brake_file, self.memory.brake) = BrakeFile::open(state, Instant::now());
    }

    pub(super) fn desired(&self) -> &Desired {
        self.memory.wanted.desired()
    }

    pub(super) fn memory(&self) -> &Memory {
        &self.memory
    }

    #[cfg(test)]
    pub(super) fn memory_mut(&mut self) -> &mut Memory {
        &mut self.memory
    }

    /// The basis of the desired routes.
    pub(super) fn known(&self) -> Known<'_> {
        self.basis.known(&self.settings)
    }

    /// The routes of routers that are the basis of the desired routes.
    pub(super) fn imports(&self) -> &Imports {
        &self.basis.imports
    }

    /// This host's claims, as the desired routes have them.
    pub(super) fn claims(&self) -> &[Claim] {
        &self.basis.claims
    }

    /// What the desired routes were computed from.
    pub(super) fn basis(&self) -> &Basis {
        &self.basis
    }

    pub(super) fn uplinks(&self) -> &[LocalUplink] {
        &self.basis.uplinks
    }

    /// The problems of peers and pools, as the desired routes' basis has them.
    pub(super) fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The pools that are refused as a whole.
    pub(super) fn refused_pools(&self) -> &[Prefix] {
        &self.refused_pools
    }

    /// What the host's network stands on.
    pub(super) fn infrastructure(&self) -> impl Iterator<Item = Ipv6Addr> {
        self.basis.infrastructure.addresses()
    }

    /// What this host's own claim would take from its network, so that the host must not use it.
    pub(super) fn captured(&self, claim: &Claim) -> Option<Ipv6Addr> {
        self.basis.infrastructure.inside_own(claim.prefix)
    }

    /// When a change that is held back is due by itself.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.memory.next_due(Instant::now())
    }

    /// Computes the desired routes again if their basis has changed.
    pub(super) fn want(&mut self, basis: Basis) {
        if basis.is(&self.basis) {
            return;
        }
        if !Arc::ptr_eq(&basis.uplinks, &self.basis.uplinks) && basis.uplinks != self.basis.uplinks {
            self.uplinks_changed(&basis.uplinks);
        }
        let known = basis.known(&self.settings);
        let desired = routes::desired(&known);
        self.findings = routes::findings(&known, &desired);
        self.refused_pools = routes::refused_pools(&known).collect();
        if desired.unresolved > 0 {
            let unresolved = desired.unresolved;
            tracing::debug!(unresolved, "routes that routers announce have next hops on none of the uplinks");
        }
        self.memory.wanted.want(desired);
        self.basis = basis;
    }

    /// The changes from the actual to the desired routes.
    pub(super) fn plan(&mut self, actual: &Actual) -> Plan {
        let (desired, now) = (self.desired().clone(), Instant::now());
        let plan = self.memory.plan(&self.basis.known(&self.settings), &desired, actual, now);
        self.brake_file.keep(&self.memory.brake, now);
        plan
    }

    /// The kernel has made changes of the plan, or refused them.
    pub(super) fn note_outcome(&mut self, outcome: &Outcome) {
        let (done, refused, now) = (&outcome.done, &outcome.refused, Instant::now());
        for change in done {
            tracing::debug!(?change, "route");
            self.memory.failures.forget(&change.route().key);
        }
        for (change, errno) in refused {
            self.memory.failures.note(change, errno.clone(), now);
        }
        if let Some(withheld) = self.log.admit(Line::Changes, now) {
            let changes = done.len() + refused.len();
            tracing::info!(changes, failed = refused.len(), withheld, "routes changed");
        }
    }

    /// The plan is carried out.
    pub(super) fn forget_gone(&mut self, actual: &Actual) {
        self.memory.wanted.forget_gone(actual);
    }

    /// The routes that another process changes again and again.
    pub(super) fn flapping(&mut self) -> Vec<FailedRoute> {
        self.memory.damping.routes(Instant::now())
    }
}

/// What the kernel's events change.
impl Planner {
    fn uplinks_changed(&mut self, uplinks: &[LocalUplink]) {
        if let Some(withheld) = self.log.admit(Line::Uplinks, Instant::now()) {
            let uplinks: Vec<_> = uplinks.iter().map(ToString::to_string).collect();
            tracing::info!(withheld, uplinks = uplinks.join(", "), "uplinks changed");
        }
        self.memory.failures.forget_all();
    }

    /// A link that carries routes has changed. Changes that failed for want of it are worth another try; the kernel drops the
    /// routes that it carries, and no other process does.
    pub(super) fn link_changed(&mut self) {
        self.memory.damping.forget_all();
        self.memory.failures.forget_all();
    }

    /// Another process has changed or deleted the route at `key`, by a route of the protocol `by` if it was replaced.
    pub(super) fn undone(&mut self, key: RouteKey, by: Option<RouteProtocol>) {
        let unreachable = self.memory.wanted.refuses(&key);
        if let Some(news) = self.memory.damping.undone(key, unreachable, by, Instant::now()) {
            tracing::warn!(
                destination = %news.key.destination, by = news.by, times = news.times,
                "route repeatedly changed by another process; backing off, except for unreachable routes; find and stop \
                 that process"
            );
        }
    }
}
