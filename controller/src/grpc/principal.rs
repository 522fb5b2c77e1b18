//! Who calls. Every call carries a principal; what it may do is asked here and nowhere else.

use sextant_proto::NodeName;
use tonic::{Extensions, Request, Status};

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Principal {
    /// Nobody asked: plain text over loopback, or accepted with `--insecure`. May do everything.
    Insecure,
}

impl Principal {
    /// Whether it may act for `node`.
    pub(super) fn may_act_for(&self, _node: &NodeName) -> Result<(), Status> {
        match self {
            Self::Insecure => Ok(()),
        }
    }

    /// Whether it may do what operators do.
    pub(super) fn may_administer(&self) -> Result<(), Status> {
        match self {
            Self::Insecure => Ok(()),
        }
    }
}

/// The principal of a call over plain text.
#[allow(clippy::result_large_err, clippy::unnecessary_wraps)]
pub(super) fn insecure(mut request: Request<()>) -> Result<Request<()>, Status> {
    request.extensions_mut().insert(Principal::Insecure);
    Ok(request)
}

/// The principal of a call.
#[allow(clippy::result_large_err)]
pub(super) fn principal(extensions: &Extensions) -> Result<&Principal, Status> {
    extensions.get().ok_or_else(|| Status::unauthenticated("the call carries no principal"))
}
