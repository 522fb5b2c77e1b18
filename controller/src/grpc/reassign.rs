//! `AdminService.ReassignNode`.

use sextant_proto::{
    convert::{self, required},
    v1,
};
use tonic::{Code, Status};

use super::{admin::node_name, status::malformed};
use crate::claims::{Claims, Move, ReassignError, Reassignment, Unavailable};

/// Moves a node to another prefix, or plans that.
pub(super) async fn reassign(
    claims: &Claims,
    request: v1::ReassignNodeRequest,
) -> Result<v1::ReassignNodeResponse, Status> {
    let v1::ReassignNodeRequest { name, pool, prefix, plan } = request;
    let pool = (!pool.is_empty()).then(|| convert::parse("pool", &pool)).transpose().map_err(malformed)?;
    let prefix = prefix.map(|prefix| required("prefix", Some(prefix))).transpose().map_err(malformed)?;
    let order = Reassignment { node: node_name(&name)?, pool, prefix };
    let done = if plan { claims.plan_reassign(&order).await? } else { claims.reassign(&order).await? };
    let Move { pool, from, to, in_service, connected, revision } = done;
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

impl From<ReassignError> for Status {
    fn from(error: ReassignError) -> Self {
        let code = match error {
            ReassignError::Claim(error) => return error.into(),
            ReassignError::Holder(error) => return error.into(),
            ReassignError::Unavailable(ref why) => code_of(why),
            ReassignError::Unknown(_) | ReassignError::NoClaim { .. } => Code::NotFound,
            ReassignError::Several { .. } => Code::InvalidArgument,
            ReassignError::InService { .. } | ReassignError::Forwarding(_) => Code::FailedPrecondition,
        };
        Status::new(code, error.to_string())
    }
}

fn code_of(why: &Unavailable) -> Code {
    match why {
        Unavailable::NoPool(_) => Code::NotFound,
        Unavailable::Closed(_) => Code::FailedPrecondition,
        Unavailable::Outside { .. } | Unavailable::TooLong(_) | Unavailable::Infrastructure { .. } => {
            Code::InvalidArgument
        }
        Unavailable::Claimed { .. } | Unavailable::Reserved { .. } => Code::AlreadyExists,
        Unavailable::Exhausted { .. } => Code::ResourceExhausted,
    }
}
