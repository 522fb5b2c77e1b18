//! Join tokens.

use serde::Serialize;
use sextant_proto::{Revision, v1};

use super::filled;

/// A join token without its secret.
#[derive(Debug, Serialize)]
pub(crate) struct Token<'a> {
    id: &'a str,
    nodes: &'a str,
    count: u32,
    used_by: &'a [String],
    pool: Option<&'a str>,
    host_len: Option<u32>,
    created_unix_ms: u64,
    expires_unix_ms: u64,
}

/// A new join token, with its secret.
#[derive(Debug, Serialize)]
pub(crate) struct TokenCreated<'a> {
    pub(crate) line: &'a str,
    pub(crate) token: Token<'a>,
    pub(crate) revision: Revision,
}

/// A join token was ended.
#[derive(Debug, Serialize)]
pub(crate) struct TokenRevoked<'a> {
    pub(crate) id: &'a str,
    pub(crate) revision: Revision,
}

impl<'a> From<&'a v1::JoinToken> for Token<'a> {
    fn from(it: &'a v1::JoinToken) -> Self {
        Self {
            id: &it.id,
            nodes: &it.nodes,
            count: it.count,
            used_by: &it.used_by,
            pool: filled(&it.pool),
            host_len: (it.host_len > 0).then_some(it.host_len),
            created_unix_ms: it.created_unix_ms,
            expires_unix_ms: it.expires_unix_ms,
        }
    }
}
