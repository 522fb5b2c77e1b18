//! `AdminService`.

use std::time::Duration;

use sextant_proto::{
    NodeName, PoolName, Prefix,
    convert::{self, required},
    v1::{self, admin_service_server::AdminService},
};
use tonic::{Request, Response, Status, Streaming};

use super::{
    Services, backup, containers, events, explain, ndp,
    principal::{actor, principal, serves},
    questions, reassign, recovery, revoke, routes, show,
    status::malformed,
    tokens, trace,
    wait::{self, Waiting},
};
use crate::{
    audit::Actor,
    claims::{Forgotten, Scope, listed},
    control,
    health::OPERATOR_TIMEOUT,
    records::{ReservationRecord, unix_ms},
};

/// The most nodes that one command forgets.
const MOST_NAMES: usize = 10_000;
/// The default time that a draining node waits for its peers.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) struct Admin {
    services: Services,
    /// The name of this controller, by its certificate.
    own: Option<NodeName>,
}

impl Admin {
    pub(super) fn new(services: Services, own: Option<NodeName>) -> Self {
        Self { services, own }
    }
}

#[tonic::async_trait]
impl AdminService for Admin {
    type BackupStream = backup::Pieces;
    type EventsStream = events::Events;
    type WaitStream = Waiting;

    async fn add_pool(
        &self,
        request: Request<v1::AddPoolRequest>,
    ) -> Result<Response<v1::AddPoolResponse>, Status> {
        let by = self.changes(&request)?;
        let pool = required("pool", request.into_inner().pool).map_err(malformed)?;
        let revision = self.services.pools.by(&by).add(&pool).await?.0;
        tracing::info!(pool = %pool.name, prefix = %pool.prefix, host_len = pool.host_len, "pool added");
        Ok(Response::new(v1::AddPoolResponse { revision }))
    }

    async fn list_pools(
        &self,
        _request: Request<v1::ListPoolsRequest>,
    ) -> Result<Response<v1::ListPoolsResponse>, Status> {
        Ok(Response::new(v1::ListPoolsResponse { pools: self.services.index.read(show::pools) }))
    }

    async fn remove_pool(
        &self,
        request: Request<v1::RemovePoolRequest>,
    ) -> Result<Response<v1::RemovePoolResponse>, Status> {
        let by = self.changes(&request)?;
        let name: PoolName = convert::parse("name", &request.into_inner().name).map_err(malformed)?;
        let revision = self.services.pools.by(&by).remove(&name).await?.0;
        tracing::info!(pool = %name, "pool removed");
        Ok(Response::new(v1::RemovePoolResponse { revision }))
    }

    async fn drain_pool(
        &self,
        request: Request<v1::DrainPoolRequest>,
    ) -> Result<Response<v1::DrainPoolResponse>, Status> {
        let by = self.changes(&request)?;
        let v1::DrainPoolRequest { name, undrain } = request.into_inner();
        let name: PoolName = convert::parse("name", &name).map_err(malformed)?;
        let revision = self.services.pools.by(&by).drain(&name, !undrain).await?.0;
        tracing::info!(pool = %name, draining = !undrain, "pool drain state changed");
        Ok(Response::new(v1::DrainPoolResponse { revision }))
    }

    async fn grow_pool(
        &self,
        request: Request<v1::GrowPoolRequest>,
    ) -> Result<Response<v1::GrowPoolResponse>, Status> {
        let by = self.changes(&request)?;
        let v1::GrowPoolRequest { name, prefix } = request.into_inner();
        let name: PoolName = convert::parse("name", &name).map_err(malformed)?;
        let prefix = required("prefix", prefix).map_err(malformed)?;
        let (pool, revision) = self.services.pools.by(&by).grow(&name, prefix).await?;
        tracing::info!(pool = %name, %prefix, "pool grown");
        Ok(Response::new(v1::GrowPoolResponse { revision: revision.0, pool: Some((&pool).into()) }))
    }

    async fn reserve(
        &self,
        request: Request<v1::ReserveRequest>,
    ) -> Result<Response<v1::ReserveResponse>, Status> {
        let by = self.changes(&request)?;
        let (prefix, record) = parse_reservation(request.into_inner().reservation)?;
        let revision = self.services.reservations.by(&by).reserve(prefix, &record).await?.0;
        let node = record.node.as_ref().map(ToString::to_string);
        tracing::info!(%prefix, node, reason = record.reason, "reservation made");
        Ok(Response::new(v1::ReserveResponse { revision }))
    }

    async fn unreserve(
        &self,
        request: Request<v1::UnreserveRequest>,
    ) -> Result<Response<v1::UnreserveResponse>, Status> {
        let by = self.changes(&request)?;
        let prefix = required("prefix", request.into_inner().prefix).map_err(malformed)?;
        let revision = self.services.reservations.by(&by).unreserve(prefix).await?.0;
        tracing::info!(%prefix, "reservation ended");
        Ok(Response::new(v1::UnreserveResponse { revision }))
    }

    async fn list_reservations(
        &self,
        _request: Request<v1::ListReservationsRequest>,
    ) -> Result<Response<v1::ListReservationsResponse>, Status> {
        let reservations = self.services.index.read(show::reservations);
        Ok(Response::new(v1::ListReservationsResponse { reservations }))
    }

    async fn list_nodes(
        &self,
        _request: Request<v1::ListNodesRequest>,
    ) -> Result<Response<v1::ListNodesResponse>, Status> {
        self.services.others.refresh().await;
        Ok(Response::new(v1::ListNodesResponse { nodes: show::nodes(&self.services) }))
    }

    async fn node_containers(
        &self,
        request: Request<v1::NodeContainersRequest>,
    ) -> Result<Response<v1::NodeContainersResponse>, Status> {
        let node = node_name(&request.into_inner().name)?;
        let found = containers::of_node(&self.services, &node).await?;
        Ok(Response::new(v1::NodeContainersResponse { containers: Some((&found).into()) }))
    }

    async fn node_ndp(
        &self,
        request: Request<v1::NodeNdpRequest>,
    ) -> Result<Response<v1::NodeNdpResponse>, Status> {
        let v1::NodeNdpRequest { name, addresses } = request.into_inner();
        let found = ndp::of_node(&self.services, &node_name(&name)?, addresses).await?;
        Ok(Response::new(v1::NodeNdpResponse { ndp: Some((&found).into()) }))
    }

    async fn drain_node(
        &self,
        request: Request<v1::DrainNodeRequest>,
    ) -> Result<Response<v1::DrainNodeResponse>, Status> {
        let by = self.changes(&request)?;
        let v1::DrainNodeRequest { name, timeout_ms } = request.into_inner();
        let node = node_name(&name)?;
        let timeout = if timeout_ms == 0 { DRAIN_TIMEOUT } else { Duration::from_millis(timeout_ms) };
        let revision = self.services.claims.by(&by).drain(&node, timeout).await?.0;
        tracing::info!(%node, ?timeout, "node draining");
        Ok(Response::new(v1::DrainNodeResponse { revision }))
    }

    async fn undrain_node(
        &self,
        request: Request<v1::UndrainNodeRequest>,
    ) -> Result<Response<v1::UndrainNodeResponse>, Status> {
        let by = self.changes(&request)?;
        let node = node_name(&request.into_inner().name)?;
        let revision = self.services.claims.by(&by).undrain(&node).await?.0;
        tracing::info!(%node, "node undrained");
        Ok(Response::new(v1::UndrainNodeResponse { revision }))
    }

    async fn revoke_node(
        &self,
        request: Request<v1::RevokeNodeRequest>,
    ) -> Result<Response<v1::RevokeNodeResponse>, Status> {
        let by = self.changes(&request)?;
        let v1::RevokeNodeRequest { name, undo } = request.into_inner();
        let (node, denials) = (node_name(&name)?, &self.services.denials);
        let (revision, holds_claim) = match undo {
            true => (denials.permit(&node, &by).await?, false),
            false => denials.deny(&node, &by).await?,
        };
        tracing::warn!(%node, %by, revoked = !undo, "revocation of a node changed");
        Ok(Response::new(v1::RevokeNodeResponse { revision: revision.0, holds_claim }))
    }

    async fn revoke_member(
        &self,
        request: Request<v1::RevokeMemberRequest>,
    ) -> Result<Response<v1::RevokeMemberResponse>, Status> {
        let by = self.changes(&request)?;
        let caller = principal(request.extensions())?.clone();
        let change = revoke::Change::parse(request.into_inner())?;
        change.locks_nobody_out(&caller, self.own.as_ref())?;
        let revision = change.make(&self.services.denials, &by).await?;
        Ok(Response::new(v1::RevokeMemberResponse { revision: revision.0 }))
    }

    async fn list_revoked(
        &self,
        _request: Request<v1::ListRevokedRequest>,
    ) -> Result<Response<v1::ListRevokedResponse>, Status> {
        Ok(Response::new(self.services.index.read(revoke::list)))
    }

    async fn forget_node(
        &self,
        request: Request<v1::ForgetNodeRequest>,
    ) -> Result<Response<v1::ForgetNodeResponse>, Status> {
        let by = self.changes(&request)?;
        let v1::ForgetNodeRequest { name, force, mut names, confirm, pool } = request.into_inner();
        convert::at_most("names", names.len(), MOST_NAMES).map_err(malformed)?;
        if names.is_empty() {
            names.push(name);
        }
        let nodes = names.iter().map(|name| node_name(name)).collect::<Result<Vec<_>, _>>()?;
        let confirm = confirm.map(|confirm| confirm as usize);
        let pool =
            (!pool.is_empty()).then(|| convert::parse("pool", &pool)).transpose().map_err(malformed)?;
        let scope = pool.as_ref().map_or(Scope::Node, Scope::Pool);
        let Forgotten { ended, revision } =
            self.services.claims.by(&by).forget_all(&nodes, scope, force, confirm).await?;
        for (node, prefixes) in &ended {
            let (prefix, confirmed) = (listed(prefixes), confirm.is_some());
            tracing::info!(%node, prefix, force, confirmed, "node forgotten");
        }
        let first = ended.iter().filter_map(|(_, prefixes)| prefixes.first().copied());
        let prefixes: Vec<v1::Prefix> = first.map(Into::into).collect();
        let prefix = prefixes.first().cloned();
        let node = |(name, prefixes): (NodeName, Vec<Prefix>)| v1::ForgottenNode {
            name: name.to_string(),
            prefixes: prefixes.into_iter().map(Into::into).collect(),
        };
        let nodes = ended.into_iter().map(node).collect();
        Ok(Response::new(v1::ForgetNodeResponse { revision: revision.0, prefix, prefixes, nodes }))
    }

    async fn reassign_node(
        &self,
        request: Request<v1::ReassignNodeRequest>,
    ) -> Result<Response<v1::ReassignNodeResponse>, Status> {
        let by = self.changes(&request)?;
        Ok(Response::new(
            reassign::reassign(&self.services, &self.services.claims.by(&by), request.into_inner()).await?,
        ))
    }

    async fn pause(&self, request: Request<v1::PauseRequest>) -> Result<Response<v1::PauseResponse>, Status> {
        let revision =
            control::put(&self.services.registry, &self.services.keys, true, &self.changes(&request)?)
                .await?
                .0;
        tracing::warn!("paused; no agent changes its kernel until `sextant resume`");
        Ok(Response::new(v1::PauseResponse { revision }))
    }

    async fn resume(
        &self,
        request: Request<v1::ResumeRequest>,
    ) -> Result<Response<v1::ResumeResponse>, Status> {
        let revision =
            control::put(&self.services.registry, &self.services.keys, false, &self.changes(&request)?)
                .await?
                .0;
        tracing::warn!("resumed; agents apply all changes");
        Ok(Response::new(v1::ResumeResponse { revision }))
    }

    async fn list_routes(
        &self,
        request: Request<v1::ListRoutesRequest>,
    ) -> Result<Response<v1::ListRoutesResponse>, Status> {
        let name = request.into_inner().node;
        let only = (!name.is_empty()).then(|| node_name(&name)).transpose()?;
        self.services.others.refresh().await;
        let routes = routes::list(&self.services, only.as_ref())?;
        Ok(Response::new(v1::ListRoutesResponse { routes }))
    }

    async fn status(
        &self,
        _request: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusResponse>, Status> {
        let (state, others) =
            tokio::join!(self.services.health.check(OPERATOR_TIMEOUT), self.services.others.states());
        let unregistered = recovery::unregistered(&self.services).await;
        Ok(Response::new(show::status(&self.services, &state, &others, &unregistered)))
    }

    async fn plan_node(
        &self,
        request: Request<v1::PlanNodeRequest>,
    ) -> Result<Response<v1::PlanNodeResponse>, Status> {
        let node = node_name(&request.into_inner().name)?;
        let about = v1::question::About::Plan(v1::PlanQuestion {});
        match questions::ask(&self.services, &node, about).await? {
            v1::answer::About::Plan(plan) => Ok(Response::new(v1::PlanNodeResponse { plan: Some(plan) })),
            _ => Err(questions::wrong_kind(&node)),
        }
    }

    async fn trace(&self, request: Request<v1::TraceRequest>) -> Result<Response<v1::TraceResponse>, Status> {
        let v1::TraceRequest { from, to } = request.into_inner();
        Ok(Response::new(trace::trace(&self.services, &from, &to).await?))
    }

    async fn events(&self, request: Request<v1::EventsRequest>) -> Result<Response<events::Events>, Status> {
        Ok(Response::new(events::open(&self.services, request.into_inner()).await?))
    }

    async fn backup(&self, _request: Request<v1::BackupRequest>) -> Result<Response<backup::Pieces>, Status> {
        Ok(Response::new(backup::take(&self.services).await?))
    }

    async fn restore(
        &self,
        request: Request<Streaming<v1::BackupPiece>>,
    ) -> Result<Response<v1::RestoreResponse>, Status> {
        let by = actor(&request)?;
        Ok(Response::new(backup::restore(&self.services, request.into_inner(), &by).await?))
    }

    async fn undo_restore(
        &self,
        request: Request<v1::UndoRestoreRequest>,
    ) -> Result<Response<v1::UndoRestoreResponse>, Status> {
        Ok(Response::new(backup::undo(&self.services, &actor(&request)?).await?))
    }

    async fn finish_recovery(
        &self,
        request: Request<v1::FinishRecoveryRequest>,
    ) -> Result<Response<v1::FinishRecoveryResponse>, Status> {
        let by = self.changes(&request)?;
        let confirm = request.get_ref().confirm;
        Ok(Response::new(recovery::finish(&self.services, confirm, &by).await?))
    }

    async fn accept_unsigned(
        &self,
        request: Request<v1::AcceptUnsignedRequest>,
    ) -> Result<Response<v1::AcceptUnsignedResponse>, Status> {
        let by = self.changes(&request)?;
        let revision = self.services.claims.by(&by).accept_unsigned().await?.0;
        Ok(Response::new(v1::AcceptUnsignedResponse { revision }))
    }

    async fn explain(
        &self,
        request: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::ExplainResponse>, Status> {
        let address = convert::address(&request.into_inner().address);
        let address = address.map_err(|error| malformed(convert::MessageError::new("address", error)))?;
        self.services.others.refresh().await;
        let mut explained = explain::explain(&self.services, address);
        let (asked, answers) = (explain::asked(&explained), ndp::asked(&explained));
        let container = async { containers::with_address(&self.services, asked.as_ref()?, address).await };
        let answered = async { ndp::of_address(&self.services, answers.as_ref()?, address).await };
        let (container, answered) = tokio::join!(container, answered);
        (explained.container, explained.container_network) = container.unwrap_or_default();
        if let Some((address, uplinks)) = answered {
            (explained.ndp, explained.ndp_uplinks) = (Some(address), uplinks);
        }
        Ok(Response::new(explained))
    }

    async fn who_am_i(
        &self,
        request: Request<v1::WhoAmIRequest>,
    ) -> Result<Response<v1::WhoAmIResponse>, Status> {
        let caller = principal(request.extensions())?;
        Ok(Response::new(caller.describe(&self.services.cluster)))
    }

    async fn create_token(
        &self,
        request: Request<v1::CreateTokenRequest>,
    ) -> Result<Response<v1::CreateTokenResponse>, Status> {
        let by = self.changes(&request)?;
        Ok(Response::new(tokens::create(&self.services, request.into_inner(), &by).await?))
    }

    async fn list_tokens(
        &self,
        _request: Request<v1::ListTokensRequest>,
    ) -> Result<Response<v1::ListTokensResponse>, Status> {
        Ok(Response::new(tokens::list(&self.services).await?))
    }

    async fn revoke_token(
        &self,
        request: Request<v1::RevokeTokenRequest>,
    ) -> Result<Response<v1::RevokeTokenResponse>, Status> {
        let by = self.changes(&request)?;
        Ok(Response::new(tokens::revoke(&self.services, &request.get_ref().id, &by).await?))
    }

    async fn wait(&self, request: Request<v1::WaitRequest>) -> Result<Response<Waiting>, Status> {
        let waiting = wait::progress(&self.services, &request.into_inner()).await?;
        Ok(Response::new(waiting))
    }
}

impl Admin {
    /// The actor of a change. Refuses changes while the store is partly restored.
    fn changes<T>(&self, request: &Request<T>) -> Result<Actor, Status> {
        serves(&self.services.index)?;
        actor(request)
    }
}

fn parse_reservation(message: Option<v1::Reservation>) -> Result<(Prefix, ReservationRecord), Status> {
    let v1::Reservation { prefix, node, reason, .. } = message.unwrap_or_default();
    let node = (!node.is_empty()).then(|| node_name(&node)).transpose()?;
    let prefix = required("prefix", prefix).map_err(malformed)?;
    convert::at_most("octets of the reason", reason.len(), convert::LONGEST_TEXT).map_err(malformed)?;
    Ok((prefix, ReservationRecord { node, reason, created_unix_ms: unix_ms() }))
}

pub(super) fn node_name(name: &str) -> Result<NodeName, Status> {
    convert::parse("node", name).map_err(malformed)
}
