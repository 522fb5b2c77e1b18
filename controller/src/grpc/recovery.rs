//! The recovery window: the claims that are not registered, and its end.

use std::time::Duration;

use sextant_proto::{NodeName, counted, v1};
use tokio::time::Instant;
use tonic::Status;

use super::Services;
use crate::{
    audit::Actor,
    controllers::POLL,
    index::State,
    store,
    unregistered::{self, Unregistered, listed},
};

/// How long the end of the window waits for controllers that keep being started.
const LONGEST: Duration = Duration::from_secs(20);

/// The claims of a lost store that end with the recovery window, as all controllers know them by their last reports.
pub(super) async fn unregistered(services: &Services) -> Vec<Unregistered> {
    let Services { registry, keys, index, refused_claims, others, .. } = services;
    let mut found = unregistered::known(registry, keys, index, refused_claims).await;
    if index.read(|state| state.meta().stands_in()) {
        found.extend(others.unregistered());
    }
    found.sort();
    found.dedup_by(|a, b| (&a.node, a.prefix) == (&b.node, b.prefix));
    found
}

/// Closes the recovery window. Where claims end by that, the operator confirms their number.
pub(super) async fn finish(
    services: &Services,
    confirm: Option<u32>,
    by: &Actor,
) -> Result<v1::FinishRecoveryResponse, Status> {
    all_have_asked(services).await?;
    services.others.refresh().await;
    let unregistered = unregistered(services).await;
    if !unregistered.is_empty() && confirm.map(|it| it as usize) != Some(unregistered.len()) {
        return Err(Status::failed_precondition(unconfirmed(&unregistered)));
    }
    let Services { registry, keys, index, .. } = services;
    let unheard = index.read(|state| silent(services, state, false));
    let store::Finished { revision, was_open, .. } =
        store::finish(registry, keys, index, by, &unregistered).await?;
    let silent = if was_open { unheard } else { Vec::new() };
    Ok(v1::FinishRecoveryResponse {
        revision: revision.0,
        was_open,
        silent: silent.iter().map(ToString::to_string).collect(),
        unregistered: unregistered.iter().map(Into::into).collect(),
    })
}

/// Waits until each agent has asked again for a claim that a controller refused before that controller was started: only then it is
/// known. Nothing is waited for unless the store replaces another one.
async fn all_have_asked(services: &Services) -> Result<(), Status> {
    let is_new = |state: &State| -> Option<String> {
        if !state.meta().stands_in() {
            return None;
        }
        let (me, all) = (services.sessions.identity(), state.controllers());
        let own = (!all.contains_key(&me.id)).then(|| me.address.clone());
        let new = all.values().find(|it| services.index.is_new(it.created));
        own.or_else(|| new.map(|it| it.record.address.clone()))
    };
    let deadline = Instant::now() + LONGEST;
    while let Some(address) = services.index.read(is_new) {
        if Instant::now() > deadline {
            return Err(Status::unavailable(format!(
                "the controller at {address} was started a moment ago, and does not know yet which claims of the lost store \
                 it refuses; try again in some seconds"
            )));
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

/// The nodes that have not registered. A store that was taken back to a snapshot has sessions from before, of which no controller
/// has an ack, unless `unknown`: one of them does not answer.
pub(super) fn silent(services: &Services, state: &State, unknown: bool) -> Vec<NodeName> {
    let is_heard = |node: &NodeName| unknown || services.acks.of(node).is_some();
    store::silent(state, is_heard)
}

fn unconfirmed(claims: &[Unregistered]) -> String {
    let (are, them) = if claims.len() == 1 { ("is", "it") } else { ("are", "them") };
    format!(
        "{} of the lost store {are} not registered, and all agents delete the routes to {them} once the window closes: {}. \
         To close it nevertheless: `sextant recover --finish --confirm {}`",
        counted(claims.len(), "claim"),
        listed(claims),
        claims.len()
    )
}
