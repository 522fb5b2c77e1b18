//! The steps of a setup, in their order. Pure.

use std::{fmt, path::PathBuf};

use serde_json::json;

use crate::{
    json::{Document, Keys},
    plan::{Engine, FIXED_CIDR, Prefixes, Refusal, Stale, keys, other_length, stale},
};

/// How containers get addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Somebody else does that; the agent only watches.
    Watched,
    /// The agent keeps a network.
    Network,
    /// The default bridge has the container prefix.
    Daemon,
    /// As `Daemon`, and networks get prefixes by themselves.
    Pools,
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
    /// The agent's config file.
    pub config: PathBuf,
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
    let mut todo = match host.mode {
        Mode::Watched => Todo::default(),
        Mode::Network => network(host)?,
        Mode::Daemon => default_bridge(host, false)?,
        Mode::Pools => default_bridge(host, true)?,
    };
    let changed = host.other_mode || host.group.is_some();
    if host.other_mode {
        todo.steps.push(Step::Mode { file: host.config.clone(), mode: host.mode_name });
    }
    todo.steps.extend(host.group.clone().map(|(file, group)| Step::Group { file, group }));
    match (changed, host.agent_unit) {
        (true, true) if host.may_restart => todo.steps.push(Step::RestartAgent),
        (true, true) => todo.left.push("systemctl daemon-reload && systemctl restart sextant-agent".into()),
        (true, false) => todo.left.push("restart the agent".into()),
        (false, _) => {}
    }
    Ok(todo)
}

fn network(host: &Situation) -> Result<Todo, Refusal> {
    let fixed = host.document.value(FIXED_CIDR).and_then(|value| value.as_str()?.parse().ok());
    match fixed.filter(|fixed| host.prefixes.container.overlaps(*fixed)) {
        Some(fixed) => Err(Refusal::TakenByBridge(fixed)),
        None => Ok(Todo::default()),
    }
}

fn default_bridge(host: &Situation, pools: bool) -> Result<Todo, Refusal> {
    let Situation { prefixes, engine, document, .. } = host;
    let keys = keys(prefixes, engine, document, pools)?;
    let wanted = prefixes.container;
    if let Some((network, prefix)) = engine.others.iter().find(|(_, prefix)| prefix.overlaps(wanted)) {
        return Err(Refusal::Taken { network: network.clone(), prefix: *prefix, wanted });
    }
    let stale = stale(prefixes, engine, document);
    let can_restart = host.may_restart && host.engine_unit;
    let write = |keys: Keys| Step::Write { file: host.daemon_json.clone(), keys };
    let remove = || Step::RemoveStale { bridge: engine.bridge.clone(), stale: stale.clone() };
    if let Some((addr, now)) = other_length(prefixes, engine) {
        if !can_restart {
            let bridge = engine.bridge.clone();
            return Err(Refusal::OtherLength { bridge, addr, now, wanted: wanted.len() });
        }
        let forget = [write(vec![("ipv6", json!(false))]), Step::RestartEngine, remove()];
        return Ok(Todo { steps: [&forget[..], &[write(keys), Step::RestartEngine]].concat(), left: vec![] });
    }
    let differs = keys.iter().any(|(key, value)| document.value(key) != Some(value));
    let pending = differs || (engine.answers && engine.network != Some(wanted));
    let mut todo = Todo::default();
    todo.steps.extend(differs.then(|| write(keys)));
    // Until the engine is restarted, containers may use the former prefix.
    let unused = !pending || can_restart || !engine.answers;
    todo.steps.extend((unused && !stale.is_empty()).then(remove));
    match (pending, host.engine_unit) {
        (true, true) if can_restart => todo.steps.push(Step::RestartEngine),
        (true, true) => todo.left.push(format!("systemctl restart docker, and then {AGAIN}")),
        (true, false) => todo.left.push(format!("restart Docker, and then {AGAIN}")),
        (false, _) => {}
    }
    Ok(todo)
}

/// An engine puts routes of its former prefix back when it starts with another one.
const AGAIN: &str = "run this command again: it removes what Docker leaves of an earlier prefix";

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { file, keys } => {
                let keys: Vec<_> = keys.iter().map(|(key, value)| format!("\"{key}\": {value}")).collect();
                write!(f, "write into {}: {}", file.display(), keys.join(", "))
            }
            Self::RemoveStale { bridge, stale } => {
                let addresses = stale.addresses.iter().map(|(addr, len)| format!("address {addr}/{len}"));
                let routes = stale.routes.iter().map(|route| format!("route {route}"));
                let all: Vec<_> = addresses.chain(routes).collect();
                write!(f, "remove from {bridge}: {}", all.join(", "))
            }
            Self::RestartEngine => f.write_str("restart Docker: systemctl restart docker"),
            Self::Mode { file, mode } => {
                write!(f, "write into {}: [docker] mode = \"{mode}\"", file.display())
            }
            Self::Group { file, group } => {
                write!(f, "write into {}: SupplementaryGroups={group}", file.display())
            }
            Self::RestartAgent => f.write_str("restart the agent: systemctl restart sextant-agent"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(mode: Mode, text: &str) -> Situation {
        Situation {
            mode,
            mode_name: "x",
            prefixes: Prefixes {
                host: "2001:db8:8000:1::/64".parse().unwrap(),
                container: "2001:db8:8000:1::/80".parse().unwrap(),
                pools: vec!["2001:db8:8000::/40".parse().unwrap()],
            },
            engine: Engine {
                version: "28.5.2".into(),
                bridge: "docker0".into(),
                answers: true,
                network: Some("2001:db8:8000:7::/80".parse().unwrap()),
                addresses: vec![("2001:db8:8000:7::1".parse().unwrap(), 80)],
                ..Engine::default()
            },
            daemon_json: "/etc/docker/daemon.json".into(),
            document: Document::parse(Some(text.as_bytes())).unwrap(),
            config: "/etc/sextant/agent.toml".into(),
            other_mode: false,
            group: None,
            may_restart: false,
            engine_unit: true,
            agent_unit: true,
        }
    }

    const RIGHT: &str = "{\"ipv6\": true, \"fixed-cidr-v6\": \"2001:db8:8000:1::/80\"}";

    fn lines(host: &Situation) -> Vec<String> {
        let Todo { steps, left } = todo(host).unwrap();
        let left = left.iter().map(|it| format!("left: {}", it.split(", and then").next().unwrap()));
        steps.iter().map(ToString::to_string).chain(left).collect()
    }

    #[test]
    fn the_engine_is_restarted_only_if_something_has_changed_and_that_is_allowed() {
        let write =
            "write into /etc/docker/daemon.json: \"ipv6\": true, \"fixed-cidr-v6\": \"2001:db8:8000:1::/80\"";
        let remove = "remove from docker0: address 2001:db8:8000:7::1/80";
        let restart = "restart Docker: systemctl restart docker";
        let before = host(Mode::Daemon, "{}");
        assert_eq!(lines(&before), [write, "left: systemctl restart docker"]);
        let allowed = Situation { may_restart: true, ..before.clone() };
        assert_eq!(lines(&allowed), [write, remove, restart]);
        let no_unit = Situation { engine_unit: false, ..allowed.clone() };
        assert_eq!(lines(&no_unit), [write, "left: restart Docker"]);
        // It is written, but the engine still has the former prefix.
        let written = host(Mode::Daemon, RIGHT);
        assert_eq!(lines(&written), ["left: systemctl restart docker"]);
        let restarted = Engine { network: Some(written.prefixes.container), ..written.engine.clone() };
        assert_eq!(lines(&Situation { engine: restarted.clone(), ..written.clone() }), [remove]);
        let right = Engine { addresses: vec![], ..restarted };
        assert_eq!(lines(&Situation { engine: right, may_restart: true, ..written.clone() }), [""; 0]);
        let stopped = Engine { answers: false, network: None, ..written.engine.clone() };
        assert_eq!(lines(&Situation { engine: stopped, ..written }), [remove]);
    }

    #[test]
    fn an_address_that_gets_another_length_needs_a_start_without_ipv6() {
        let addr = "2001:db8:8000:1::1".parse().unwrap();
        let mut before = host(Mode::Daemon, "{\"ipv6\": true, \"fixed-cidr-v6\": \"2001:db8:8000:1::/64\"}");
        before.engine.addresses = vec![(addr, 64)];
        before.engine.network = Some("2001:db8:8000:1::/64".parse().unwrap());
        let refused = todo(&before).unwrap_err().to_string();
        assert!(
            refused.contains("docker0 has 2001:db8:8000:1::1/64 and is to have 2001:db8:8000:1::1/80"),
            "{refused}"
        );
        let lines = lines(&Situation { may_restart: true, ..before });
        assert_eq!(lines.len(), 5, "{lines:?}");
        assert!(lines[0].ends_with("\"ipv6\": false") && lines[3].contains("\"ipv6\": true"), "{lines:?}");
        assert!(lines[1].starts_with("restart Docker") && lines[4] == lines[1], "{lines:?}");
    }

    #[test]
    fn two_networks_never_get_the_same_prefix() {
        let mut taken = host(Mode::Daemon, "{}");
        taken.engine.others = vec![("sextant".into(), taken.prefixes.container)];
        let refused = todo(&taken).unwrap_err().to_string();
        assert!(refused.contains("network sextant has 2001:db8:8000:1::/80"), "{refused}");
        let refused = todo(&host(Mode::Network, RIGHT)).unwrap_err().to_string();
        assert!(refused.contains("docker setup --undo"), "{refused}");
        assert!(todo(&host(Mode::Network, "{\"fixed-cidr-v6\": \"fd00::/64\"}")).is_ok());
        // Networks beside it are what pools are for.
        taken.mode = Mode::Pools;
        taken.engine.others = vec![("web".into(), "2001:db8:8000:1:1::/80".parse().unwrap())];
        assert!(todo(&taken).is_ok());
    }

    #[test]
    fn the_agent_gets_mode_and_group_and_is_restarted_for_them() {
        let group = Some(("/etc/systemd/system/sextant-agent.service.d/docker.conf".into(), "docker".into()));
        let before = Situation { other_mode: true, group, ..host(Mode::Network, "{}") };
        let expected = [
            "write into /etc/sextant/agent.toml: [docker] mode = \"x\"",
            "write into /etc/systemd/system/sextant-agent.service.d/docker.conf: SupplementaryGroups=docker",
        ];
        assert_eq!(lines(&before)[..2], expected);
        assert!(lines(&before)[2].starts_with("left: systemctl daemon-reload"));
        let restarted = Situation { may_restart: true, ..before.clone() };
        assert_eq!(lines(&restarted)[2], "restart the agent: systemctl restart sextant-agent");
        assert_eq!(lines(&Situation { agent_unit: false, ..restarted })[2], "left: restart the agent");
        assert_eq!(lines(&host(Mode::Network, "{}")), [""; 0]);
        assert_eq!(lines(&host(Mode::Watched, "{\"bridge\": \"none\"}")), [""; 0]);
    }
}
