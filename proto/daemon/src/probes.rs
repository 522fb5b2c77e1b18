//! `/healthz`, `/readyz` and `/metrics` over HTTP.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use prometheus_client::{encoding::text::encode, registry::Registry};
use tokio::{net::TcpListener, sync::watch};

/// The metrics of a daemon.
pub type Metrics = Arc<Mutex<Registry>>;

/// Whether the daemon is ready; if not, the reason.
pub type Readiness = watch::Receiver<Result<(), String>>;

/// The failure to serve probes.
#[derive(Debug, thiserror::Error)]
#[error("--http {address}: {source}; give a free ADDRESS:PORT of this host")]
pub struct ProbeError {
    address: SocketAddr,
    source: std::io::Error,
}

/// The HTTP server of a daemon.
#[derive(Debug)]
pub struct Probes {
    listener: TcpListener,
    router: Router,
}

#[derive(Clone)]
struct Shared {
    metrics: Metrics,
    readiness: Readiness,
}

impl Probes {
    /// Listens on `address`; [`Probes::run`] answers from `metrics` and `readiness`.
    ///
    /// # Errors
    /// If `address` cannot be listened on.
    pub async fn bind(
        address: SocketAddr,
        metrics: Metrics,
        readiness: Readiness,
    ) -> Result<Self, ProbeError> {
        let listener = TcpListener::bind(address).await.map_err(|source| ProbeError { address, source })?;
        let router = Router::new()
            .route("/healthz", get(async || "ok\n"))
            .route("/readyz", get(readyz))
            .route("/metrics", get(show_metrics))
            .with_state(Shared { metrics, readiness });
        Ok(Self { listener, router })
    }

    /// Serves; ends only with an error.
    ///
    /// # Errors
    /// If the listener fails.
    pub async fn run(self) -> std::io::Result<()> {
        axum::serve(self.listener, self.router).await
    }
}

async fn readyz(State(shared): State<Shared>) -> (StatusCode, String) {
    match &*shared.readiness.borrow() {
        Ok(()) => (StatusCode::OK, "ready\n".into()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

async fn show_metrics(State(shared): State<Shared>) -> Result<String, (StatusCode, String)> {
    let registry = shared.metrics.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut text = String::new();
    encode(&mut text, &registry).map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok(text)
}
