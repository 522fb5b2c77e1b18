//! The checks of the host's Docker engine: its networks, what its firewall does, what it has left behind, and whether containers
//! answer. The agent need not run.

use std::{net::Ipv6Addr, time::Duration};

use sextant_docker::{
    engine::{Engine, EngineError},
    firewall::known::KnownRules,
    live::Live,
    parts::Parts,
    trouble::Trouble,
};
use sextant_proto::{Claim, Prefix};
use tokio::time::Instant;

use super::{checks::Problem, networks, published};
use crate::{
    cluster::Input,
    containers::{self, bridge_of, checks},
    docker::{finding, leased, policy_of, wishes},
    docker_bridge,
    docker_setup::{group_that_is_missing, seen_of},
    host,
    kernel::{Kernel, KernelError, Link, NeighbourState, Scope},
    problems::Finding,
    settings::{DockerMode, DockerSettings, HostSettings},
    state::StateDir,
};

/// The kernel's solicitations of a neighbour end within this time.
const RESOLVED_WITHIN: Duration = Duration::from_millis(3500);
/// The interval of checks meanwhile.
const POLL: Duration = Duration::from_millis(50);
/// So many containers are asked.
const MOST_ASKED: usize = 64;

/// All problems; none if Docker is left alone.
///
/// # Errors
/// If the kernel cannot be read.
pub(super) async fn problems(
    kernel: &dyn Kernel,
    settings: &HostSettings,
    claims: &[Claim],
) -> Result<Vec<Problem>, KernelError> {
    let Some(docker) = &settings.docker else { return Ok(Vec::new()) };
    let (bridge, uplinks) = (&settings.bridge, &settings.uplinks);
    let input = Input { claims: claims.to_vec(), ..Input::default() };
    let mut found = Vec::new();
    let mtu = host::mtu_of_uplinks(kernel, &kernel.links().await?, uplinks)?;
    found.extend(access(docker).await.map(shown));
    // Without the parts of the state directory, those that networks have count.
    let parts = StateDir::peek_docker_networks(&settings.state_dir).unwrap_or_default();
    let kept = Kept { settings: docker, bridge, input: &input, parts: &parts };
    let live = match of_engine(kernel, &kept, mtu, &leased(&settings.state_dir)).await {
        Ok((live, findings)) => {
            found.extend(findings.into_iter().map(shown));
            live
        }
        Err(error) => {
            found.push(shown(finding(&Trouble::of(&error, &docker.socket))));
            Live::default()
        }
    };
    let place = containers::place(docker, bridge, uplinks.clone(), &input, live.clone());
    let faults = checks::faults(&checks::read(kernel, place, None, &mut KnownRules::default()).await?);
    found.extend(faults.into_iter().map(|fault| Problem { commands: fault.safe, ..shown(fault.finding) }));
    found.extend(silent(kernel, &live, claims).await?.into_iter().map(shown));
    Ok(found)
}

/// Whether the agent may use the socket, by its unit: this command runs as another user.
async fn access(docker: &DockerSettings) -> Option<Finding> {
    let trouble = Trouble::NoAccess { socket: docker.socket.clone() };
    match group_that_is_missing(&docker.socket).await {
        Ok(None) => None,
        Ok(Some(group)) => {
            let saw = format!("{trouble}: the user of sextant-agent.service is not in its group {group}");
            Some(Finding::new(trouble.kind(), saw, trouble.fix().replace("=docker", &format!("={group}"))))
        }
        Err(error) => Some(Finding::new(trouble.kind(), trouble.to_string(), error.to_string())),
    }
}

/// What the agent keeps in the engine.
struct Kept<'a> {
    settings: &'a DockerSettings,
    bridge: &'a str,
    input: &'a Input,
    parts: &'a Parts,
}

/// What the engine has, and what is wrong with it.
async fn of_engine(
    kernel: &dyn Kernel,
    kept: &Kept<'_>,
    mtu: Option<u32>,
    reserved: &[Prefix],
) -> Result<(Live, Vec<Finding>), EngineError> {
    let Kept { settings, bridge, input, parts } = *kept;
    let engine = Engine::connect(&settings.socket).await?;
    let mut live = Live { version: engine.version().await?, ..Live::default() };
    live.set_networks(engine.networks().await?);
    live.set_containers(engine.running(&[]).await?);
    let mut found = containers::of_networks(&live, input, bridge, settings);
    if matches!(settings.mode, DockerMode::Daemon | DockerMode::Pools) {
        let (seen, routes) = (seen_of(&engine).await?, kernel.routes(Scope::Boot).await.unwrap_or_default());
        let judged = docker_bridge::judged(kernel, settings, bridge, &input.claims, seen, &routes).await;
        found.extend(judged.unwrap_or_default());
    }
    if let Some(passes) = policy_of(settings, input, &parts.prefixes(&input.claims)) {
        found.extend(published::findings(&engine, passes).await?);
    }
    if settings.mode == DockerMode::Network
        && let Some(wishes) = wishes(settings, bridge, input, mtu, reserved)
    {
        found.extend(networks::findings(&engine, &live, &wishes, parts).await?);
    }
    Ok((live, found))
}

/// The containers that do not answer on their bridges, although the engine gave them addresses of this host.
async fn silent(kernel: &dyn Kernel, live: &Live, claims: &[Claim]) -> Result<Vec<Finding>, KernelError> {
    let links = kernel.links().await?;
    let asked: Vec<_> = targets(live, claims, &links).take(MOST_ASKED).collect();
    // A probe would replace an entry that somebody has set for good.
    let before = states(kernel, &asked).await?;
    for (target, _) in asked.iter().zip(before).filter(|(_, state)| !state.is_fixed()) {
        kernel.probe_neighbour(target.link, target.addr).await?;
    }
    let until = Instant::now() + RESOLVED_WITHIN;
    loop {
        let states = states(kernel, &asked).await?;
        let probing = states.contains(&NeighbourState::Probing);
        if !probing || Instant::now() >= until {
            let failed = asked.iter().zip(states).filter(|(_, state)| *state == NeighbourState::Failed);
            return Ok(failed.map(|(target, _)| target.finding()).collect());
        }
        tokio::time::sleep(POLL).await;
    }
}

/// A container's address that is asked for.
#[derive(Debug)]
struct Target {
    link: u32,
    bridge: String,
    addr: Ipv6Addr,
    container: String,
    network: String,
}

fn targets<'a>(live: &'a Live, claims: &'a [Claim], links: &'a [Link]) -> impl Iterator<Item = Target> + 'a {
    let all = live.containers.values().flat_map(|container| {
        container.addresses.iter().map(move |(network, addr)| (&container.name, network, *addr))
    });
    all.filter(|(_, _, addr)| claims.iter().any(|claim| claim.prefix.contains(*addr))).filter_map(
        |(container, network, addr)| {
            let bridge = bridge_of(live.networks.iter().find(|it| it.name == *network)?);
            let link = links.iter().find(|link| link.name == bridge)?.index;
            Some(Target { link, bridge, addr, container: container.clone(), network: network.clone() })
        },
    )
}

async fn states(kernel: &dyn Kernel, asked: &[Target]) -> Result<Vec<NeighbourState>, KernelError> {
    let all = kernel.all_neighbours().await?;
    let state = |target: &Target| {
        let of = all.iter().find(|it| (it.link, it.addr) == (target.link, target.addr));
        of.map_or(NeighbourState::Probing, |it| it.state)
    };
    Ok(asked.iter().map(state).collect())
}

impl Target {
    fn finding(&self) -> Finding {
        let Self { bridge, addr, container, network, .. } = self;
        Finding::new(
            "docker-container-silent",
            format!(
                "container {container} does not answer at its address {addr} (network {network}, bridge {bridge}): it does not have the \
                 address, IPv6 is off in it (sysctl disable_ipv6), or its interface is down"
            ),
            format!(
                "`docker restart {container}` sets the address again; see `docker exec {container} ip -6 address`"
            ),
        )
    }
}

fn shown(finding: Finding) -> Problem {
    Problem { text: finding.saw, fix: finding.fix, sysctls: Vec::new(), commands: Vec::new() }
}
