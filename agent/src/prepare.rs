//! `sextant-agent prepare`: sets the host up once for the claims in the state directory (DESIGN I7), with no controller. It runs
//! before a container engine starts: some engines fail if the host does not forward, and the first container needs the bridge's
//! address and the rules of the firewall.

use std::{process::ExitCode, sync::Arc};

use anyhow::Context;
use sextant_daemon::systemd::Heartbeat;
use sextant_docker::firewall::tables;
use sextant_proto::{Claim, Problem};
use sextant_streams::Printer;
use tokio::sync::watch;

use crate::{
    cluster::Input,
    docker::policy_of,
    engine::{Engine, Report},
    host::{HostSetup, exclusive::Exclusive, privilege, unnamed},
    kernel::{Kernel, NetlinkKernel},
    problems::{Finding, Problems},
    settings::{BridgeSource, Settings},
    state::StateDir,
};

/// Sets the host up, and prints what it found. Without a claim there is nothing to do.
///
/// # Errors
/// If the settings do not name the bridge that the host was set up with, an agent runs on the state directory or in this network namespace, the state cannot be read, or the kernel or the firewall
/// refuses.
pub async fn run(settings: Settings, source: &BridgeSource) -> anyhow::Result<ExitCode> {
    privilege::check()?;
    let mut out = Printer::stdout();
    let kernel: Arc<dyn Kernel> = Arc::new(NetlinkKernel::open()?);
    let state = Arc::new(StateDir::open(&settings.state_dir)?);
    let _alone = Exclusive::lock()?;
    if let Some((_, Finding { saw, fix, .. })) =
        unnamed::bridge_of(&state.ledger()?, source, &settings.bridge.name)
    {
        anyhow::bail!("{saw}; nothing was changed. {fix}");
    }
    let claims = state.claims()?;
    if claims.is_empty() {
        out.line("no prefix is claimed yet: there is nothing to set up");
        out.finish()?;
        return Ok(ExitCode::SUCCESS);
    }
    let input = Input { claims: claims.clone(), ..Input::default() };
    // The rules come first: containers are reachable as soon as the host forwards.
    let parts = state.docker_networks()?.prefixes(&claims);
    if let Some(passes) = settings.docker.as_ref().and_then(|docker| policy_of(docker, &input, &parts)) {
        tables::prepare(&passes).await?;
    }
    let found = set_up(kernel, state, settings, input).await?;
    for Problem { saw, fix, .. } in &found {
        out.line(format_args!("{saw}; {fix}"));
    }
    let prefixes: Vec<_> = claims.iter().map(Claim::container_prefix).map(|it| it.to_string()).collect();
    out.line(format_args!("set up for containers of {}", prefixes.join(", ")));
    out.finish()?;
    Ok(ExitCode::SUCCESS)
}

/// One pass of the engine. Returns the problems that it finds.
async fn set_up(
    kernel: Arc<dyn Kernel>,
    state: Arc<StateDir>,
    settings: Settings,
    input: Input,
) -> anyhow::Result<Vec<Problem>> {
    let host = HostSetup::new(kernel.clone(), state.clone(), &settings)?;
    let (_input, input) = watch::channel(input);
    let (_verdicts, verdicts) = watch::channel(Arc::default());
    let (report, _) = watch::channel(Report::default());
    let problems = Problems::default();
    let engine = Engine::new(kernel, settings, host, input, verdicts, report, Heartbeat::unwatched());
    engine.with_problems(problems.clone()).keeping(state).once().await.context("cannot set the host up")?;
    let found = problems.watch().borrow().problems();
    Ok(found)
}
