//! What the next pass would change, without changing it: `sextant plan`.

use sextant_proto::Revision;
use tokio::time::Instant;

use super::{Engine, basis::Basis, text};
use crate::{
    kernel::{Change, KernelError, Link, RouteKey},
    routes::{Actual, Decision, Desired, Facts, Known, Memory, Plan, Planned, Subjects, decide, desired},
    settings::Settings,
};

/// So many changes are listed, so that one message holds them.
const LISTED: usize = 1000;

/// What would change now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// Nothing is done until a resume.
    pub paused: bool,
    /// What the agent knows.
    pub revision: Revision,
    /// The first of them, in the order of execution; blocked changes come last.
    pub changes: Vec<Pending>,
    /// How many more there are.
    pub more: usize,
}

/// A change that is not done yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// What is to be done.
    pub change: Change,
    /// The route as `ip -6 route` shows it.
    pub route: String,
    /// Why.
    pub why: String,
    /// What it waits for, and the fix; nothing if it is done at the next pass.
    pub waits: Option<String>,
}

impl Engine {
    /// What a pass would change now. Reads everything anew, and keeps nothing of it.
    pub(super) async fn dry_run(&self) -> Result<DryRun<'_>, KernelError> {
        let mut state = self.state.anew();
        let (links, _) = state.read_links().await?.unwrap_or_default();
        let latest = self.inputs.peek();
        state.read_routes(&latest.input).await?;
        let basis = Basis::new(&latest, state.uplinks().clone(), state.gateways().clone(), &Basis::default());
        let (mut memory, now) = (self.planner.memory().clone(), Instant::now());
        if *basis.uplinks != self.planner.uplinks() {
            memory.failures.forget_all();
        }
        let (known, actual) = (basis.known(&self.settings), state.into_actual());
        let desired = desired(&known);
        let Plan { changes } = memory.plan(&known, &desired, &actual, now);
        Ok(DryRun { settings: &self.settings, links, basis, desired, actual, memory, changes, now })
    }
}

/// A pass that changes nothing.
pub(super) struct DryRun<'a> {
    settings: &'a Settings,
    links: Vec<Link>,
    basis: Basis,
    pub(super) desired: Desired,
    pub(super) actual: Actual,
    pub(super) memory: Memory,
    /// All changes, in their order.
    pub(super) changes: Vec<Planned>,
    now: Instant,
}

impl DryRun<'_> {
    pub(super) fn known(&self) -> Known<'_> {
        self.basis.known(self.settings)
    }

    pub(super) fn is_paused(&self) -> bool {
        self.basis.view.control().paused
    }

    pub(super) fn revision(&self) -> Revision {
        self.basis.view.revision()
    }

    pub(super) fn preview(&self) -> Preview {
        Preview {
            paused: self.is_paused(),
            revision: self.revision(),
            changes: self.pending(|_| true),
            more: self.changes.len().saturating_sub(LISTED),
        }
    }

    /// The first changes of the routes that are `wanted`.
    pub(super) fn pending(&self, wanted: impl Fn(&RouteKey) -> bool) -> Vec<Pending> {
        let known = self.known();
        let subjects = Subjects::of(&known);
        let Self { desired, actual, memory, now, .. } = self;
        let facts = Facts { known: &known, desired, actual, memory, now: *now };
        let pending = |planned: &Planned| {
            let route = planned.change.route();
            let Decision { owner, change, .. } = decide(&facts, &subjects, &route.key);
            let why = change.map(|(it, reason)| text::why(owner, reason, &it.change, &self.links));
            Pending {
                change: planned.change.clone(),
                route: text::shown(route, &self.links),
                why: why.unwrap_or_default(),
                waits: text::waits(planned, &memory.failures, *now),
            }
        };
        let listed = self.changes.iter().filter(|planned| wanted(&planned.change.route().key)).take(LISTED);
        listed.map(pending).collect()
    }
}
