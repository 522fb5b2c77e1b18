//! `AdminService.ReassignNode`.

use sextant_proto::{
    NodeName,
    convert::{self, required},
    v1,
};
use tonic::{Code, Status};

use super::{Services, admin::node_name, status::malformed};
use crate::claims::{Claims, Move, ReassignError, Reassignment, Unavailable};

/// Moves a node to another prefix, or plans that.
pub(super) async fn reassign(
    services: &Services,
    claims: &Claims,
    request: v1::ReassignNodeRequest,
) -> Result<v1::ReassignNodeResponse, Status> {
    let v1::ReassignNodeRequest { name, pool, prefix, plan } = request;
    let pool = (!pool.is_empty()).then(|| convert::parse("pool", &pool)).transpose().map_err(malformed)?;
    let prefix = prefix.map(|prefix| required("prefix", Some(prefix))).transpose().map_err(malformed)?;
    let order = Reassignment { node: node_name(&name)?, pool, prefix };
    let done = if plan { claims.plan_reassign(&order).await? } else { claims.reassign(&order).await? };
    let Move { pool, from, to, in_service, connected, revision } = done;
    if plan && from != to && in_service && connected {
        answers(services, &order.node).await?;
    }
    if !plan && from != to {
        tracing::info!(node = %order.node, %pool, %from, %to, "node reassigned");
    }
    Ok(v1::ReassignNodeResponse {
        revision: revision.0,
        pool: pool.to_string(),
        from: Some(from.into()),
        to: Some(to.into()),
        in_service,
        connected,
    })
}

/// Refuses to drain a node whose agent has just stopped or is lost: its session lasts for `down_after`, and without the agent
/// nobody would return the node to service.
async fn answers(services: &Services, node: &NodeName) -> Result<(), Status> {
    services.others.refresh().await;
    match services.acks.of(node) {
        Some(_) => Ok(()),
        None => Err(Status::failed_precondition(format!(
            "the agent of node {node} is not connected at the moment; start sextant-agent there, and try again"
        ))),
    }
}

impl From<ReassignError> for Status {
    fn from(error: ReassignError) -> Self {
        let code = match error {
            ReassignError::Claim(error) => return error.into(),
            ReassignError::Holder(error) => return error.into(),
            ReassignError::Unavailable(ref why) => code_of(why),
            ReassignError::Unknown(_) | ReassignError::NoClaim { .. } => Code::NotFound,
            ReassignError::Several { .. } | ReassignError::NoPool { .. } => Code::InvalidArgument,
            ReassignError::InService { .. } | ReassignError::Forwarding(_) => Code::FailedPrecondition,
        };
        Status::new(code, error.to_string())
    }
}

fn code_of(why: &Unavailable) -> Code {
    match why {
        Unavailable::NoPool(_) => Code::NotFound,
        Unavailable::Closed(_) => Code::FailedPrecondition,
        Unavailable::Outside { .. }
        | Unavailable::TooLong(_)
        | Unavailable::Length { .. }
        | Unavailable::Infrastructure { .. } => Code::InvalidArgument,
        Unavailable::Claimed { .. } | Unavailable::Reserved { .. } => Code::AlreadyExists,
        Unavailable::Exhausted { .. } => Code::ResourceExhausted,
    }
}
