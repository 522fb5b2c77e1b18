//! What the next pass would change, without changing it: `sextant plan`.

use sextant_proto::{NodeName, Prefix, Revision};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{Engine, Towards, reasons::Reasons};
use crate::{
    cluster::{Input, Verdicts},
    kernel::{
        Change, Kernel, KernelError, Link, MAIN_TABLE, NextHop, OwnRoute, RouteKey, RouteProtocol,
        RouteTarget, Scope,
    },
    routes::{
        self, Actual, Brake, Desired, ForeignReader, Host, OursReader, Plan, RouteMap, Sight, desired, plan,
    },
    uplinks::{self, LocalUplink},
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
    /// The first of them, in the order in which they would be done; what cannot be done comes last.
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
    /// What it waits for, and the mend; nothing if it is done at the next pass.
    pub waits: Option<String>,
}

/// What the engine is asked, and where the answer goes.
#[derive(Debug)]
pub(super) enum Ask {
    Preview(Reply<Preview>),
    Towards(NodeName, Reply<Towards>),
}

type Reply<T> = oneshot::Sender<Result<T, KernelError>>;

/// Asks the engine what it wants, and what it would change.
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
            Ask::Preview(reply) => drop(reply.send(self.preview(None).await)),
            Ask::Towards(node, reply) => drop(reply.send(self.towards(&node).await)),
        }
    }

    /// What a pass would change now, of all or of one destination. Reads everything anew, and keeps nothing of it.
    pub(super) async fn preview(&self, only: Option<Prefix>) -> Result<Preview, KernelError> {
        let (input, verdicts) = (self.input.borrow().clone(), self.verdicts.borrow().clone());
        let (links, addresses) = (self.kernel.links().await?, self.kernel.addresses().await?);
        let uplinks = uplinks::local_uplinks(&self.settings.uplinks, &links, &addresses);
        let desired = self.desired_over(&uplinks, &input, &verdicts);
        let actual = read(self.kernel.as_ref(), self.settings.routes.table).await?;
        let Plan { changes, blocked, .. } = plan(&desired, &actual, |_| true);
        let premature = plan(&desired, &actual, |key| self.may_go(&input, &desired, key)).premature;
        let brake = self.brake_on(&input, &actual, &desired);
        let reasons = Reasons {
            settings: &self.settings,
            input: &input,
            verdicts: &verdicts,
            uplinks: &uplinks,
            desired: &desired,
            actual: &actual,
            wanted: &self.wanted,
        };
        let taken = blocked.iter().filter_map(|(key, protocol)| {
            let route = OwnRoute { key: *key, target: desired.routes.get(key)?.clone() };
            Some((Change::Add(route), Some(of_its_place(key, *protocol))))
        });
        let more = (changes.len() + blocked.len()).saturating_sub(LISTED);
        let paused = input.view.control().paused;
        let waits = |change: &Change| match change {
            Change::Add(route) if premature.contains(&route.key) => Some(of_another_table()),
            _ => self.waits(change, &input, &desired, &brake).or_else(|| paused.then(of_pause)),
        };
        let planned =
            changes.into_iter().map(|change| (waits(&change), change)).map(|(waits, it)| (it, waits));
        let wanted = |(change, _): &(Change, _)| {
            only.is_none_or(|destination| change.route().key.destination == destination)
        };
        let pending = planned.chain(taken).filter(wanted).take(LISTED).map(|(change, waits)| {
            let failed = self.failures.of(&change).is_some();
            let (route, why) = (shown(change.route(), &links), reasons.why(&change, failed, &links));
            Pending { change, route, why, waits }
        });
        Ok(Preview { paused, revision: input.view.revision(), changes: pending.collect(), more })
    }

    fn may_go(&self, input: &Input, desired: &Desired, key: &RouteKey) -> bool {
        let (imports, settings) = (self.imports.borrow().clone(), &self.settings.routes);
        let no_import = || routes::may_go(key, &imports, settings, &input.view, desired);
        self.wanted.knows(key) || (input.view.is_complete() && no_import())
    }

    /// The brake as the next pass would have it.
    fn brake_on(&self, input: &Input, actual: &Actual, desired: &Desired) -> Brake {
        let mut brake = self.brake.clone();
        if !input.withdrawn {
            let (node, settings) = (&self.settings.node, &self.settings.routes);
            let sight = Sight { node, view: &input.view, actual, desired, settings };
            brake.judge(sight, |key| self.may_go(input, desired, key), Instant::now());
        }
        brake
    }

    /// What holds a change beyond a pause.
    fn waits(&self, change: &Change, input: &Input, desired: &Desired, brake: &Brake) -> Option<String> {
        let (key, now) = (&change.route().key, Instant::now());
        if matches!(change, Change::Delete(_)) {
            if !self.may_go(input, desired, key) {
                let why = "until the agent has heard everything from a current controller, and the store's recovery window is closed";
                return Some(why.into());
            }
            if brake.holds(key) {
                return Some(
                    "the brake: too many peers are gone at once; look, then `sextant resume`".into(),
                );
            }
        }
        if let Some((errno, due)) = self.failures.of(change) {
            let secs = due.saturating_duration_since(now).as_secs();
            return Some(format!("failed: {errno}; next try in {secs} s"));
        }
        let until = self.damping.until(key, now)?;
        let secs = until.saturating_duration_since(now).as_secs();
        Some(format!("route repeatedly changed by another process: find it; next try in {secs} s"))
    }

    /// What should be, over these uplinks.
    pub(super) fn desired_over(
        &self,
        uplinks: &[LocalUplink],
        input: &Input,
        verdicts: &Verdicts,
    ) -> Desired {
        let host = Host {
            node: &self.settings.node,
            claim: input.claim.as_ref(),
            uplinks,
            controllers: &input.controllers,
            withdrawn: input.withdrawn,
            verdicts,
            settings: &self.settings.routes,
        };
        let mut desired = desired(&host, &input.view);
        let unresolved = desired.import(&host, &input.view, &self.imports.borrow());
        if unresolved > 0 {
            tracing::debug!(unresolved, "routes that routers announce have next hops on none of the uplinks");
        }
        desired
    }
}

fn of_pause() -> String {
    "the end of the pause: `sextant resume`".into()
}

/// The kernel has room for one route of a key.
fn of_its_place(key: &RouteKey, protocol: RouteProtocol) -> String {
    let table = if key.table == MAIN_TABLE { String::new() } else { format!(" table {}", key.table) };
    format!(
        "a route of proto {protocol} with the same metric has its place; take that away: ip -6 route del {} proto {protocol} \
         metric {}{table}",
        key.destination, key.metric
    )
}

fn of_another_table() -> String {
    "until the agent has heard of all peers: it would cover what another table still leads to".into()
}

async fn read(kernel: &dyn Kernel, table: u32) -> Result<Actual, KernelError> {
    let (mut ours, mut foreign) = (OursReader::beside(RouteMap::default()), ForeignReader::default());
    kernel.read_routes(Scope::Table(table), &mut foreign).await?;
    kernel.read_routes(Scope::Ours, &mut ours).await?;
    Ok(Actual { ours: ours.finish(), foreign: foreign.found })
}

/// A route of ours as `ip -6 route` shows it.
pub(super) fn shown(route: &OwnRoute, links: &[Link]) -> String {
    let OwnRoute { key, target } = route;
    let kind = if *target == RouteTarget::Unreachable { "unreachable " } else { "" };
    let table = if key.table == MAIN_TABLE { String::new() } else { format!(" table {}", key.table) };
    let protocol = sextant_proto::ROUTE_PROTOCOL;
    format!("{kind}{}{} proto {protocol} metric {}{table}", key.destination, leads(target, links), key.metric)
}

/// Where a route leads, with a space before it.
pub(crate) fn leads(target: &RouteTarget, links: &[Link]) -> String {
    let hop = |hop: &NextHop| {
        let name = links.iter().find(|link| link.index == hop.link).map(|link| link.name.clone());
        let name = name.unwrap_or_else(|| format!("if{}", hop.link));
        hop.gateway.map_or_else(|| format!(" dev {name}"), |gateway| format!(" via {gateway} dev {name}"))
    };
    match target {
        RouteTarget::Via(hops) if hops.len() == 1 => hops.iter().map(hop).collect(),
        RouteTarget::Via(hops) => hops.iter().map(|it| format!(" nexthop{}", hop(it))).collect(),
        RouteTarget::Unreachable => " dev lo".into(),
        RouteTarget::Other(kind) => format!(" type {kind}"),
    }
}
