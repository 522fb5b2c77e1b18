//! The agent's components, connected with each other.

use std::{collections::BTreeSet, sync::Arc};

use prometheus_client::metrics::gauge::Gauge;
use sextant_daemon::{Essential, Metrics, systemd::Heartbeat};
use sextant_docker::firewall::{known::KnownRules, notices::Notices};
use sextant_identity::SharedDial;
use tokio::sync::watch;

use crate::{
    advertise::BridgeAdvertiser,
    bgp::{self, Speaker},
    cluster::Input,
    containers::{ContainerLooks, ContainerWatch},
    controllers::Controllers,
    docker::DockerNetwork,
    docker_bridge::DockerBridge,
    engine::{Engine, Report},
    host::HostSetup,
    inquiry::{Inquiries, Neighbours},
    ipam::IpamDriver,
    kernel::Kernel,
    liveness::Liveness,
    metrics::{self, Sources},
    ndp::{self, NdpProxy},
    neighbours::NeighbourWatch,
    problems::Problems,
    routes::Imports,
    session::{Condition, Ends, Session, ShutdownNotice},
    settings::{BgpSettings, Direct, Import, NeighbourSettings, Settings},
    state::{StateDir, StateError},
    trace::Tracer,
};

/// An agent without its edges to the machine: its connected components.
pub struct Agent {
    /// The result of the engine's last pass.
    pub report: watch::Receiver<Report>,
    /// The state of the session.
    pub condition: watch::Receiver<Condition>,
    input: watch::Receiver<Input>,
    engine: Engine,
    session: Session,
    shutdown_notice: ShutdownNotice,
    liveness: Liveness,
    neighbours: NeighbourWatch,
    speaker: Option<Speaker>,
    docker: Option<DockerNetwork>,
    ipam: Option<(IpamDriver, sextant_ipam::keeper::Keeper)>,
    containers: Option<ContainerWatch>,
    looks: Option<ContainerLooks>,
    docker_bridge: Option<DockerBridge>,
    advertiser: Option<BridgeAdvertiser>,
    ndp: Option<NdpProxy>,
    bgp_meters: bgp::Meters,
    /// The problems of this host.
    pub problems: Problems,
}

impl Agent {
    /// Connects the components: with this kernel, from the stored `state`, with controllers through `dial`. The engine touches
    /// `heartbeat`.
    ///
    /// # Errors
    /// If the state cannot be read.
    pub fn assemble(
        settings: Settings,
        controllers: Controllers,
        kernel: Arc<dyn Kernel>,
        state: Arc<StateDir>,
        dial: SharedDial,
        heartbeat: Heartbeat,
    ) -> Result<Self, StateError> {
        let host = HostSetup::new(kernel.clone(), state.clone(), &settings)?;
        let (input_tx, input) = watch::channel(Input::default());
        let (report_tx, report) = watch::channel(Report::default());
        let (condition_tx, condition) = watch::channel(Condition::default());
        let (bgp_tx, bgp) = watch::channel(Vec::new());
        let (verdicts_tx, verdicts) = watch::channel(Arc::default());
        let problems = Problems::default();
        let (imports_tx, imports) = watch::channel(Arc::new(no_routes_yet(settings.bgp.as_ref())));
        let bgp_meters = bgp::Meters::default();
        let speaker = settings.bgp.clone().map(|bgp| Speaker {
            settings: bgp,
            node: settings.node.clone(),
            input: input.clone(),
            report: report.clone(),
            verdicts: verdicts.clone(),
            status: bgp_tx,
            state: state.clone(),
            imports: imports_tx,
            problems: problems.clone(),
            meters: bgp_meters.clone(),
        });
        let engine = Engine::new(
            kernel.clone(),
            settings.clone(),
            host,
            input.clone(),
            verdicts,
            report_tx,
            heartbeat,
        )
        .importing(imports)
        .with_problems(problems.clone())
        .keeping(state.clone());
        // A host without direct routes has no next hops to probe.
        let direct = settings.routes.direct == Direct::OnLink;
        let uplinks = if direct { engine.uplinks() } else { watch::Sender::default().subscribe() };
        let node = settings.node.clone();
        let liveness =
            Liveness::new(kernel.clone(), node, uplinks, input.clone(), verdicts_tx, problems.clone());
        let containers = ContainerWatch::by(&settings, input.clone(), problems.clone());
        let engine = match &containers {
            Some(watch) => engine.announcing(watch.others()).beside(watch.bridges(), watch.away()),
            None => engine,
        };
        let notices = match settings.docker {
            Some(_) => firewall_notices(kernel.as_ref()),
            None => Notices::default(),
        };
        let looks = containers.as_ref().zip(settings.docker.clone()).map(|(watch, docker)| ContainerLooks {
            kernel: kernel.clone(),
            settings: docker,
            bridge: settings.bridge.name.clone(),
            input: input.clone(),
            uplinks: engine.uplinks(),
            known: watch.known(),
            routes: engine.boot_routes(),
            rules: KnownRules::new(notices.clone()),
            problems: problems.clone(),
        });
        let followed = containers.as_ref().map(|watch| watch.followed(notices));
        let ipam = IpamDriver::by(&settings, &state, input.clone(), problems.clone(), followed.clone())?;
        let (left_tx, left) = watch::channel(BTreeSet::new());
        let engine = engine.removing(left);
        let docker = DockerNetwork::by(
            &settings,
            &state,
            input.clone(),
            engine.path_mtu(),
            problems.clone(),
            left_tx,
            followed.clone(),
        )?;
        let docker_bridge = DockerBridge::by(
            &settings,
            kernel.clone(),
            input.clone(),
            problems.clone(),
            engine.boot_routes(),
            followed,
        );
        let advertiser = settings.bridge.advertise.then(|| BridgeAdvertiser {
            kernel: kernel.clone(),
            state: state.clone(),
            bridge: settings.bridge.name.clone(),
            input: input.clone(),
            report: report.clone(),
            problems: problems.clone(),
        });
        let known = containers.as_ref().map(ContainerWatch::known);
        let (asker, asked) = ndp::questions(known);
        let answering = settings.ndp.map(|_| Neighbours {
            node: settings.node.clone(),
            asker,
            problems: problems.watch(),
        });
        let ndp = settings.ndp.map(|ndp| NdpProxy {
            asked,
            kernel: kernel.clone(),
            settings: ndp,
            input: input.clone(),
            report: report.clone(),
            uplinks: engine.uplinks(),
            containers: containers.as_ref().map(ContainerWatch::known),
            problems: problems.clone(),
            known: watch::Sender::default(),
            entries: Gauge::default(),
        });
        let neighbours =
            NeighbourWatch::new(kernel.clone(), engine.uplinks(), input.clone(), problems.clone());
        let tracer = Tracer::new(kernel, engine.asker(), input.clone(), problems.watch(), &settings);
        let inquiries = Arc::new(Inquiries::new(
            engine.asker(),
            tracer,
            containers.as_ref().map(ContainerWatch::asked),
            answering,
        ));
        let ends = Ends {
            input: input_tx,
            condition: condition_tx,
            report: report.clone(),
            bgp,
            problems: problems.clone(),
            answers: inquiries,
        };
        let (session, shutdown_notice) = Session::new(settings, controllers, dial, state, ends)?;
        Ok(Self {
            report,
            condition,
            input,
            engine,
            session,
            shutdown_notice,
            liveness,
            neighbours,
            speaker,
            docker,
            ipam,
            containers,
            looks,
            docker_bridge,
            advertiser,
            ndp,
            bgp_meters,
            problems,
        })
    }

    /// The agent's metrics.
    pub fn metrics(&self) -> Metrics {
        let (input, report, condition) = (self.input.clone(), self.report.clone(), self.condition.clone());
        let docker = self.containers.as_ref().map(ContainerWatch::following);
        let (problems, ndp) = (self.problems.watch(), self.ndp.as_ref().map(NdpProxy::meters));
        let sources = Sources { input, report, condition, docker, problems, ndp };
        metrics::registry(sources, &self.engine.meters(), &self.bgp_meters, &self.neighbours.meters())
    }

    /// Starts the tasks of all components. Returns the sender of the shutdown notice.
    pub fn spawn(self, tasks: &mut Essential) -> ShutdownNotice {
        tasks.spawn("engine", self.engine.run());
        tasks.spawn("session", self.session.run());
        tasks.spawn("liveness", self.liveness.run());
        tasks.spawn("neighbours", self.neighbours.run());
        if let Some(speaker) = self.speaker {
            tasks.spawn("bgp", speaker.run());
        }
        if let Some(docker) = self.docker {
            tasks.spawn("docker", docker.run());
        }
        if let Some((driver, leases)) = self.ipam {
            tasks.spawn("ipam-leases", leases.run());
            tasks.spawn("ipam", driver.run());
        }
        if let Some(containers) = self.containers {
            tasks.spawn("containers", containers.run());
        }
        if let Some(looks) = self.looks {
            tasks.spawn("containers' paths", looks.run());
        }
        if let Some(docker_bridge) = self.docker_bridge {
            tasks.spawn("docker-bridge", docker_bridge.run());
        }
        if let Some(advertiser) = self.advertiser {
            tasks.spawn("advertise", advertiser.run());
        }
        if let Some(ndp) = self.ndp {
            tasks.spawn("ndp", ndp.run());
        }
        self.shutdown_notice
    }
}

/// Notices of changed rules of the firewall; without the kernel's, rules are polled.
fn firewall_notices(kernel: &dyn Kernel) -> Notices {
    match kernel.firewall_changes() {
        Ok(changes) => Notices::of(changes),
        Err(error) => {
            tracing::info!(%error, "changes of the firewall are not notified; looking at it every two seconds");
            Notices::default()
        }
    }
}

/// The imported routes before any router has sent one.
fn no_routes_yet(bgp: Option<&BgpSettings>) -> Imports {
    let imports = |bgp: &&NeighbourSettings| bgp.accept.import != Import::None;
    let routers = |bgp: &BgpSettings| bgp.neighbours.iter().filter(imports).count();
    bgp.map_or_else(Imports::default, |bgp| Imports::none_yet(bgp.import_metric, routers(bgp)))
}
