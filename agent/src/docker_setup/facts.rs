//! Reads the host: claim, kernel, engine, files, units.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow, bail};
use nix::unistd::{Gid, Group};
use sextant_docker::{
    engine::{self, EngineError},
    network::Network,
    wanted::is_ours,
};
use sextant_docker_setup::{
    agent_toml::AgentToml,
    daemon_json::DaemonJson,
    file,
    ipam::{Driver, SOCKET_UNIT, Whole},
    json::Document,
    plan::{Engine, Prefixes},
    record,
    steps::{Earlier, Mode, Situation},
};

use super::{
    flags,
    systemd::{self, AGENT, DOCKER},
    taking_back,
};
use crate::{
    ipam::DRIVER,
    kernel::{Kernel, KernelError, MAIN_TABLE, NetlinkKernel, Route, RouteProtocol, Scope},
    settings::{DockerMode, DockerSetup},
    state::StateDir,
};

/// Where Docker looks for the socket of the IPAM driver.
pub const SPEC: &str = "/etc/docker/plugins/sextant.spec";
/// The file of the driver's socket unit.
pub const SOCKET_UNIT_FILE: &str = "/etc/systemd/system/sextant-docker-ipam.socket";
/// The drop-in of the agent's unit.
pub const DROP_IN: &str = "/etc/systemd/system/sextant-agent.service.d/docker.conf";

/// What is known of the host. `restart` permits to restart services, as the settings may.
///
/// # Errors
/// If something cannot be read, or the host has no prefix.
pub async fn situation(setup: &DockerSetup, restart: bool) -> anyhow::Result<Situation> {
    let docker = &setup.docker;
    let agent_unit = systemd::unit(AGENT).await?;
    let mode = match docker.mode {
        DockerMode::Off => bail!("[docker] mode is off"),
        DockerMode::None => Mode::Watched,
        DockerMode::Network => Mode::Network,
        DockerMode::Daemon => Mode::Daemon,
        DockerMode::Pools => Mode::Pools,
        DockerMode::Ipam => Mode::Ipam(driver(&docker.ipam_socket, agent_unit.is_some()).await?),
    };
    let group = match &agent_unit {
        Some(unit) => missing_group(unit, &docker.socket, !matches!(mode, Mode::Daemon | Mode::Pools))?,
        None => None,
    };
    let mode_name = docker.mode.name();
    let engine_unit = systemd::unit(DOCKER).await?;
    let main_pid = engine_unit.as_ref().and_then(|unit| unit.get("MainPID")).map(String::as_str);
    let words = flags::of_engine(&docker.socket, main_pid).await;
    let earlier = earlier(setup, &mode).await?;
    Ok(Situation {
        mode,
        mode_name,
        earlier,
        prefixes: prefixes(&setup.state_dir)?,
        engine: Engine { words, ..engine(setup).await? },
        daemon_json: docker.daemon_json.clone(),
        document: document(&docker.daemon_json)?,
        config: setup.config.clone(),
        has_controller: setup.has_controller,
        other_mode: record::preview(&setup.config, &AgentToml { mode: mode_name })?.is_change(),
        group,
        may_restart: restart || docker.restart,
        engine_unit: engine_unit.is_some(),
        agent_unit: agent_unit.is_some(),
    })
}

/// What earlier setups have left that the mode may not need.
async fn earlier(setup: &DockerSetup, mode: &Mode) -> anyhow::Result<Earlier> {
    let (daemon_json, mut earlier) = (&setup.docker.daemon_json, Earlier::default());
    if let Some(undone) = record::preview_undo(daemon_json, &DaemonJson(vec![]))? {
        let document = Document::parse(undone.after.as_deref());
        earlier.unedited = Some(document.map_err(|error| anyhow!("{}: {error}", daemon_json.display()))?);
    }
    if matches!(mode, Mode::Ipam(_)) {
        return Ok(earlier);
    }
    for (file, edit) in taking_back::driver_files(&setup.docker.ipam_socket) {
        match record::preview_undo(file, &edit) {
            Ok(None) => {}
            Ok(Some(_)) => earlier.driver_files.push(file.to_owned()),
            Err(error) => earlier.problems.push(error.to_string()),
        }
    }
    let unit = systemd::unit(SOCKET_UNIT).await?.unwrap_or_default();
    let of = |key: &str| unit.get(key).map_or("", String::as_str);
    earlier.listens = of("UnitFileState") == "enabled" || of("ActiveState") == "active";
    Ok(earlier)
}

/// What the IPAM driver lacks. Without a unit of the agent, it listens at its socket itself.
async fn driver(socket: &Path, agent_unit: bool) -> anyhow::Result<Driver> {
    let differs = |path: &str, content: &Whole| {
        let differs = record::preview(path.as_ref(), content)?.is_change();
        anyhow::Ok(differs.then(|| PathBuf::from(path)))
    };
    let spec = differs(SPEC, &Whole::spec(socket))?;
    let (socket, loaded) = (socket.to_owned(), systemd::unit(SOCKET_UNIT).await?.unwrap_or_default());
    let of = |key: &str| loaded.get(key).map_or("", String::as_str);
    let listens = (of("UnitFileState"), of("ActiveState")) == ("enabled", "active");
    // One of a package is right for the default socket.
    let packaged = !matches!(of("FragmentPath"), "" | SOCKET_UNIT_FILE);
    let is_packages = packaged
        && fs::read_to_string(of("FragmentPath")).ok().as_deref()
            == Some(Whole::unit(&socket).content.as_str());
    let unit = match agent_unit && !is_packages {
        true => differs(SOCKET_UNIT_FILE, &Whole::unit(&socket))?,
        false => None,
    };
    let listens = listens && unit.is_none();
    Ok(Driver { socket, spec, unit, listens })
}

/// The prefixes of the claims.
///
/// # Errors
/// If there is no claim, or the state cannot be read.
pub fn prefixes(state_dir: &Path) -> anyhow::Result<Prefixes> {
    let claims = StateDir::peek_claims(state_dir)?;
    Prefixes::of(&claims).with_context(|| {
        format!(
            "no claim in state directory {}: this host has no prefix yet. Start the agent (systemctl start sextant-agent), wait \
             until `sextant node list` shows its prefix, and try again; or give the agent's own --state-dir",
            state_dir.display()
        )
    })
}

/// The content of `daemon.json`.
///
/// # Errors
/// If it cannot be read, or is invalid.
pub fn document(path: &Path) -> anyhow::Result<Document> {
    let content = file::read(path)?;
    Document::parse(content.as_deref())
        .map_err(|error| anyhow!("{}: {error}; nothing was changed", path.display()))
}

/// The engine and its default bridge.
///
/// # Errors
/// If the kernel cannot be read.
pub async fn engine(setup: &DockerSetup) -> anyhow::Result<Engine> {
    let mut seen = match engine::Engine::connect(&setup.docker.socket).await {
        Ok(engine) => seen_of(&engine).await.unwrap_or_default(),
        Err(_) => Engine::default(),
    };
    if !seen.answers {
        seen.version = installed().await?;
    }
    seen.bridge.clone_from(&setup.bridge);
    let kernel = NetlinkKernel::open()?;
    let routes = kernel.routes(Scope::Boot).await?;
    read_bridge(&kernel, &routes, &mut seen).await?;
    Ok(seen)
}

/// Reads the addresses of the engine's bridge, and picks its routes out of those of `proto boot`.
pub async fn read_bridge(
    kernel: &dyn Kernel,
    routes: &[Route],
    engine: &mut Engine,
) -> Result<(), KernelError> {
    let links = kernel.links().await?;
    let Some(bridge) = links.into_iter().find(|link| link.name == engine.bridge) else { return Ok(()) };
    let addresses = kernel.addresses().await?.into_iter().filter(|it| it.link == bridge.index && it.global);
    engine.addresses = addresses.map(|it| (it.addr, it.len)).collect();
    let routes = routes.iter().filter(|it| is_engines(it, bridge.index));
    engine.routes = routes.map(|it| it.key.destination).collect();
    Ok(())
}

fn is_engines(route: &Route, link: u32) -> bool {
    let of_engine = (route.protocol, route.key.table) == (RouteProtocol::BOOT, MAIN_TABLE);
    of_engine && route.target.direct_link() == Some(link)
}

/// What the engine answers.
pub async fn seen_of(engine: &engine::Engine) -> Result<Engine, EngineError> {
    let (version, networks) = (engine.version().await?, engine.networks().await?);
    let default = networks.iter().find(|network| network.is_default() && network.ipv6);
    let containers = match default {
        Some(network) => engine.containers_on(network).await?,
        None => Vec::new(),
    };
    let others = networks.iter().filter(|network| !network.is_default());
    let others = others.flat_map(|it| it.prefixes.iter().map(|(prefix, _)| (it.name.clone(), *prefix)));
    Ok(Engine {
        version,
        answers: true,
        network: default.and_then(|network| network.prefixes.first()).map(|(prefix, _)| *prefix),
        others: others.collect(),
        containers: containers.into_iter().map(|it| it.name).collect(),
        driver_networks: names(&networks, |network| network.ipam == DRIVER),
        kept: names(&networks, is_ours),
        ..Engine::default()
    })
}

fn names(networks: &[Network], with: impl Fn(&Network) -> bool) -> Vec<String> {
    networks.iter().filter(|network| with(network)).map(|network| network.name.clone()).collect()
}

/// The version of the installed engine, which need not run; empty if there is none.
async fn installed() -> anyhow::Result<String> {
    let output = systemd::output(&["dockerd", "--version"]).await?;
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    Ok(version_of(&text).to_owned())
}

/// The version in `Docker version 20.10.24+dfsg1, build 5d6db84`.
fn version_of(text: &str) -> &str {
    let version = text.strip_prefix("Docker version ").and_then(|rest| rest.split([',', ' ']).next());
    version.unwrap_or_default().trim()
}

/// The group that the agent's service user lacks for the engine's socket; none if nothing says that it lacks one.
///
/// # Errors
/// If no group can give access.
pub async fn group_that_is_missing(socket: &Path) -> anyhow::Result<Option<String>> {
    match systemd::unit(AGENT).await? {
        Some(unit) if socket.exists() => Ok(missing_group(&unit, socket, true)?.map(|(_, group)| group)),
        _ => Ok(None),
    }
}

/// The group of the engine's socket, if the agent's service user is not in it, with the drop-in for it. Where the agent does not
/// need the socket, but for what it shows, it may go without.
fn missing_group(
    unit: &std::collections::BTreeMap<String, String>,
    socket: &Path,
    needed: bool,
) -> anyhow::Result<Option<(PathBuf, String)>> {
    let of = |key: &str| unit.get(key).map_or("", String::as_str);
    if matches!(of("User"), "" | "root") {
        return Ok(None);
    }
    let gid = match fs::metadata(socket) {
        Ok(socket) if !needed && socket.gid() == 0 => return Ok(None),
        Err(_) if !needed => return Ok(None),
        found => found
            .with_context(|| {
                format!("Docker's socket {}; start Docker, or set [docker] socket", socket.display())
            })?
            .gid(),
    };
    anyhow::ensure!(
        gid != 0,
        "Docker's socket {} belongs to the group root, which the agent's user must not be in; give Docker the group docker \
         (groupadd --system docker), restart it, and try again",
        socket.display()
    );
    let group = Group::from_gid(Gid::from_raw(gid))?.map_or(gid.to_string(), |group| group.name);
    let has = of("Group") == group || of("SupplementaryGroups").split(' ').any(|it| it == group);
    Ok((!has).then(|| (DROP_IN.into(), group)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_installed_version_is_read() {
        assert_eq!(version_of("Docker version 20.10.24+dfsg1, build 5d6db84\n"), "20.10.24+dfsg1");
        assert_eq!(version_of("Docker version 28.5.2\n"), "28.5.2");
        assert_eq!(version_of(""), "");
    }

    #[test]
    fn only_a_service_user_without_the_group_needs_it() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("docker.sock");
        fs::write(&socket, "").unwrap();
        let missing = |user: &str, groups: &str| {
            let unit = [("User", user), ("SupplementaryGroups", groups)];
            let unit = unit.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
            missing_group(&unit, &socket, true)
        };
        assert_eq!(missing("", "").unwrap(), None);
        assert_eq!(missing("root", "").unwrap(), None);
        if nix::unistd::geteuid().is_root() {
            assert!(missing("sextant", "").unwrap_err().to_string().contains("group root"));
            std::os::unix::fs::chown(&socket, None, Some(1)).unwrap();
            let (path, group) = missing("sextant", "adm").unwrap().unwrap();
            assert_eq!((path.to_str(), group.as_str()), (Some(DROP_IN), "daemon"));
            assert_eq!(missing("sextant", "adm daemon").unwrap(), None);
        }
    }
}
