//! What hosts answer neighbour solicitations for: their agents are asked when an operator wants to know.

use std::{net::Ipv6Addr, time::Duration};

use sextant_proto::{
    NodeName,
    convert::octets,
    ndp::NdpProxy,
    v1::{self, answer, question::About},
};
use tonic::Status;

use super::{Services, questions};

/// How long an agent may take where the answer does not depend on it alone.
const WITHIN: Duration = Duration::from_secs(3);

/// What the host of a node answers for; with `addresses`, each of them.
pub(super) async fn of_node(
    services: &Services,
    node: &NodeName,
    addresses: bool,
) -> Result<NdpProxy, Status> {
    ask(services, node, v1::NdpQuestion { addresses, ..v1::NdpQuestion::default() }).await
}

/// Whether a node answers for this address, and its uplinks. `None` also if its agent does not answer.
pub(super) async fn of_address(
    services: &Services,
    node: &NodeName,
    address: Ipv6Addr,
) -> Option<(v1::NdpAddress, Vec<v1::NdpUplink>)> {
    let question = v1::NdpQuestion { address: octets(address), ..v1::NdpQuestion::default() };
    let report = tokio::time::timeout(WITHIN, ask(services, node, question)).await.ok()?.ok()?;
    let found = report.addresses.iter().find(|it| it.address == address)?;
    Some((found.into(), report.uplinks.iter().map(Into::into).collect()))
}

/// The node of the address, if it answers neighbour solicitations for its containers.
pub(super) fn asked(it: &v1::ExplainResponse) -> Option<NodeName> {
    let of_containers = matches!(it.place(), v1::Place::ContainerPrefix | v1::Place::HostPrefix);
    let node = it.node.as_ref().filter(|_| of_containers)?;
    let answers = node.applied.as_ref().is_some_and(|applied| applied.ndp_proxy);
    node.peer.as_ref().filter(|_| answers)?.name.parse().ok()
}

async fn ask(services: &Services, node: &NodeName, question: v1::NdpQuestion) -> Result<NdpProxy, Status> {
    match questions::ask(services, node, About::Ndp(question)).await? {
        answer::About::Ndp(found) => Ok(found.into()),
        _ => Err(questions::wrong_kind(node)),
    }
}
