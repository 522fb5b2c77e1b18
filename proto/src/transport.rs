//! How clients reach servers, and when plain text may be spoken.

use std::{net::IpAddr, pin::Pin, sync::Arc};

use tonic::transport::{Channel, Endpoint, Error};

/// A connection that is being made.
pub type Dialling = Pin<Box<dyn Future<Output = Result<Channel, Error>> + Send>>;

/// Makes connections to gRPC servers.
pub trait Dial: Send + Sync + 'static {
    /// Connects to `endpoint` now, within its time-outs.
    fn dial(&self, endpoint: Endpoint) -> Dialling;

    /// A channel that connects when it is used.
    fn dial_lazily(&self, endpoint: Endpoint) -> Channel;
}

/// A [`Dial`] that several rooms share.
pub type SharedDial = Arc<dyn Dial>;

/// Over TCP.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tcp;

impl Dial for Tcp {
    fn dial(&self, endpoint: Endpoint) -> Dialling {
        Box::pin(async move { endpoint.connect().await })
    }

    fn dial_lazily(&self, endpoint: Endpoint) -> Channel {
        endpoint.connect_lazy()
    }
}

/// Why an address may not be spoken to, or listened on, in plain text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} {address} would carry plain text past this host; use a loopback address, or accept it with --insecure"
)]
pub struct TransportError {
    what: &'static str,
    address: String,
}

/// Plain text stays on loopback unless `insecure` says otherwise (DESIGN §7). `what` names the setting in the error.
///
/// # Errors
/// If `host` is neither a loopback address nor `localhost` and `insecure` is not set.
pub fn plain_text_allowed(what: &'static str, host: &str, insecure: bool) -> Result<(), TransportError> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let loopback = bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if loopback || insecure { Ok(()) } else { Err(TransportError { what, address: host.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_plain() {
        for host in ["::1", "[::1]", "127.0.0.1", "127.9.9.9", "localhost"] {
            assert!(plain_text_allowed("--listen", host, false).is_ok(), "{host}");
        }
        for host in ["::", "2001:db8::1", "0.0.0.0", "controller.example"] {
            assert!(plain_text_allowed("--listen", host, false).is_err(), "{host}");
            assert!(plain_text_allowed("--listen", host, true).is_ok(), "{host}");
        }
    }
}
