//! What the wanted mode does not need of what earlier setups, for other modes, have left. Pure.

use std::path::PathBuf;

use sextant_proto::{Prefix, shell_operands};

use super::{Mode, Situation, Step, Todo};
use crate::{
    json::Document,
    plan::{Engine, FIXED_CIDR, POOLS, Refusal, left},
};

/// What earlier setups have left on a host.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Earlier {
    /// The engine's configuration file without their edits, if it has some.
    pub unedited: Option<Document>,
    /// The files of the IPAM driver that they have written.
    pub driver_files: Vec<PathBuf>,
    /// systemd listens at the driver's socket, or does so after a boot.
    pub listens: bool,
    /// What cannot be taken back, and why.
    pub problems: Vec<String>,
}

impl Earlier {
    /// The engine's configuration file as it is without a setup.
    pub(super) fn unedited<'a>(&'a self, document: &'a Document) -> &'a Document {
        self.unedited.as_ref().unwrap_or(document)
    }
}

/// For a mode that gives the default bridge no prefix.
pub(super) fn default_bridge(host: &Situation) -> Todo {
    let unedited = host.earlier.unedited(&host.document);
    let edited =
        ["ipv6", FIXED_CIDR, POOLS].iter().any(|key| unedited.value(key) != host.document.value(key));
    let mut todo = Todo::default();
    todo.steps.extend(edited.then(|| Step::TakeBack { file: host.daemon_json.clone() }));
    let stale = host.stale(&host.engine);
    if !stale.is_empty() {
        todo.steps.push(Step::RemoveStale { bridge: host.engine.bridge.clone(), stale });
    }
    let own = host.engine.network.filter(|it| host.prefixes.hosts().any(|prefix| prefix.overlaps(*it)));
    if edited || own.is_some_and(|network| !operators(host).contains(&network)) {
        todo = todo.and(host.restart_engine());
    }
    todo
}

/// The routes on the default bridge that its network does not have, of the prefixes that a setup may have given to it. Another network with
/// such a prefix is on another bridge, and packets to it would end here.
pub(super) fn routes(host: &Situation, engine: &Engine) -> Vec<Prefix> {
    let of_setup = fixed(&host.document).filter(|_| host.earlier.unedited.is_some());
    let earlier: Vec<_> = host.prefixes.pools.iter().copied().chain(of_setup).collect();
    let (operators, on_bridge) = (operators(host), Engine { others: Vec::new(), ..engine.clone() });
    left(&earlier, &on_bridge).into_iter().filter(|route| !operators.contains(route)).collect()
}

/// The prefixes that an operator, and no setup, has given to the default bridge: by the file, or by a flag.
fn operators(host: &Situation) -> Vec<Prefix> {
    let flag = host.engine.flag("--fixed-cidr-v6").and_then(|value| value.parse().ok());
    fixed(host.earlier.unedited(&host.document)).into_iter().chain(flag).collect()
}

fn fixed(document: &Document) -> Option<Prefix> {
    document.value(FIXED_CIDR)?.as_str()?.parse().ok()
}

/// For a mode without the IPAM driver: its socket, at which nobody answers any more, so that the engine would wait for it.
///
/// # Errors
/// If a network needs the driver.
pub(super) fn driver(host: &Situation) -> Result<Todo, Refusal> {
    let Earlier { driver_files, listens, problems, .. } = &host.earlier;
    let mut todo = Todo::default();
    if matches!(host.mode, Mode::Ipam(_)) || (driver_files.is_empty() && !listens) {
        return Ok(todo);
    }
    let networks = words(&host.engine.driver_networks);
    if !networks.is_empty() && host.other_mode {
        return Err(Refusal::DriverUsed(networks));
    }
    if !host.engine.answers {
        todo.left.push(format!("start Docker, and {AGAIN}, if no network uses it"));
        return Ok(todo);
    }
    // The mode was changed by hand: without a socket, the engine gives the driver up, and removes its networks.
    todo.steps.extend(listens.then_some(Step::Unlisten));
    if networks.is_empty() {
        todo.steps.extend(driver_files.iter().map(|file| Step::TakeBack { file: file.clone() }));
        todo.left.clone_from(problems);
    } else {
        todo.left.push(format!(
            "docker network rm {networks}, whose containers cannot start any more; then {AGAIN}"
        ));
    }
    Ok(todo)
}

/// Names as words of a command.
fn words(names: &[String]) -> String {
    shell_operands(names.iter().map(String::as_str))
}

const AGAIN: &str = "run this command again: it removes the files of the IPAM driver";

/// For a mode in which the agent keeps no networks: those that it has kept. Said once.
pub(super) fn networks(host: &Situation) -> Todo {
    let kept = words(&host.engine.kept);
    let stay = host.mode != Mode::Network && host.other_mode && !kept.is_empty();
    let left = stay.then(|| {
        format!("if no container is to use them: docker network rm {kept}; the agent keeps them no longer, and they stay as they are")
    });
    Todo { steps: Vec::new(), left: left.into_iter().collect() }
}

#[cfg(test)]
mod tests;
