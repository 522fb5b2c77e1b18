//! Audit entries: the existing ones, and new ones.

use std::pin::Pin;

use futures::{Stream, StreamExt, stream};
use sextant_proto::{NodeName, Revision, convert, v1};
use tonic::Status;

use super::{Services, status::malformed};
use crate::{
    audit::{self, Follow, Noted},
    index::Index,
};

pub(super) type Events = Pin<Box<dyn Stream<Item = Result<v1::Event, Status>> + Send>>;

/// The existing entries; then, if requested, new ones.
pub(super) async fn open(services: &Services, request: v1::EventsRequest) -> Result<Events, Status> {
    let v1::EventsRequest { follow, node, after, incarnation, last } = request;
    let node = (!node.is_empty()).then(|| convert::parse("node", &node)).transpose().map_err(malformed)?;
    let here = services.index.read(|state| state.meta().incarnation);
    let after = if incarnation == here.octets()[..] { Revision(after) } else { Revision::ZERO };

    let (revision, mut past) = audit::list(&services.registry, &services.keys).await?;
    past.retain(|noted| noted.revision > after && is_of(node.as_ref(), noted));
    if last > 0 {
        past.drain(..past.len().saturating_sub(last as usize));
    }
    let index = services.index.clone();
    let past = stream::iter(past);
    if !follow {
        return Ok(Box::pin(past.map(move |noted| Ok(message(&index, noted)))));
    }
    let follow = Follow::new(services.registry.clone(), services.keys.clone(), revision);
    let new = stream::unfold(follow, |mut follow| async move { Some((follow.next().await, follow)) });
    let wanted = new.filter(move |noted| std::future::ready(is_of(node.as_ref(), noted)));
    Ok(Box::pin(past.chain(wanted).map(move |noted| Ok(message(&index, noted)))))
}

fn is_of(node: Option<&NodeName>, noted: &Noted) -> bool {
    node.is_none() || noted.record.node.as_ref() == node
}

fn message(index: &Index, noted: Noted) -> v1::Event {
    let Noted { revision, record } = noted;
    v1::Event {
        revision: revision.0,
        incarnation: index.read(|state| state.meta().incarnation).into(),
        unix_ms: record.unix_ms,
        what: record.what,
        node: record.node.map(|node| node.to_string()).unwrap_or_default(),
        prefix: record.prefix.map(Into::into),
        pool: record.pool.map(|pool| pool.to_string()).unwrap_or_default(),
        by: record.by,
        detail: record.detail,
    }
}
