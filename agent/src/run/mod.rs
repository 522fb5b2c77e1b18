//! Connects the agent's components, and runs them.
//!
//! Essential tasks: the engine (ends if kernel notifications fail), the session, liveness, the watch of neighbours, BGP, probes, readiness, the lock of the
//! network namespace. A stop changes nothing on the host (DESIGN I7).

mod components;
mod ready;

use std::sync::Arc;

use anyhow::Context;
use sextant_daemon::{
    Essential, Metrics, Probes, Readiness, init_logging, raise_descriptor_limit, stop_signal,
    systemd::{self, Watchdog},
};
use sextant_proto::{CLEAR_COPY, NodeName};
use tokio::sync::watch;

use crate::{
    access::{Access, access},
    certificates::CertificateKeeper,
    cluster::Fence,
    controllers::Controllers,
    doctor,
    host::{exclusive::Exclusive, privilege, roles},
    kernel::{Kernel, NetlinkKernel},
    problems::{Component, Finding, Problems},
    settings::{CommandLine, ControllerUrl, Role, Settings},
    state::StateDir,
    uplinks::{existing_uplinks, first_guess},
};

pub use components::Agent;

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
    check_fence(&settings, &state)?;
    let controllers = Controllers::new(&settings, state.clone());
    let watchdog = Watchdog::from_environment();
    let mut stop = std::pin::pin!(stop);
    let access = tokio::select! {
        access = access(settings, &controllers) => access?,
        // A host that is to join waits for a controller.
        () = &mut stop => return Ok(()),
    };
    let Access { settings, dial, certificate } = access;
    let agent = Agent::assemble(settings.clone(), controllers, kernel, state, dial, watchdog.heartbeat())?;
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
    tasks.spawn("readiness", ready::publish(report, problems.watch(), ready_tx));
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

/// A prefix that the node holds and may not hold any more is not given up by a restart: its routes stay until an operator decides.
fn check_fence(settings: &Settings, state: &StateDir) -> anyhow::Result<()> {
    let fence = Fence::around(&settings.accept_pools);
    for claim in state.claims()? {
        fence.check(&claim).map_err(|outside| {
            let node = &settings.node;
            anyhow::anyhow!(
                "{outside}, and this node holds a prefix of it: add it to accept-pools (--accept-pools). Or let it start as a new \
                 node: {CLEAR_COPY}, then `sextant node forget {node} --force`"
            )
        })?;
    }
    Ok(())
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
