//! The caller, as the controller sees it.

use serde::Serialize;
use sextant_proto::v1;

use super::{filled, known};

/// A caller.
#[derive(Debug, Serialize)]
pub(crate) struct Caller<'a> {
    name: &'a str,
    cluster: &'a str,
    uri: Option<&'a str>,
    role: Option<&'a str>,
    serial: Option<&'a str>,
    ends_unix_ms: Option<u64>,
}

impl<'a> From<&'a v1::WhoAmIResponse> for Caller<'a> {
    fn from(it: &'a v1::WhoAmIResponse) -> Self {
        let v1::WhoAmIResponse { name, uri, role, serial, ends_unix_ms, cluster } = it;
        let (uri, role, serial) = (filled(uri), filled(role), filled(serial));
        Self { name, cluster, uri, role, serial, ends_unix_ms: known(*ends_unix_ms) }
    }
}
