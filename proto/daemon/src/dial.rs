//! How a client connects to gRPC servers.

use std::{pin::Pin, sync::Arc};

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
