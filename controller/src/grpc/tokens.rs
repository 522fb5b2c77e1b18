//! Join tokens: the calls of admins.

use std::time::Duration;

use sextant_identity::TokenId;
use sextant_proto::{
    convert::{self, MessageError},
    v1,
};
use tonic::Status;

use super::{Services, enroll, status::malformed};
use crate::{
    audit::Actor,
    records::unix_ms,
    tokens::{NewToken, TokenRecord, Wish},
};

pub(super) async fn create(
    services: &Services,
    request: v1::CreateTokenRequest,
    by: &Actor,
) -> Result<v1::CreateTokenResponse, Status> {
    let root = enroll::authority(services)?.root();
    let new = parse(request).map_err(malformed)?;
    let (token, record, revision) = services.tokens.create(&new, root, by, unix_ms()).await?;
    // The secret is in the line alone.
    tracing::info!(id = %token.id, nodes = %record.nodes, count = record.count, "join token created");
    let shown = Some(shown(token.id, &record));
    Ok(v1::CreateTokenResponse { line: token.line(), token: shown, revision: revision.0 })
}

pub(super) async fn list(services: &Services) -> Result<v1::ListTokensResponse, Status> {
    let tokens = services.tokens.list().await?;
    Ok(v1::ListTokensResponse { tokens: tokens.iter().map(|(id, record)| shown(*id, record)).collect() })
}

pub(super) async fn revoke(
    services: &Services,
    id: &str,
    by: &Actor,
) -> Result<v1::RevokeTokenResponse, Status> {
    let id: TokenId = convert::parse("id", id).map_err(malformed)?;
    let revision = services.tokens.revoke(id, by).await?;
    tracing::info!(%id, "join token revoked");
    Ok(v1::RevokeTokenResponse { revision: revision.0 })
}

fn parse(request: v1::CreateTokenRequest) -> Result<NewToken, MessageError> {
    let v1::CreateTokenRequest { nodes, count, ttl_ms, pool, host_len } = request;
    if host_len > 126 {
        return Err(MessageError::new(
            "host_len",
            format!("{host_len} is no length of a host prefix; give it 1 to 126"),
        ));
    }
    let pool = (!pool.is_empty()).then(|| convert::parse("pool", &pool)).transpose()?;
    Ok(NewToken {
        nodes: convert::parse("node", &nodes)?,
        count,
        life: Duration::from_millis(ttl_ms),
        wish: Wish { pool, host_len: (host_len > 0).then_some(host_len) },
    })
}

fn shown(id: TokenId, record: &TokenRecord) -> v1::JoinToken {
    v1::JoinToken {
        id: id.to_string(),
        nodes: record.nodes.to_string(),
        count: record.count,
        used_by: record.uses.iter().map(|it| it.node.to_string()).collect(),
        created_unix_ms: record.created_unix_ms,
        expires_unix_ms: record.expires_unix_ms,
        pool: record.wish.pool.as_ref().map(ToString::to_string).unwrap_or_default(),
        host_len: record.wish.host_len.unwrap_or(0),
    }
}
