//! Connections to gRPC servers.

use std::{pin::Pin, sync::Arc};

use tonic::transport::{Channel, Endpoint, Error};

/// A connection attempt.
pub type Dialling = Pin<Box<dyn Future<Output = Result<Channel, Error>> + Send>>;

/// Connects to gRPC servers.
pub trait Dial: Send + Sync + 'static {
    /// Connects to `endpoint` now, within its time-outs.
    fn dial(&self, endpoint: Endpoint) -> Dialling;

    /// A channel that connects on first use.
    fn dial_lazily(&self, endpoint: Endpoint) -> Channel;
}

/// A shared [`Dial`].
pub type SharedDial = Arc<dyn Dial>;

/// Connections over TCP.
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
