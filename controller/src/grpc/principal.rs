//! The principal of a call, and its permissions. All permissions are checked here.

use std::fmt;

use sextant_proto::{HALF_RESTORED, NodeName};
use tonic::{Extensions, Request, Status};

use crate::{audit::Actor, index::Index};

/// The identity of a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Principal {
    /// Not authenticated: plain text over loopback, or with `--insecure`. May do everything.
    Insecure,
}

impl Principal {
    /// Whether it may act for `node`.
    pub(super) fn may_act_for(&self, _node: &NodeName) -> Result<(), Status> {
        match self {
            Self::Insecure => Ok(()),
        }
    }

    /// Whether it may make the calls of operators.
    pub(super) fn may_administer(&self) -> Result<(), Status> {
        match self {
            Self::Insecure => Ok(()),
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Insecure => "anybody",
        })
    }
}

/// Refuses calls while the store is partly restored.
pub(super) fn serves(index: &Index) -> Result<(), Status> {
    if index.read(|state| state.meta().restoring) {
        return Err(Status::unavailable(HALF_RESTORED));
    }
    Ok(())
}

/// The actor of a call for the audit: its principal and address.
pub(super) fn actor<T>(request: &Request<T>) -> Result<Actor, Status> {
    let caller = principal(request.extensions())?;
    Ok(match request.remote_addr() {
        Some(address) => Actor::new(&format!("{caller} at {}", address.ip())),
        None => Actor::new(&caller.to_string()),
    })
}

/// The principal of a call over plain text.
#[allow(clippy::unnecessary_wraps)]
pub(super) fn insecure(mut request: Request<()>) -> Result<Request<()>, Status> {
    request.extensions_mut().insert(Principal::Insecure);
    Ok(request)
}

/// The principal of a call.
pub(super) fn principal(extensions: &Extensions) -> Result<&Principal, Status> {
    extensions.get().ok_or_else(|| Status::unauthenticated("the call has no principal"))
}
