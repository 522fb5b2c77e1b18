//! The steps of a setup, in their order. Pure.

mod leaving;
mod text;

use std::path::PathBuf;

use serde_json::json;

pub use self::leaving::Earlier;

use crate::{
    ipam::Driver,
    json::{Document, Keys},
    plan::{Engine, FIXED_CIDR, POOLS, Prefixes, Refusal, Stale, keys, other_length, stale},
};

/// How containers get addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Somebody else does that; the agent only watches.
    Watched,
    /// The agent keeps a network.
    Network,
    /// The default bridge has the container prefix.
    Daemon,
    /// As `Daemon`, and networks get prefixes by themselves.
    Pools,
    /// Networks get prefixes by the IPAM driver.
    Ipam(Driver),
}

/// A step.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Gives `daemon.json` keys.
    Write {
        /// The file.
        file: PathBuf,
        /// The keys, of which some differ.
        keys: Keys,
    },
    /// Removes what an earlier prefix has left on the default bridge.
    RemoveStale {
        /// The bridge.
        bridge: String,
        /// What is known to be there.
        stale: Stale,
    },
    /// Restarts the engine, and removes what it has put there again from an earlier prefix.
    RestartEngine,
    /// Sets the mode in the agent's config file.
    Mode {
        /// The file.
        file: PathBuf,
        /// The mode.
        mode: &'static str,
    },
    /// Gives the agent's service user the group of the engine's socket.
    Group {
        /// The drop-in of its unit.
        file: PathBuf,
        /// The group.
        group: String,
    },
    /// Tells Docker the socket of the IPAM driver.
    Spec {
        /// The file of Docker's.
        file: PathBuf,
        /// The socket.
        socket: PathBuf,
    },
    /// Writes the socket unit of the IPAM driver.
    SocketUnit {
        /// The file of the unit.
        file: PathBuf,
        /// The socket.
        socket: PathBuf,
    },
    /// Lets systemd listen at that socket, and restarts the agent, which takes it over.
    Listen,
    /// Takes back what earlier setups have written into a file.
    TakeBack {
        /// The file.
        file: PathBuf,
    },
    /// Lets systemd no longer listen at the socket of the IPAM driver.
    Unlisten,
    /// Restarts the agent.
    RestartAgent,
}

/// What is known of the host.
#[derive(Debug, Clone)]
pub struct Situation {
    /// How containers are to get addresses.
    pub mode: Mode,
    /// The mode's name.
    pub mode_name: &'static str,
    /// The prefixes of the host.
    pub prefixes: Prefixes,
    /// The engine.
    pub engine: Engine,
    /// The engine's configuration file.
    pub daemon_json: PathBuf,
    /// Its content.
    pub document: Document,
    /// What earlier setups have left.
    pub earlier: Earlier,
    /// The agent's config file.
    pub config: PathBuf,
    /// The settings name a controller.
    pub has_controller: bool,
    /// Whether that has another mode.
    pub other_mode: bool,
    /// The group that the agent's service user lacks, with the drop-in for it.
    pub group: Option<(PathBuf, String)>,
    /// Services may be restarted.
    pub may_restart: bool,
    /// systemd runs the engine.
    pub engine_unit: bool,
    /// systemd runs the agent.
    pub agent_unit: bool,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Todo {
    /// By the setup.
    pub steps: Vec<Step>,
    /// By the operator, afterwards.
    pub left: Vec<String>,
}

/// The steps to the wanted state; none if it is right.
///
/// # Errors
/// If it cannot be reached. Then nothing is to be done.
pub fn todo(host: &Situation) -> Result<Todo, Refusal> {
    let mut todo = match &host.mode {
        Mode::Watched => leaving::default_bridge(host),
        Mode::Network => network(host)?,
        Mode::Daemon => default_bridge(host, false)?,
        Mode::Pools => default_bridge(host, true)?,
        Mode::Ipam(driver) => {
            leaving::default_bridge(host).and(Todo { steps: files(driver), left: Vec::new() })
        }
    };
    todo = todo.and(leaving::driver(host)?).and(leaving::networks(host));
    let changed = host.other_mode || host.group.is_some();
    if host.other_mode {
        todo.steps.push(Step::Mode { file: host.config.clone(), mode: host.mode_name });
        if !host.has_controller {
            let config = host.config.display();
            todo.left.push(format!(
                "write the agent's other settings into {config}, e.g. controller, unless the agent gets them as flags: it names none"
            ));
        }
    }
    todo.steps.extend(host.group.clone().map(|(file, group)| Step::Group { file, group }));
    let silent = matches!(&host.mode, Mode::Ipam(driver) if !driver.listens);
    match (changed, host.agent_unit) {
        (_, true) if silent && host.may_restart => todo.steps.push(Step::Listen),
        (_, true) if silent => todo.left.push(listen()),
        (true, false) if silent => todo.left.push(LISTENS_ITSELF.into()),
        (true, true) if host.may_restart => todo.steps.push(Step::RestartAgent),
        (true, true) => todo.left.push("systemctl daemon-reload && systemctl restart sextant-agent".into()),
        (true, false) => todo.left.push("restart the agent".into()),
        (false, _) => {}
    }
    Ok(todo)
}

/// The files of the IPAM driver that are to be written.
fn files(Driver { socket, spec, unit, .. }: &Driver) -> Vec<Step> {
    let unit = unit.clone().map(|file| Step::SocketUnit { file, socket: socket.clone() });
    let spec = spec.clone().map(|file| Step::Spec { file, socket: socket.clone() });
    unit.into_iter().chain(spec).collect()
}

/// What lets systemd listen at the socket of the IPAM driver. systemd takes over no socket that an agent listens at.
pub const LISTEN: [&str; 4] = [
    "systemctl daemon-reload",
    "systemctl stop sextant-agent",
    "systemctl enable --now sextant-docker-ipam.socket",
    "systemctl start sextant-agent",
];

fn listen() -> String {
    LISTEN.join(" && ")
}

/// Docker 20.10 waits for a driver 15 seconds long when it starts.
const LISTENS_ITSELF: &str = "restart the agent, which then listens at the driver's socket itself: without systemd, let it start before Docker";

fn network(host: &Situation) -> Result<Todo, Refusal> {
    let fixed = host.earlier.unedited(&host.document).value(FIXED_CIDR);
    let fixed = fixed.and_then(|value| value.as_str()?.parse().ok());
    match fixed.filter(|fixed| host.prefixes.container.overlaps(*fixed)) {
        Some(fixed) => Err(Refusal::TakenByBridge(fixed)),
        None => Ok(leaving::default_bridge(host)),
    }
}

fn default_bridge(host: &Situation, pools: bool) -> Result<Todo, Refusal> {
    let Situation { prefixes, engine, document, .. } = host;
    let unedited = host.earlier.unedited(document);
    let keys = keys(prefixes, engine, unedited, pools)?;
    let wanted = prefixes.container;
    if let Some(file) = engine.flag("--config-file").filter(|file| host.daemon_json.as_os_str() != *file) {
        return Err(Refusal::OtherFile(file.to_owned()));
    }
    if let Some((network, prefix)) = engine.others.iter().find(|(_, prefix)| prefix.overlaps(wanted)) {
        return Err(Refusal::Taken { network: network.clone(), prefix: *prefix, wanted });
    }
    let stale = stale(prefixes, engine, document);
    let can_restart = host.can_restart_engine();
    // The other keys are written again.
    let take_back = !pools && unedited.value(POOLS) != document.value(POOLS);
    let before: Vec<_> =
        take_back.then(|| Step::TakeBack { file: host.daemon_json.clone() }).into_iter().collect();
    let present = if take_back { unedited } else { document };
    let write = |keys: Keys| Step::Write { file: host.daemon_json.clone(), keys };
    let remove = || Step::RemoveStale { bridge: engine.bridge.clone(), stale: stale.clone() };
    if let Some((addr, now)) = other_length(prefixes, engine) {
        if !can_restart {
            let bridge = engine.bridge.clone();
            return Err(Refusal::OtherLength { bridge, addr, now, wanted: wanted.len() });
        }
        let forget = [write(vec![("ipv6", json!(false))]), Step::RestartEngine, remove()];
        let steps = [&before[..], &forget, &[write(keys), Step::RestartEngine]].concat();
        return Ok(Todo { steps, left: vec![] });
    }
    let differs = keys.iter().any(|(key, value)| present.value(key) != Some(value));
    let pending = differs || take_back || (engine.answers && engine.network != Some(wanted));
    let mut todo = Todo { steps: before, left: Vec::new() };
    todo.steps.extend(differs.then(|| write(keys)));
    // Until the engine is restarted, containers may use the former prefix.
    let unused = !pending || can_restart || !engine.answers;
    todo.steps.extend((unused && !stale.is_empty()).then(remove));
    if pending {
        todo = todo.and(host.restart_engine());
    }
    if let Some(former) = engine.network.filter(|former| *former != wanted && !engine.containers.is_empty()) {
        let containers = engine.containers.join(", ");
        todo.left.push(format!("start containers again that still have addresses of {former}: {containers}"));
    }
    Ok(todo)
}

/// An engine puts routes of its former prefix back when it starts with another one.
const AGAIN: &str = "run this command again: it removes what Docker leaves of an earlier prefix";

impl Situation {
    fn can_restart_engine(&self) -> bool {
        self.may_restart && self.engine_unit
    }

    /// The restart of the engine: by the setup, or by the operator.
    fn restart_engine(&self) -> Todo {
        let command = if self.engine_unit { "systemctl restart docker" } else { "restart Docker" };
        match self.can_restart_engine() {
            true => Todo { steps: vec![Step::RestartEngine], left: Vec::new() },
            false => Todo { steps: Vec::new(), left: vec![format!("{command}, and then {AGAIN}")] },
        }
    }

    /// What has to go from the default bridge as the engine is now.
    pub fn stale(&self, engine: &Engine) -> Stale {
        match self.mode {
            Mode::Daemon | Mode::Pools => stale(&self.prefixes, engine, &self.document),
            Mode::Watched | Mode::Network | Mode::Ipam(_) => {
                Stale { addresses: Vec::new(), routes: leaving::routes(self, engine) }
            }
        }
    }
}

impl Todo {
    /// This, and then `next`.
    fn and(mut self, next: Self) -> Self {
        self.steps.extend(next.steps);
        self.left.extend(next.left);
        self
    }
}

#[cfg(test)]
mod tests;
