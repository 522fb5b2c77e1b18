//! What the next pass would change, without changing it: `sextant plan`.

use sextant_proto::{NodeName, Revision};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{Engine, Towards, basis::Basis, text};
use crate::{
    kernel::{Change, Kernel, KernelError, Link, RouteKey, Scope},
    routes::{
        Actual, Decision, Desired, Facts, ForeignReader, Known, Memory, OursReader, Plan, Planned, RouteMap,
        Subjects, decide, desired,
    },
    settings::Settings,
    uplinks,
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

/// What the engine is asked, and where the answer goes.
#[derive(Debug)]
pub(super) enum Ask {
    Preview(Reply<Preview>),
    Towards(NodeName, Reply<Towards>),
}

type Reply<T> = oneshot::Sender<Result<T, KernelError>>;

/// Asks the engine for its decisions on a destination, and for its pending changes.
#[derive(Debug, Clone)]
pub struct Asker(pub(super) mpsc::Sender<Ask>);

impl Asker {
    /// What the next pass would change, from a fresh dump. `None` if the engine has ended.
    ///
    /// # Errors
    /// If the kernel's answer breaks off.
    pub async fn preview(&self) -> Option<Result<Preview, KernelError>> {
        self.ask(Ask::Preview).await
    }

    /// What it has in mind for a node's prefix. `None` if the engine has ended.
    ///
    /// # Errors
    /// If the kernel's answer breaks off.
    pub async fn towards(&self, node: NodeName) -> Option<Result<Towards, KernelError>> {
        self.ask(|reply| Ask::Towards(node, reply)).await
    }

    async fn ask<T>(&self, about: impl FnOnce(Reply<T>) -> Ask) -> Option<Result<T, KernelError>> {
        let (reply, answer) = oneshot::channel();
        self.0.send(about(reply)).await.ok()?;
        answer.await.ok()
    }
}

impl Engine {
    /// Asks this engine, from wherever.
    pub fn asker(&self) -> Asker {
        self.asker.clone()
    }

    /// Nobody left who waits for the answer is no error.
    pub(super) async fn answer(&self, ask: Ask) {
        match ask {
            Ask::Preview(reply) => drop(reply.send(self.dry_run().await.map(|run| run.preview()))),
            Ask::Towards(node, reply) => drop(reply.send(self.towards(&node).await)),
        }
    }

    /// What a pass would change now. Reads everything anew, and keeps nothing of it.
    pub(super) async fn dry_run(&self) -> Result<DryRun<'_>, KernelError> {
        let (links, addresses) = (self.kernel.links().await?, self.kernel.addresses().await?);
        let uplinks = uplinks::local_uplinks(&self.settings.uplinks, &links, &addresses);
        let (mut memory, now) = (self.memory.clone(), Instant::now());
        if uplinks != self.uplinks {
            memory.failures.forget_all();
        }
        let (input, verdicts) = (self.input.borrow().clone(), self.verdicts.borrow().clone());
        let basis = Basis::new(&input, &verdicts, self.imports.borrow().clone(), uplinks);
        let actual = read(self.kernel.as_ref(), self.settings.routes.table).await?;
        let known = basis.known(&self.settings);
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

async fn read(kernel: &dyn Kernel, table: u32) -> Result<Actual, KernelError> {
    let (mut ours, mut foreign) = (OursReader::beside(RouteMap::default()), ForeignReader::default());
    kernel.read_routes(Scope::Table(table), &mut foreign).await?;
    kernel.read_routes(Scope::Ours, &mut ours).await?;
    Ok(Actual { ours: ours.finish(), foreign: foreign.found })
}
