//! Connects the agent's components, and runs them.
//!
//! Essential tasks: the engine (ends if kernel notifications fail), the session, liveness, the watch of neighbours, BGP, probes, readiness, the lock of the
//! network namespace. A stop changes nothing on the host (DESIGN I7).

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::Context;
use prometheus_client::metrics::gauge::Gauge;
use sextant_daemon::{
    Essential, Metrics, Probes, Readiness, init_logging, raise_descriptor_limit, stop_signal,
    systemd::{self, Heartbeat, Watchdog},
};
use sextant_docker::firewall::{known::KnownRules, notices::Notices};
use sextant_identity::SharedDial;
use sextant_proto::{NodeName, counted};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use crate::{
    access::{Access, access},
    advertise::BridgeAdvertiser,
    bgp::{self, Speaker},
    certificates::CertificateKeeper,
    cluster::Input,
    containers::{ContainerLooks, ContainerWatch},
    docker::DockerNetwork,
    docker_bridge::DockerBridge,
    doctor,
    engine::{Engine, Report},
    host::{HostSetup, exclusive::Exclusive, privilege, roles},
    inquiry::{Inquiries, Neighbours},
    ipam::IpamDriver,
    kernel::{Kernel, NetlinkKernel},
    liveness::Liveness,
    metrics::{self, Sources},
    ndp::{self, NdpProxy},
    neighbours::NeighbourWatch,
    problems::{Component, Finding, Found, Problems},
    routes::Imports,
    session::{Condition, Ends, Session, ShutdownNotice},
    settings::{BgpSettings, CommandLine, ControllerUrl, Direct, Import, NeighbourSettings, Role, Settings},
    state::{StateDir, StateError},
    trace::Tracer,
    uplinks::{existing_uplinks, first_guess},
};

/// After this time, systemd is notified of readiness even if the host is not set up: a first start without a controller, or a
/// container engine that waits for the agent, must not delay the machine's boot.
const GRACE: Duration = Duration::from_secs(20);

/// Runs the agent until a signal stops it.
///
/// # Errors
/// If it cannot start, or an essential task ends.
pub async fn run(command_line: &CommandLine) -> anyhow::Result<()> {
    let settings = command_line.settings()?;
    init_logging(&settings.log, settings.log_format).map_err(anyhow::Error::msg)?;
    privilege::check()?;
    raise_descriptor_limit();
    let stop = stop_signal().context("cannot handle signals")?;
    let netlink = NetlinkKernel::open()?;
    let netlink_closed = netlink.closed();
    let kernel: Arc<dyn Kernel> = Arc::new(netlink);
    check_uplinks(kernel.as_ref(), &settings).await?;
    roles::check(&settings, &kernel.links().await?)?;
    doctor::warn(kernel.as_ref(), &command_line.host()?).await?;
    let state = Arc::new(StateDir::open(&settings.state_dir)?);
    let exclusive = Exclusive::lock()?;
    check_role(settings.role, &settings.node, &state)?;
    let watchdog = Watchdog::from_environment();
    let mut stop = std::pin::pin!(stop);
    let access = tokio::select! {
        access = access(settings) => access?,
        // A host that is to join waits for a controller.
        () = &mut stop => return Ok(()),
    };
    let Access { settings, dial, certificate } = access;
    let agent = Agent::assemble(settings.clone(), kernel, state, dial, watchdog.heartbeat())?;
    let problems = agent.problems.clone();
    let (ready_tx, readiness) = watch::channel(problems.watch().borrow().readiness());
    let metrics = agent.metrics();
    let keeper =
        certificate.map(|certificate| CertificateKeeper::new(certificate, problems.clone(), &metrics));
    let probes = serve_probes(&settings, metrics, readiness, problems.clone());
    let report = agent.report.clone();

    let mut tasks = Essential::default();
    let shutdown_notice = agent.spawn(&mut tasks);
    if let Some(keeper) = keeper {
        tasks.spawn("certificate", keeper.run());
    }
    tasks.spawn("netlink", netlink_closed);
    tasks.spawn("exclusive", exclusive.hold());
    tasks.spawn("http", probes);
    tasks.spawn("readiness", publish_readiness(report, problems.watch(), ready_tx));
    tasks.spawn("watchdog", watchdog.run());
    tracing::info!(node = %settings.node, uplinks = settings.uplinks.join(", "), bridge = settings.bridge.name, "agent started");
    tasks
        .until(async {
            stop.as_mut().await;
            systemd::notify_stopping();
            shutdown_notice.send().await;
        })
        .await?;
    Ok(())
}

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
        let (session, shutdown_notice) = Session::new(settings, dial, state, ends)?;
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

/// A machine that holds a prefix cannot become a router: its peers would continue to route the prefix to it.
fn check_role(role: Role, node: &NodeName, state: &StateDir) -> anyhow::Result<()> {
    match state.claims()?.first() {
        Some(claim) if role == Role::Router => anyhow::bail!(
            "--role router: this machine still holds {} as a host. Drain it (`sextant node drain {node}`), forget it \
             (`sextant node forget {node}`), undo its changes to this host (`sextant-agent cleanup`), then give the router \
             another --state-dir",
            claim.prefix
        ),
        _ => Ok(()),
    }
}

/// Checks that the configured uplinks exist, or else that the engine can determine them.
async fn check_uplinks(kernel: &dyn Kernel, settings: &Settings) -> anyhow::Result<()> {
    let links = kernel.links().await?;
    if !settings.uplinks.is_empty() {
        return Ok(existing_uplinks(&settings.uplinks, &links)?);
    }
    let controllers: Vec<_> =
        settings.controllers.iter().filter_map(ControllerUrl::literal_address).collect();
    let bridge = &settings.bridge.name;
    first_guess(kernel, settings.routes.table, &links, &controllers, bridge).await??;
    Ok(())
}

/// Serves the probes. An address that is taken costs nothing else.
fn serve_probes(
    settings: &Settings,
    metrics: Metrics,
    readiness: Readiness,
    problems: Problems,
) -> impl Future<Output = std::io::Result<()>> + Send + use<> {
    Probes::serve_when_free(settings.http, metrics, readiness, move |error| {
        let finding = error.map(|error| {
            Finding::new(
                "http-port",
                error.to_string(),
                "stop the other process there, or set http in agent.toml; it is tried again",
            )
        });
        problems.report(Component::Probes, finding.into_iter().collect());
    })
}

/// Reports to `/readyz` and systemd whether the host works.
async fn publish_readiness(
    mut report: watch::Receiver<Report>,
    mut found: watch::Receiver<Found>,
    readiness: watch::Sender<Result<(), String>>,
) -> Result<(), watch::error::RecvError> {
    let (grace_ends, mut notified) = (Instant::now() + GRACE, false);
    let mut last = String::new();
    loop {
        let (now, status) = {
            let ready = found.borrow_and_update().readiness();
            let status = status(&report.borrow_and_update(), &ready);
            (ready, status)
        };
        // A report follows each change of the cluster, and most have the same status.
        if status != last {
            systemd::notify_status(&status);
            last = status;
        }
        if !notified && (now.is_ok() || Instant::now() >= grace_ends) {
            systemd::notify_ready();
            notified = true;
        }
        let _before = readiness.send_replace(now);
        tokio::select! {
            changed = report.changed() => changed?,
            changed = found.changed() => changed?,
            () = sleep_until(grace_ends), if !notified => {}
        }
    }
}

/// For `systemctl status`.
fn status(report: &Report, ready: &Result<(), String>) -> String {
    let mut text = match (&report.announcement, ready) {
        (_, Err(problems)) => format!("waiting: {}", problems.replace('\n', "; ")),
        (Some(announcement), Ok(())) => {
            let prefixes = announcement.claims.iter().flat_map(|claim| &claim.container_prefixes);
            let prefixes: Vec<_> = prefixes.map(ToString::to_string).collect();
            format!("set up; containers have {}", prefixes.join(", "))
        }
        (None, Ok(())) => "set up; routing to the hosts".into(),
    };
    if !report.failed.is_empty() {
        text += &format!("; {} failed", counted(report.failed.len(), "route"));
    }
    if report.held > 0 {
        let routes = counted(report.held, "route");
        text += &format!("; {routes} of removed peers held by the brake until `sextant resume`");
    }
    if report.paused {
        text += "; paused";
    }
    text
}
