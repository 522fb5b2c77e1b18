//! One pass: read, plan, apply, report.

use sextant_proto::{Claim, FailedRoute, Prefix};
use tokio::time::Instant;

use super::{
    Announcement, Engine, RETRY, Report, announcement::announcement, basis::Basis, bgp_pools, inputs::Latest,
    outcome::Outcome,
};
use crate::{
    host::Setup,
    kernel::{Address, Change, KernelError, Link, RouteKey, RouteProtocol},
};

/// How often one pass restarts because the known routes were stale.
const ATTEMPTS: usize = 3;

impl Engine {
    pub(super) async fn pass(&mut self) -> Result<(), KernelError> {
        let latest = self.inputs.take();
        if latest.is_paused() {
            self.publisher.publish_pause();
            return Ok(());
        }
        let links = self.state.read_links().await?;
        let blocked = self.change_routes(&latest).await?;
        self.remove_left(&latest).await?;
        let setup = self.set_up_host(&latest, links).await?;
        self.report(&latest, &blocked, setup);
        self.measure();
        Ok(())
    }

    /// Changes the kernel's routes to the desired ones. Returns those that another process's routes block.
    async fn change_routes(
        &mut self,
        latest: &Latest,
    ) -> Result<Vec<(RouteKey, RouteProtocol)>, KernelError> {
        let mut blocked = Vec::new();
        for _ in 0..ATTEMPTS {
            self.state.read_routes(&latest.input).await?;
            // Others' routes say who is a neighbour.
            let (uplinks, gateways) = (self.state.uplinks().clone(), self.state.gateways().clone());
            self.planner.want(Basis::new(latest, uplinks, gateways, self.planner.basis()));
            let plan = self.planner.plan(self.state.actual());
            blocked = plan.blocked().collect();
            self.apply(plan.due()).await?;
            if self.state.is_current() {
                break;
            }
        }
        self.state.share_with(self.planner.desired());
        self.planner.forget_gone(self.state.actual());
        Ok(blocked)
    }

    async fn apply(&mut self, changes: Vec<Change>) -> Result<(), KernelError> {
        if changes.is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        let answers = self.kernel.apply(&changes).await?;
        self.timing.meters.applied(changes.len(), began);
        let outcome = Outcome::of(changes, answers);
        self.planner.note_outcome(&outcome);
        self.state.apply_outcome(outcome);
        Ok(())
    }

    async fn set_up_host(
        &mut self,
        latest: &Latest,
        links: Option<(Vec<Link>, Vec<Address>)>,
    ) -> Result<Setup, KernelError> {
        self.host.set_uplinks(self.state.uplink_names());
        self.host.set_engine_away(latest.engine_away);
        if let Some(routes) = self.state.take_advertised() {
            self.host.set_advertised(routes);
        }
        self.host.set_route_mtu(self.state.route_mtu());
        if latest.input.view.is_complete() {
            self.host.claims_are_known();
        }
        let usable = |claim: &&Claim| self.planner.captured(claim).is_none();
        let claims: Vec<_> = latest.input.claims.iter().filter(usable).cloned().collect();
        let setup = self.host.ensure(&claims, links.as_ref()).await?;
        let mtu = self.host.path_mtu();
        self.path_mtu.send_if_modified(|before| std::mem::replace(before, mtu) != mtu);
        let reasons = match &setup {
            Setup::Ready => &[][..],
            Setup::Without(reasons) => reasons,
            Setup::Waiting(why) => &[(Prefix::EVERYWHERE, why.clone())],
        };
        for (prefix, why) in reasons {
            tracing::debug!(%prefix, what = why.what, saw = why.saw, "host not set up yet");
        }
        if setup != Setup::Ready {
            self.retry_at = Some(Instant::now() + RETRY * 5);
            self.state.links_are_stale();
        }
        Ok(setup)
    }

    fn report(&mut self, latest: &Latest, blocked: &[(RouteKey, RouteProtocol)], setup: Setup) {
        let (input, state) = (&latest.input, &self.state);
        let findings = state.uplink_findings().to_vec();
        let (announcement, mut findings) =
            announcement(&self.settings, state.uplinks(), findings, latest, setup, |claim| {
                self.planner.captured(claim)
            });
        let bgp = self.settings.bgp.as_ref();
        findings.extend(bgp.and_then(|bgp| bgp_pools::unknown(&bgp.pools, &input.view)));
        findings.extend_from_slice(self.planner.findings());
        findings.extend(self.policy_findings());
        let announcement = announcement.map(|it| {
            let uplinks = self.settling.settle(it.uplinks, Instant::now());
            Announcement { uplinks, ..it }
        });
        let flapping = self.planner.flapping();
        let memory = self.planner.memory();
        let report = Report {
            holding: input.claims.iter().map(|claim| claim.epoch).collect(),
            applied: input.view.incarnation().map(|incarnation| (incarnation, input.view.revision())),
            failed: memory.failures.routes().chain(blocked.iter().map(blocked_route)).collect(),
            flapping,
            verdicts: latest.verdicts_on_lost_agents(),
            refused_pools: self.planner.refused_pools().to_vec(),
            set_up: !findings.iter().any(|finding| finding.unready),
            announcement,
            held: u32::try_from(memory.brake.held()).unwrap_or(u32::MAX),
            paused: false,
            infrastructure: Some(
                self.planner.infrastructure().chain(input.controllers.iter().copied()).collect(),
            ),
            withdrawn: input.withdrawn,
            conflicts: self.conflicts(latest),
        };
        let uplinks = self.state.uplinks();
        self.uplinks.send_if_modified(|before| {
            let changed = before != uplinks.as_ref();
            if changed {
                uplinks.as_slice().clone_into(before);
            }
            changed
        });
        self.publish_boot_routes();
        self.publisher.publish_problems(findings, self.host.findings().cloned().collect());
        self.publisher.publish(report);
    }

    fn measure(&mut self) {
        let table = self.settings.routes.table;
        self.timing.meters.stand(self.planner.desired(), self.state.actual(), table);
        self.timing.reported(&self.publisher.last(), self.state.is_current());
    }
}

fn blocked_route((key, protocol): &(RouteKey, RouteProtocol)) -> FailedRoute {
    let error = format!("a route of proto {protocol} with the same metric {} has its place", key.metric);
    FailedRoute { destination: key.destination, error }
}
