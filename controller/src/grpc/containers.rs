//! The containers of nodes: their agents are asked when an operator wants to know. Nothing of them is in the store.

use std::{net::Ipv6Addr, time::Duration};

use futures::{StreamExt, stream};
use sextant_proto::{
    Container, Containers, NodeName,
    convert::octets,
    v1::{self, answer, question::About},
};
use tonic::Status;

use super::{Services, questions};

/// How long an agent may take to answer where the answer does not depend on it alone.
const WITHIN: Duration = Duration::from_secs(3);
/// How many agents are asked at once.
const AT_ONCE: usize = 64;

/// All containers of a node.
pub(super) async fn of_node(services: &Services, node: &NodeName) -> Result<Containers, Status> {
    ask(services, node, v1::ContainersQuestion::default()).await
}

/// The container of a node with this address, and the network of the address. `None` also if the agent does not answer.
pub(super) async fn with_address(
    services: &Services,
    node: &NodeName,
    address: Ipv6Addr,
) -> Option<(String, String)> {
    let question = v1::ContainersQuestion { address: octets(address), ..v1::ContainersQuestion::default() };
    let found = tokio::time::timeout(WITHIN, ask(services, node, question)).await.ok()?.ok()?;
    found.containers.into_iter().find_map(|container| {
        let (network, _) = container.addresses.into_iter().find(|(_, addr)| *addr == address)?;
        Some((container.name, network))
    })
}

/// The container of a node with this name.
pub(super) async fn on_node(services: &Services, node: &NodeName, name: &str) -> Result<Container, Status> {
    let found = ask(services, node, by_name(name)).await?;
    let watched = !found.engine.is_empty();
    let missing = || match watched {
        true => Status::not_found(format!(
            "no running container of node \"{node}\" with an IPv6 address is named \"{name}\"; see `sextant node show {node} \
             --containers`"
        )),
        false => Status::failed_precondition(not_watched(node)),
    };
    found.containers.into_iter().find(|container| container.name == name).ok_or_else(missing)
}

/// The containers with this name, with their nodes; and the number of agents that did not answer.
pub(super) async fn with_name(services: &Services, name: &str) -> (Vec<(NodeName, Container)>, usize) {
    let nodes: Vec<_> = services.index.read(|state| {
        state.peers().values().filter(|peer| peer.session).map(|peer| peer.name.clone()).collect()
    });
    let asked = nodes.into_iter().map(|node| async move {
        let answer = tokio::time::timeout(WITHIN, ask(services, &node, by_name(name))).await;
        (node, answer.ok().and_then(Result::ok))
    });
    let answers: Vec<_> = stream::iter(asked).buffer_unordered(AT_ONCE).collect().await;
    let silent = answers.iter().filter(|(_, answer)| answer.is_none()).count();
    let mut found = Vec::new();
    for (node, answer) in answers {
        let named = answer.into_iter().flat_map(|it| it.containers).filter(|it| it.name == name);
        found.extend(named.map(|container| (node.clone(), container)));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    (found, silent)
}

/// Why nothing is known of a node's containers.
fn not_watched(node: &NodeName) -> String {
    format!(
        "the agent of node \"{node}\" watches no container engine, or that has not answered yet; set [docker] mode in its agent.toml \
         (`none` only watches)"
    )
}

fn by_name(name: &str) -> v1::ContainersQuestion {
    v1::ContainersQuestion { name: name.to_owned(), ..v1::ContainersQuestion::default() }
}

async fn ask(
    services: &Services,
    node: &NodeName,
    question: v1::ContainersQuestion,
) -> Result<Containers, Status> {
    match questions::ask(services, node, About::Containers(question)).await? {
        answer::About::Containers(found) => Ok(found.into()),
        _ => Err(questions::wrong_kind(node)),
    }
}
