//! One pass: read, plan, apply, report.

use std::sync::Arc;

use sextant_proto::{FailedRoute, NodeName};
use tokio::time::Instant;

use super::{Announcement, Engine, RETRY, Report, Stale, basis::Basis, news};
use crate::{
    cluster::{Input, Verdict, Verdicts},
    host::{self, Setup},
    kernel::{Address, Change, Errno, KernelError, Link, RouteKey, RouteProtocol, Scope},
    log_limiter::Line,
    problems::{Component, Finding},
    routes::{self, ForeignReader, OursReader},
    settings::Role,
    uplinks::{self, LocalUplink},
};

/// The kernel reports that a route is missing (to replace, to delete) or exists already: the known routes are stale.
const ENOENT: i32 = 2;
const ESRCH: i32 = 3;
const EEXIST: i32 = 17;
/// How often one pass restarts because the known routes were stale.
const ATTEMPTS: usize = 3;

impl Engine {
    pub(super) async fn pass(&mut self) -> Result<(), KernelError> {
        let input = self.input.borrow_and_update().clone();
        if input.view.control().paused {
            self.report_paused();
            return Ok(());
        }
        let verdicts = self.verdicts.borrow_and_update().clone();
        let links = self.read_links().await?;
        let blocked = self.do_routes(&input, &verdicts).await?;
        let setup = self.set_up_host(&input, links).await?;
        self.report(&input, &verdicts, &blocked, setup);
        self.measure();
        Ok(())
    }

    fn measure(&mut self) {
        self.meters.stand(self.memory.wanted.desired(), &self.actual);
        let right = {
            let report = self.report.borrow();
            self.meters.flapping.set(i64::try_from(report.flapping.len()).unwrap_or(i64::MAX));
            report.failed.is_empty() && report.flapping.is_empty() && report.held == 0
        };
        if right
            && self.stale == Stale::NOTHING
            && let Some(since) = self.wrong_since.take()
        {
            self.meters.converged(since);
        }
    }

    /// Links and addresses, if they may have changed.
    async fn read_links(&mut self) -> Result<Option<(Vec<Link>, Vec<Address>)>, KernelError> {
        if !self.stale.links {
            return Ok(None);
        }
        let (links, addresses) = (self.kernel.links().await?, self.kernel.addresses().await?);
        self.stale.links = false;
        let uplinks = uplinks::local_uplinks(&self.settings.uplinks, &links, &addresses);
        self.uplink_findings = uplinks::findings(&self.settings.uplinks, &links, &addresses);
        if uplinks != self.uplinks {
            if let Some(withheld) = self.log.admit(Line::Uplinks, Instant::now()) {
                tracing::info!(withheld, uplinks = ?uplinks, "uplinks changed");
            }
            self.uplinks = uplinks;
            self.memory.failures.forget_all();
        }
        Ok(Some((links, addresses)))
    }

    /// Changes the kernel's routes to the desired ones. Returns those that another process's routes block.
    async fn do_routes(
        &mut self,
        input: &Input,
        verdicts: &Arc<Verdicts>,
    ) -> Result<Vec<(RouteKey, RouteProtocol)>, KernelError> {
        let imports = self.imports.borrow().clone();
        self.want(Basis::new(input, verdicts, imports, self.uplinks.clone()));
        let desired = self.memory.wanted.desired().clone();
        let mut blocked = Vec::new();
        for _ in 0..ATTEMPTS {
            self.read_routes().await?;
            let now = Instant::now();
            let plan = self.memory.plan(&self.basis.known(&self.settings), &desired, &self.actual, now);
            self.brake_file.keep(&self.memory.brake, now);
            blocked = plan.blocked().collect();
            self.apply(plan.due()).await?;
            if self.stale == Stale::NOTHING {
                break;
            }
        }
        self.actual.share_with(&desired);
        self.memory.wanted.forget_gone(&self.actual);
        Ok(blocked)
    }

    /// Computes the desired routes again if their input has changed.
    fn want(&mut self, basis: Basis) {
        if basis.is(&self.basis) {
            return;
        }
        let desired = routes::desired(&basis.known(&self.settings));
        if desired.unresolved > 0 {
            let unresolved = desired.unresolved;
            tracing::debug!(unresolved, "routes that routers announce have next hops on none of the uplinks");
        }
        self.memory.wanted.want(desired);
        self.basis = basis;
    }

    async fn read_routes(&mut self) -> Result<(), KernelError> {
        if self.stale.foreign {
            let table = Scope::Table(self.settings.routes.table);
            let mut reader = ForeignReader::default();
            self.kernel.read_routes(table, &mut reader).await?;
            self.actual.foreign = reader.found;
            self.stale.foreign = false;
        }
        if self.stale.ours {
            let mut reader = OursReader::beside(self.actual.ours.clone());
            self.kernel.read_routes(Scope::Ours, &mut reader).await?;
            self.actual.ours = reader.finish();
            self.stale.ours = false;
        }
        Ok(())
    }

    async fn apply(&mut self, changes: Vec<Change>) -> Result<(), KernelError> {
        if changes.is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        let results = self.kernel.apply(&changes).await?;
        self.meters.applied(changes.len(), began);
        let (planned, mut done) = (changes.len(), Vec::with_capacity(changes.len()));
        for (change, result) in changes.into_iter().zip(results) {
            match result {
                Ok(()) => {
                    tracing::debug!(?change, "route");
                    self.memory.failures.forget(&change.route().key);
                    done.push(change);
                }
                Err(errno) => self.refused(&change, errno),
            }
        }
        if let Some(withheld) = self.log.admit(Line::Changes, Instant::now()) {
            tracing::info!(changes = planned, failed = planned - done.len(), withheld, "routes changed");
        }
        self.actual.acknowledged(done);
        Ok(())
    }

    fn refused(&mut self, change: &Change, errno: Errno) {
        if matches!(errno.code, ENOENT | ESRCH | EEXIST) {
            self.stale.ours = true;
            self.stale.foreign = true;
        }
        self.memory.failures.note(change, errno, Instant::now());
    }

    async fn set_up_host(
        &mut self,
        input: &Input,
        links: Option<(Vec<Link>, Vec<Address>)>,
    ) -> Result<Setup, KernelError> {
        let setup = self.host.ensure(input.claim.as_ref(), links.as_ref()).await?;
        if let Setup::Waiting(why) = &setup {
            tracing::debug!(what = why.what, saw = why.saw, "host not set up yet");
            self.retry_at = Some(Instant::now() + RETRY * 5);
            self.stale.links = true;
        }
        Ok(setup)
    }

    fn report(
        &mut self,
        input: &Input,
        verdicts: &Verdicts,
        blocked: &[(RouteKey, RouteProtocol)],
        setup: Setup,
    ) {
        let bridges: Vec<_> = input.container_prefixes().collect();
        let mut conflicts = self.actual.conflicts(self.memory.wanted.desired(), &bridges);
        // Whoever takes a router's routes has others to the same place on purpose.
        conflicts.retain(|conflict| !self.basis.imports.routes.contains_key(&conflict.destination));
        let (announcement, findings) = self.announcement(input, setup);
        let report = Report {
            holding: input.claim.as_ref().map(|claim| claim.epoch),
            applied: input.view.incarnation().map(|incarnation| (incarnation, input.view.revision())),
            failed: self.memory.failures.routes().chain(blocked.iter().map(blocked_route)).collect(),
            flapping: self.memory.damping.routes(Instant::now()),
            verdicts: of_lost_agents(input, verdicts),
            set_up: !findings.iter().any(|finding| finding.unready),
            announcement,
            held: u32::try_from(self.memory.brake.held()).unwrap_or(u32::MAX),
            paused: false,
            withdrawn: input.withdrawn,
            conflicts,
        };
        self.problems.report(Component::Engine, findings);
        self.problems.report(Component::Host, self.host.findings().cloned().collect());
        let log = &mut self.log;
        self.report.send_if_modified(|before| {
            let changed = *before != report;
            if changed {
                news::warn_of_new(before, &report, log, Instant::now());
            }
            *before = report;
            changed
        });
    }

    /// Nothing is read, computed or done; the last report stays true.
    fn report_paused(&self) {
        self.report.send_if_modified(|report| {
            let news = !report.paused;
            if news {
                tracing::warn!("paused by an operator: nothing is changed until `sextant resume`");
            }
            report.paused = true;
            news
        });
    }

    /// The announcement to peers, and the problems of the host.
    fn announcement(&self, input: &Input, setup: Setup) -> (Option<Announcement>, Vec<Finding>) {
        let mut findings = self.uplink_findings.clone();
        if self.settings.role == Role::Router {
            findings.extend(router_problem(input, setup));
            return (None, findings);
        }
        // Peers stop using an uplink at once that is not announced. If none works, all of them are announced.
        let works = |local: &&LocalUplink| local.works && !local.uplink.addresses.is_empty();
        let any = self.uplinks.iter().any(|local| works(&local));
        let announced = self.uplinks.iter().filter(|local| !any || works(local));
        let uplinks: Vec<_> =
            announced.map(|local| uplinks::announced(local, self.settings.next_hop)).collect();
        let unreachable = uplinks.iter().all(|uplink| uplink.addresses.is_empty());
        if unreachable {
            findings.iter_mut().for_each(|finding| finding.unready = true);
        }
        let claim = match (&input.claim, setup) {
            (Some(claim), Setup::Ready) => claim,
            (None, Setup::Ready) => {
                findings.push(host::no_claim());
                return (None, findings);
            }
            (_, Setup::Waiting(why)) => {
                findings.push(why);
                return (None, findings);
            }
        };
        if unreachable {
            return (None, findings);
        }
        (Some(Announcement { uplinks, container_prefix: claim.container_prefix() }), findings)
    }
}

/// A router is set up once it forwards and has received the hosts.
fn router_problem(input: &Input, setup: Setup) -> Option<Finding> {
    match setup {
        Setup::Waiting(why) => Some(why),
        Setup::Ready if input.view.incarnation().is_none() => Some(Finding::unready(
            "no-controller",
            "no controller has answered yet",
            "check --controller, and that sextant-controller runs there",
        )),
        Setup::Ready => None,
    }
}

/// The verdicts that still count: those on nodes without a session.
fn of_lost_agents(input: &Input, verdicts: &Verdicts) -> Vec<sextant_proto::Verdict> {
    let reported = |(node, _): (&NodeName, _)| {
        let verdict = verdicts.on(input.view.peer(node)?)?;
        Some(sextant_proto::Verdict { node: node.clone(), forwarding: verdict == Verdict::Forwarding })
    };
    verdicts.iter().filter_map(reported).collect()
}

fn blocked_route((key, protocol): &(RouteKey, RouteProtocol)) -> FailedRoute {
    let error = format!("a route of proto {protocol} with the same metric {} has its place", key.metric);
    FailedRoute { destination: key.destination, error }
}
