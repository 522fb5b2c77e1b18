//! The edge to the engine: requests and events of the Engine API, over the engine's socket.

mod answers;
#[cfg(test)]
mod tests;
mod transport;

use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use bollard::{
    API_DEFAULT_VERSION, BollardRequest, Docker,
    models::{Ipam, IpamConfig, NetworkConnectRequest, NetworkCreateRequest, NetworkDisconnectRequest},
    query_parameters::{EventsOptions, ListContainersOptions},
};
use futures::{Stream, StreamExt, stream};
use sextant_proto::{Prefix, unix_ms};

use self::{
    answers::{
        address, at_host, container, endpoint, endpoint_settings, event, network, published_at, running,
    },
    transport::Allowance,
};
use crate::{
    firewall::policy::Port,
    live::{Event, Running},
    network::{Container, Network, Published},
    waiting::Endpoint,
    wanted::{MADE_BY, Wanted},
};

/// The host of the requests' URLs, which say nothing over a socket.
const HOST: &str = "http://docker";
/// How long the engine may take to answer. It answers at once, but while it starts.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The status for something that is not there any more.
const GONE: u16 = 404;

/// Why the engine has not done what was asked.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// It cannot be reached.
    #[error("{0}")]
    Away(String),
    /// It tells of no more events: it has ended.
    #[error("the engine has closed the stream of its events")]
    Closed,
    /// It runs, and what it tells of its events is no event.
    #[error("its events: {0}")]
    Events(String),
    /// Its socket is closed to this process.
    #[error("permission denied")]
    NoAccess,
    /// It refuses.
    #[error("{0}")]
    Refused(String),
}

/// A connection to the engine of this host.
#[derive(Debug, Clone)]
pub struct Engine {
    docker: Docker,
    /// What may be read of the stream of events until the next event.
    of_events: Allowance,
}

impl Engine {
    /// Connects to the engine at `socket`.
    ///
    /// # Errors
    /// If nothing listens there, or this process may not use it.
    pub async fn connect(socket: &Path) -> Result<Self, EngineError> {
        reach(socket).await?;
        let of_events = Allowance::new(transport::EVENT);
        let (socket, events) = (socket.to_owned(), of_events.clone());
        let send = move |request: BollardRequest| {
            let of_events = request.uri().path().ends_with("/events");
            let allowance = if of_events { events.clone() } else { Allowance::new(transport::ANSWER) };
            transport::send(socket.clone(), allowance, request)
        };
        let docker =
            Docker::connect_with_custom_transport(send, Some(HOST), TIMEOUT.as_secs(), API_DEFAULT_VERSION);
        Ok(Self { docker: docker.map_err(of)?, of_events })
    }

    /// Its version, like `20.10.24+dfsg1`.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn version(&self) -> Result<String, EngineError> {
        Ok(within(self.docker.version()).await?.version.unwrap_or_default())
    }

    /// All its networks.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn networks(&self) -> Result<Vec<Network>, EngineError> {
        let networks = within(self.docker.list_networks(None)).await?;
        Ok(networks.into_iter().map(network).collect())
    }

    /// The containers that are on a network, running or not.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn containers_on(&self, network: &Network) -> Result<Vec<Container>, EngineError> {
        let filters = HashMap::from([("network".to_owned(), vec![network.id.clone()])]);
        let options = ListContainersOptions { all: true, filters: Some(filters), ..Default::default() };
        let listed = within(self.docker.list_containers(Some(options))).await?;
        let mut containers: Vec<_> = listed.into_iter().map(container).collect();
        containers.sort();
        Ok(containers)
    }

    /// The running containers, or those of them with these ids.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn running(&self, ids: &[String]) -> Result<Vec<(String, Running)>, EngineError> {
        let of = |key: &str, values: Vec<String>| (key.to_owned(), values);
        let mut filters = HashMap::from([of("status", ["running", "paused"].map(str::to_owned).to_vec())]);
        if !ids.is_empty() {
            filters.extend([of("id", ids.to_vec())]);
        }
        let options = ListContainersOptions { filters: Some(filters), ..Default::default() };
        Ok(within(self.docker.list_containers(Some(options))).await?.into_iter().map(running).collect())
    }

    /// The published ports of the running containers with addresses in one of these prefixes, sorted.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn published_inside(&self, prefixes: &[Prefix]) -> Result<Vec<Port>, EngineError> {
        let listed = within(self.docker.list_containers(None)).await?;
        let mut ports: Vec<_> = listed.iter().flat_map(|it| published_at(it, prefixes)).collect();
        ports.sort();
        ports.dedup();
        Ok(ports)
    }

    /// The ports of running containers with addresses in one of these prefixes that are published at IPv6 addresses of the host.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn published_at_host(&self, prefixes: &[Prefix]) -> Result<Vec<Published>, EngineError> {
        let listed = within(self.docker.list_containers(None)).await?;
        Ok(listed.into_iter().flat_map(|it| at_host(it, prefixes)).collect())
    }

    /// The addresses of the containers on a network, of those that start too. None if there is no such network any more.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn addresses_on(&self, network: &Network) -> Result<Vec<IpAddr>, EngineError> {
        let found = match within(self.docker.inspect_network(&network.id, None)).await {
            Err(EngineError::Refused(text)) if text == NOT_THERE => return Ok(Vec::new()),
            other => other?,
        };
        let endpoints = found.containers.unwrap_or_default().into_values();
        let addresses = endpoints.flat_map(|it| [it.ipv4_address, it.ipv6_address]).flatten();
        Ok(addresses.filter_map(|text| address(&text)).collect())
    }

    /// Makes the network.
    ///
    /// # Errors
    /// If it refuses.
    pub async fn create(&self, wanted: &Wanted, major: u32) -> Result<(), EngineError> {
        let config = IpamConfig {
            subnet: Some(wanted.prefix.to_string()),
            gateway: Some(wanted.gateway.to_string()),
            ..IpamConfig::default()
        };
        let request = NetworkCreateRequest {
            name: wanted.name.clone(),
            driver: Some("bridge".into()),
            ipam: Some(Ipam { driver: None, config: Some(vec![config]), options: None }),
            enable_ipv6: Some(true),
            options: Some(wanted.options(major).into_iter().collect()),
            labels: Some(HashMap::from([(MADE_BY.0.to_owned(), MADE_BY.1.to_owned())])),
            ..NetworkCreateRequest::default()
        };
        within(self.docker.create_network(request)).await.map(drop)
    }

    /// Disconnects a container from a network. It is right if there is none any more.
    ///
    /// # Errors
    /// If it refuses.
    pub async fn disconnect(&self, network: &str, container: &str) -> Result<(), EngineError> {
        let request = NetworkDisconnectRequest { container: container.to_owned(), force: Some(true) };
        gone_is_right(within(self.docker.disconnect_network(network, request)).await)
    }

    /// How a container is on a network; the default if it is not there any more.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn endpoint(&self, container: &str, network: &str) -> Result<Endpoint, EngineError> {
        let found = match within(self.docker.inspect_container(container, None)).await {
            Err(EngineError::Refused(text)) if text == NOT_THERE => return Ok(Endpoint::default()),
            other => other?,
        };
        let of_networks = found.network_settings.and_then(|settings| settings.networks);
        let settings = of_networks.and_then(|mut all| all.remove(network)).unwrap_or_default();
        Ok(endpoint(settings).without_own_names(container))
    }

    /// Connects a container to a network, as it was on another: it gets an address there. It is right if there is none any more.
    ///
    /// # Errors
    /// If it refuses.
    pub async fn connect_container(
        &self,
        network: &str,
        container: &str,
        endpoint: &Endpoint,
    ) -> Result<(), EngineError> {
        let endpoint_config = Some(endpoint_settings(endpoint));
        let request = NetworkConnectRequest { container: container.to_owned(), endpoint_config };
        gone_is_right(within(self.docker.connect_network(network, request)).await)
    }

    /// Removes a network. It is right if there is none any more.
    ///
    /// # Errors
    /// If it refuses.
    pub async fn remove(&self, network: &str) -> Result<(), EngineError> {
        gone_is_right(within(self.docker.remove_network(network)).await)
    }

    /// What has changed since now: its networks, or which containers are on them. Ends when the engine goes, and after an error. The engine is asked with
    /// the first poll only, and keeps recent events: so none is missed that comes before it.
    pub fn events(&self) -> impl Stream<Item = Result<Event, EngineError>> + Unpin + use<> {
        let since = Some((unix_ms() / 1000).saturating_sub(1).to_string());
        let all = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let filters = HashMap::from([
            ("type".to_owned(), all(&["network", "container"])),
            ("event".to_owned(), all(&EVENTS)),
        ]);
        let options = EventsOptions { since, filters: Some(filters), ..Default::default() };
        self.of_events.renew();
        let (reported, allowance) = (self.docker.events(Some(options)), self.of_events.clone());
        let at_end = allowance.clone();
        let reported = reported.map(move |reported| match reported {
            Ok(message) => {
                allowance.renew();
                Some(event(&message).map(Ok))
            }
            Err(error) => is_no_event(&error).then(|| Some(Err(EngineError::Events(innermost(&error))))),
        });
        let events = reported
            .take_while(|it| std::future::ready(it.is_some()))
            .filter_map(|it| std::future::ready(it.flatten()));
        // The library ends the stream where it cannot be read, and does not say why.
        let exceeded = move || at_end.exceeded().map(|why| Err(EngineError::Events(why)));
        Box::pin(events.chain(stream::iter(std::iter::once_with(exceeded).flatten())))
    }
}

/// Whether an engine has reported what is no event. Other errors mean that it has closed the stream, at whatever place.
fn is_no_event(error: &bollard::errors::Error) -> bool {
    matches!(
        error,
        bollard::errors::Error::JsonDataError { .. } | bollard::errors::Error::JsonSerdeError { .. }
    )
}

/// The events that change networks, or which containers are on them. Health checks and commands in containers are none.
const EVENTS: [&str; 11] = [
    "create",
    "connect",
    "disconnect",
    "destroy",
    "remove",
    "prune",
    "start",
    "die",
    "rename",
    "pause",
    "unpause",
];

/// Whether an engine listens at `socket`. It is certain that none does if nothing does.
pub async fn listens(socket: &Path) -> bool {
    let nothing = [io::ErrorKind::ConnectionRefused, io::ErrorKind::NotFound];
    match tokio::net::UnixStream::connect(socket).await {
        Ok(_) => true,
        Err(error) => !nothing.contains(&error.kind()),
    }
}

/// Whether the socket can be connected to. The library's errors do not tell why it cannot.
async fn reach(socket: &Path) -> Result<(), EngineError> {
    match tokio::time::timeout(TIMEOUT, tokio::net::UnixStream::connect(socket)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) if error.kind() == io::ErrorKind::PermissionDenied => Err(EngineError::NoAccess),
        Ok(Err(error)) => Err(EngineError::Away(error.to_string())),
        Err(_) => Err(EngineError::Away(no_answer())),
    }
}

async fn within<T>(
    request: impl Future<Output = Result<T, bollard::errors::Error>>,
) -> Result<T, EngineError> {
    match tokio::time::timeout(TIMEOUT, request).await {
        Ok(done) => done.map_err(of),
        Err(_) => Err(EngineError::Away(no_answer())),
    }
}

fn no_answer() -> String {
    format!("no answer within {} s", TIMEOUT.as_secs())
}

fn of(error: bollard::errors::Error) -> EngineError {
    match error {
        bollard::errors::Error::DockerResponseServerError { status_code: GONE, .. } => {
            EngineError::Refused(NOT_THERE.to_owned())
        }
        bollard::errors::Error::DockerResponseServerError { message, .. } => EngineError::Refused(message),
        other => EngineError::Away(innermost(&other)),
    }
}

/// The reason of an error that is passed on by others.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    error.source().map_or_else(|| error.to_string(), innermost)
}

/// The text for something that is not there any more.
const NOT_THERE: &str = "it is not there";

fn gone_is_right(done: Result<(), EngineError>) -> Result<(), EngineError> {
    match done {
        Err(EngineError::Refused(text)) if text == NOT_THERE => Ok(()),
        other => other,
    }
}

/// The default socket of the engine.
pub fn default_socket() -> PathBuf {
    PathBuf::from("/run/docker.sock")
}
