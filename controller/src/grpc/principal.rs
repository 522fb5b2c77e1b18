//! The principal of a call, and for which nodes it may act. Which calls it may make: `permissions.rs`.

use std::{fmt, net::IpAddr, sync::Arc, time::SystemTime};

use sextant_identity::{Holder, Subject};
use sextant_proto::{HALF_RESTORED, NodeName, v1};
use tonic::{Extensions, Request, Status};

use crate::{audit::Actor, index::Index};

/// The identity of a caller. What it may call was checked by [`super::authorize`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Principal {
    /// Not authenticated: plain text over loopback, or with `--insecure`. May do everything.
    Insecure,
    /// Without a certificate, over TLS.
    Nobody,
    /// A member of the cluster, by its certificate.
    Member(Arc<Holder>),
}

impl Principal {
    /// Whether it may act for `node`.
    pub(super) fn may_act_for(&self, node: &NodeName) -> Result<(), Status> {
        match self {
            Self::Insecure => Ok(()),
            Self::Member(holder) if holder.identity.subject == Subject::Node(node.clone()) => Ok(()),
            Self::Member(_) | Self::Nobody => Err(Status::permission_denied(format!(
                "{self} may not act for node {node}; use a certificate of that node, or start the agent with the --node of its \
                 certificate"
            ))),
        }
    }
}

impl Principal {
    /// The holder of the certificate that it has shown.
    pub(super) fn holder(&self) -> Option<&Holder> {
        if let Self::Member(holder) = self { Some(holder) } else { None }
    }

    /// The node that it is, and the serial number of its certificate; `None` if it is no node.
    pub(super) fn node(&self) -> Option<(&NodeName, &str)> {
        let Self::Member(holder) = self else { return None };
        let Subject::Node(name) = &holder.identity.subject else { return None };
        Some((name, &holder.serial))
    }

    /// The caller, as `sextant whoami` shows it.
    pub(super) fn describe(&self, cluster: &str) -> v1::WhoAmIResponse {
        let (name, cluster) = (self.to_string(), cluster.to_owned());
        let Self::Member(holder) = self else {
            return v1::WhoAmIResponse { name, cluster, ..Default::default() };
        };
        let ends = holder.ends.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        v1::WhoAmIResponse {
            name,
            uri: holder.identity.to_string(),
            role: holder.role.map(|role| role.to_string()).unwrap_or_default(),
            serial: holder.serial.clone(),
            ends_unix_ms: u64::try_from(ends.as_millis()).unwrap_or(u64::MAX),
            cluster,
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Insecure => f.write_str("anybody"),
            Self::Nobody => f.write_str("nobody"),
            Self::Member(holder) => write!(f, "{}", holder.identity.subject),
        }
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
    Ok(actor_of(principal(request.extensions())?, request.remote_addr().map(|address| address.ip())))
}

/// A principal at an address, for the audit.
pub(super) fn actor_of(caller: &Principal, address: Option<IpAddr>) -> Actor {
    match address {
        Some(address) => Actor::new(&format!("{caller} at {address}")),
        None => Actor::new(&caller.to_string()),
    }
}

/// The principal of a call.
pub(super) fn principal(extensions: &Extensions) -> Result<&Principal, Status> {
    extensions.get().ok_or_else(|| Status::unauthenticated("the call has no principal"))
}
