//! The check of the networks that the agent keeps in the host's engine.

use sextant_docker::{
    engine::{Engine, EngineError},
    keeper::major,
    live::Live,
    parts::Parts,
    plan::{Plan, Wishes},
    trouble::Trouble,
    wanted::{Step, Wanted},
};

use crate::{docker::finding, problems::Finding};

/// Where the fix is the agent's.
const FIX: &str = "start sextant-agent, which does it, or see its log (`journalctl -u sextant-agent`)";

/// How the engine's networks differ from those that are wanted.
///
/// # Errors
/// If the engine does not answer.
pub(super) async fn findings(
    engine: &Engine,
    live: &Live,
    wishes: &Wishes,
    parts: &Parts,
) -> Result<Vec<Finding>, EngineError> {
    let Plan { wanted, troubles, .. } = wishes.plan(parts, &live.networks);
    let mut found: Vec<_> = troubles.iter().map(finding).collect();
    for wanted in &wanted {
        found.extend(one(engine, live, wanted).await?);
    }
    for network in wishes.retired(&live.networks) {
        let users = engine.containers_on(network).await?;
        let name = network.name.clone();
        found.push(match users.is_empty() {
            true => Finding::new(
                "docker-network-retired",
                format!("Docker has a network {name} of the agent that agent.toml does not name any more"),
                FIX.replace("does", "removes"),
            ),
            false => {
                let containers = users.into_iter().map(|container| container.name).collect();
                finding(&Trouble::Retired { name, containers })
            }
        });
    }
    Ok(found)
}

async fn one(engine: &Engine, live: &Live, wanted: &Wanted) -> Result<Option<Finding>, EngineError> {
    let users = match wanted.find(&live.networks) {
        Some(present) => engine.containers_on(present).await?,
        None => Vec::new(),
    };
    Ok(match wanted.step(major(&live.version), &live.networks, &users) {
        Step::Nothing => None,
        Step::Blocked(trouble) => Some(finding(&trouble)),
        Step::Create | Step::Replace { .. } => Some(Finding::unready(
            "docker-network",
            format!("Docker has no network {} with {}", wanted.name, wanted.prefix),
            FIX.replace("does", "makes"),
        )),
    })
}
