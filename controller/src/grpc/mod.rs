//! The gRPC edge: messages become domain types on the way in, errors become statuses on the way out.
//!
//! `tonic::Status` is used only here; no domain module depends on it.

#![allow(clippy::result_large_err)] // The error of this edge is tonic's `Status`.

mod admin;
mod admission;
mod agent;
mod announced;
mod authorize;
mod backup;
mod concealed;
mod containers;
mod controller;
mod counted;
mod ends;
mod enroll;
mod events;
mod explain;
mod follower;
mod ndp;
mod permissions;
mod principal;
mod questions;
mod reassign;
mod recovery;
mod revoke;
mod routes;
mod show;
mod status;
mod sync;
mod tokens;
mod trace;
mod unread;
mod wait;

use std::{error::Error, net::SocketAddr, sync::Arc, time::Duration};

use futures::Stream;
use sextant_identity::Credentials;
use sextant_proto::v1::{
    self, admin_service_server::AdminServiceServer, agent_service_server::AgentServiceServer,
    controller_service_server::ControllerServiceServer,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};
use tonic::{service::interceptor::InterceptedService, transport::Server};

use crate::{connections::CountCalls, services::Services};

use authorize::Authorize;
use controller::Controllers;
use principal::serves;

pub use tonic::transport::server::Connected;

/// The interval of HTTP/2 keepalive pings on a silent connection.
const HTTP2_KEEPALIVE: Duration = Duration::from_secs(5);
/// The most streams of one connection.
const MOST_STREAMS: u32 = 200;
/// The most streams that a client has reset and no task has seen; with one more, the connection is closed.
const MOST_RESETS: usize = 20;
/// The octets of the headers of a call.
const MOST_HEADERS: u32 = 16 << 10;
/// The time-out of their answer.
const HTTP2_TIMEOUT: Duration = Duration::from_secs(5);

/// The failure of the gRPC server.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("--listen {address}: {source}; give a free ADDRESS:PORT of this host")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The server failed.
    #[error("gRPC server: {0}")]
    Server(#[from] tonic::transport::Error),
    /// The descriptors for reflection are invalid.
    #[error("gRPC reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Listens on `address`.
///
/// # Errors
/// If the address cannot be listened on.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|source| ServeError::Listen { address, source })
}

/// Serves the agents, the command line and health, over the `incoming` connections, and reflection on request. With credentials the
/// connections are over TLS.
///
/// # Errors
/// If the server fails; it does not end otherwise.
pub async fn serve<C, E>(
    incoming: impl Stream<Item = Result<C, E>>,
    services: Services,
    credentials: Option<Arc<Credentials>>,
    reflection: bool,
) -> Result<(), ServeError>
where
    C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    C::ConnectInfo: Clone + Send + Sync + 'static,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    let controllers = ControllerServiceServer::new(Controllers::new(&services));
    let agents = AgentServiceServer::new(agent::Agents::new(services.clone(), credentials.clone()));
    let (index, refused) = (services.index.clone(), services.refused_calls.clone());
    let (denials, usage) = (services.denials.clone(), services.usage.clone());
    let own = credentials.as_ref().map(|it| it.holder().identity.subject.name().clone());
    let admin = AdminServiceServer::new(admin::Admin::new(services, own.clone()));
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<AgentServiceServer<agent::Agents>>().await;
    health.set_serving::<AdminServiceServer<admin::Admin>>().await;
    let described = || {
        let builder = tonic_reflection::server::Builder::configure();
        builder.register_encoded_file_descriptor_set(v1::DESCRIPTORS).build_v1()
    };
    let reflection = reflection.then(described).transpose()?;
    Server::builder()
        .http2_keepalive_interval(Some(HTTP2_KEEPALIVE))
        .http2_keepalive_timeout(Some(HTTP2_TIMEOUT))
        .max_concurrent_streams(Some(MOST_STREAMS))
        .http2_max_pending_accept_reset_streams(Some(MOST_RESETS))
        .http2_max_header_list_size(Some(MOST_HEADERS))
        .layer(CountCalls)
        .layer(Authorize { credentials, refused, denials: Some(denials), own, usage })
        .add_service(InterceptedService::new(agents, move |request| {
            serves(&index)?;
            Ok(request)
        }))
        .add_service(admin)
        .add_service(controllers)
        .add_service(health_service)
        .add_optional_service(reflection)
        .serve_with_incoming(incoming)
        .await?;
    Ok(())
}
