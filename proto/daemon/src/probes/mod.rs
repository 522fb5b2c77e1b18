//! `/healthz`, `/readyz` and `/metrics` over HTTP.

mod exposition;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use nix::sys::socket::{setsockopt, sockopt};
use prometheus_client::{encoding::text::encode, registry::Registry};
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::watch,
};

use exposition::{Format, classic};

/// The first delay before another attempt to listen; it doubles up to the last one.
const FIRST_DELAY: Duration = Duration::from_secs(1);
const LAST_DELAY: Duration = Duration::from_secs(30);
/// The number of connections that may wait.
const BACKLOG: u32 = 128;

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
    pub fn bind(address: SocketAddr, metrics: Metrics, readiness: Readiness) -> Result<Self, ProbeError> {
        let listener = listen(address).map_err(|source| ProbeError { address, source })?;
        let router = Router::new()
            .route("/healthz", get(async || "ok\n"))
            .route("/readyz", get(readyz))
            .route("/metrics", get(show_metrics))
            .with_state(Shared { metrics, readiness });
        Ok(Self { listener, router })
    }

    /// Listens on `address` as soon as it is free, and serves. `tell` gets each failure, and `None` once it serves.
    ///
    /// # Errors
    /// If the listener fails.
    pub async fn serve_when_free(
        address: SocketAddr,
        metrics: Metrics,
        readiness: Readiness,
        mut tell: impl FnMut(Option<ProbeError>) + Send,
    ) -> std::io::Result<()> {
        let mut delay = FIRST_DELAY;
        loop {
            match Self::bind(address, metrics.clone(), readiness.clone()) {
                Ok(probes) => {
                    tell(None);
                    return probes.run().await;
                }
                Err(error) => tell(Some(error)),
            }
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(LAST_DELAY);
        }
    }

    /// Serves; ends only with an error.
    ///
    /// # Errors
    /// If the listener fails.
    pub async fn run(self) -> std::io::Result<()> {
        axum::serve(self.listener, self.router).await
    }
}

/// An IPv6 address does not take the port of IPv4 too.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if address.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn readyz(State(shared): State<Shared>) -> (StatusCode, String) {
    match &*shared.readiness.borrow() {
        Ok(()) => (StatusCode::OK, "ready\n".into()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

async fn show_metrics(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let format = Format::preferred(&accepted.collect::<Vec<_>>().join(","));
    match (open_metrics(&shared.metrics), format) {
        (Err(error), _) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        (Ok(text), Format::OpenMetrics) => {
            ([(header::CONTENT_TYPE, format.content_type())], text).into_response()
        }
        (Ok(text), Format::Text) => {
            ([(header::CONTENT_TYPE, format.content_type())], classic(&text)).into_response()
        }
    }
}

fn open_metrics(metrics: &Metrics) -> Result<String, std::fmt::Error> {
    let registry = metrics.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn another_process_may_have_the_same_port_of_ipv4() {
        let of_ipv4 = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let address = SocketAddr::new("::".parse().unwrap(), of_ipv4.local_addr().unwrap().port());
        let (_, readiness) = watch::channel(Ok(()));
        Probes::bind(address, Metrics::default(), readiness).unwrap();
    }
}
