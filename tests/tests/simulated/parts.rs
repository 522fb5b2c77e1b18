//! The simulated processes: controllers, agents and an operator, made of the project's own modules.

use std::{path::Path, sync::Arc, time::Duration};

use clap::Parser;
use futures::Stream;
use hyper_util::rt::TokioIo;
use sextant_agent::{
    controllers::Controllers,
    kernel::fake::FakeKernel,
    run::Agent,
    settings::{CommandLine as AgentLine, Settings as AgentSettings},
    state::StateDir,
};
use sextant_controller::{
    receipts::Signing,
    records::TlsMode,
    registry::SharedRegistry,
    run::{Controller, Edges},
    sessions::{Identity, Replaces},
    settings::{CommandLine as ControllerLine, Settings as ControllerSettings},
};
use sextant_daemon::{Essential, systemd::Heartbeat};
use sextant_identity::{Dial, Dialling};
use sextant_proto::v1::admin_service_client::AdminServiceClient;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::network::{Connection, Network, Place};

/// After how much silence an agent counts as down.
pub const DOWN_AFTER: Duration = Duration::from_secs(3);
/// For how long a new store waits for agents of a lost one.
pub const RECOVERY_WINDOW: Duration = Duration::from_secs(20);
/// How long an operator waits for an answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Reaches controllers over the simulated network.
#[derive(Clone)]
pub struct SimulatedDial {
    pub network: Network,
    pub from: Place,
}

impl SimulatedDial {
    fn connector(
        &self,
    ) -> impl tower::Service<Uri, Response = TokioIo<Connection>, Error = std::io::Error, Future: Send>
    + Send
    + 'static {
        let it = self.clone();
        tower::service_fn(move |uri: Uri| {
            let address = uri.authority().map(ToString::to_string).unwrap_or_default();
            let connecting = it.network.connect(it.from, &address);
            async move { connecting.await.map(TokioIo::new) }
        })
    }
}

impl Dial for SimulatedDial {
    fn dial(&self, endpoint: Endpoint) -> Dialling {
        let connector = self.connector();
        Box::pin(async move { endpoint.connect_with_connector(connector).await })
    }

    fn dial_lazily(&self, endpoint: Endpoint) -> Channel {
        endpoint.connect_with_connector_lazy(self.connector())
    }
}

/// Where controller `number` is reached.
pub fn controller_address(number: usize) -> String {
    format!("[2001:db8::c:{}]:7300", number + 1)
}

pub fn controller_settings(number: usize, hold_down: &str) -> ControllerSettings {
    let (listen, window) = (controller_address(number), RECOVERY_WINDOW.as_secs().to_string());
    let down_after = DOWN_AFTER.as_secs().to_string();
    let args = ["controller", "--store", "etcd:http://[::1]:1", "--insecure", "--listen", &listen];
    let times = ["--down-after", &down_after, "--recovery-window", &window, "--hold-down", hold_down];
    ControllerLine::parse_from([&args[..], &times].concat()).settings().expect("the settings are right")
}

/// The pools that a host's agent asks for: every other host has a prefix of each.
pub fn pools(host: usize) -> &'static [&'static str] {
    if host.is_multiple_of(2) { &["main", "ula"] } else { &["main"] }
}

/// Whether a prefix is of the second pool.
pub fn is_ula(prefix: sextant_proto::Prefix) -> bool {
    prefix.addr().is_unique_local()
}

pub fn agent_settings(host: usize, controllers: usize, state_dir: &Path, more: &[&str]) -> AgentSettings {
    let mut urls: Vec<_> =
        (0..controllers).map(|number| format!("http://{}", controller_address(number))).collect();
    urls.rotate_left(host % controllers);
    let (urls, node, state_dir) = (urls.join(","), format!("h{}", host + 1), state_dir.display().to_string());
    let args = ["agent", "--insecure", "--controller", &urls, "--node", &node, "--state-dir", &state_dir];
    let wiring = ["--uplink", "eth0", "--bridge", "brc", "--bridge-create"];
    let pools = pools(host).join(",");
    let pools: &[&str] = if more.contains(&"--pool") { &[] } else { &["--pool", &pools] };
    AgentLine::parse_from([&args[..], &wiring, pools, more].concat())
        .settings()
        .expect("the settings are right")
}

/// A controller's main.
pub async fn controller(
    settings: ControllerSettings,
    registry: SharedRegistry,
    number: usize,
    network: Network,
    incoming: impl Stream<Item = std::io::Result<Connection>> + Send + 'static,
) -> anyhow::Result<()> {
    let dial = Arc::new(SimulatedDial { network, from: Place::Controller(number) });
    let address = controller_address(number);
    let id = format!("{:016x}", rand::random::<u64>());
    let me = Identity { id, address, replaces: Replaces::SameAddress, tls: TlsMode::Off };
    let edges = Edges {
        registry,
        me,
        dial,
        authority: None,
        signing: Signing::Off,
        heartbeat: Heartbeat::unwatched(),
    };
    let controller = Controller::open(&settings, edges).await?;
    let mut tasks = Essential::default();
    controller.spawn(&mut tasks, &settings, incoming, None);
    tasks.until(std::future::pending()).await?;
    Ok(())
}

/// An agent's main.
pub async fn agent(
    settings: AgentSettings,
    kernel: FakeKernel,
    network: Network,
    host: usize,
) -> anyhow::Result<()> {
    let dial = Arc::new(SimulatedDial { network, from: Place::Host(host) });
    let state = Arc::new(StateDir::open(&settings.state_dir)?);
    let controllers = Controllers::new(&settings, state.clone());
    let agent =
        Agent::assemble(settings, controllers, Arc::new(kernel), state, dial, Heartbeat::unwatched())?;
    let mut tasks = Essential::default();
    let _shutdown_notice = agent.spawn(&mut tasks);
    tasks.until(std::future::pending()).await?;
    Ok(())
}

/// An operator's command to controller `number`.
pub async fn command<T, F>(
    network: Network,
    number: usize,
    call: impl FnOnce(AdminServiceClient<Channel>) -> F + Send,
) -> Result<T, String>
where
    F: Future<Output = Result<tonic::Response<T>, tonic::Status>> + Send,
{
    let dial = SimulatedDial { network, from: Place::Operator };
    let endpoint = Endpoint::try_from(format!("http://{}", controller_address(number)));
    let endpoint = endpoint.map_err(|error| error.to_string())?;
    let answered = tokio::time::timeout(TIMEOUT, async {
        let channel = dial.dial(endpoint).await.map_err(|error| error.to_string())?;
        call(AdminServiceClient::new(channel)).await.map_err(|status| status.to_string())
    });
    answered.await.map_err(|_| format!("no answer within {TIMEOUT:?}"))?.map(tonic::Response::into_inner)
}
