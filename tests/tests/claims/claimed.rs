//! Claims of nodes whose agents are never heard of: they ask, and that is all.

use sextant_proto::{
    NodeId,
    v1::{self, agent_service_client::AgentServiceClient, claim_response::Outcome},
};
use tokio::runtime;
use tonic::transport::Endpoint;

use crate::cluster::Cluster;

/// Each of these nodes claims a prefix of its own.
pub fn claim_all(cluster: &Cluster, nodes: impl Iterator<Item = (String, NodeId)> + Send) {
    let runtime = cluster.lab.switch().enter(|| runtime::Builder::new_current_thread().enable_all().build());
    let url = cluster.controllers[0].url();
    let claim = async {
        let channel = Endpoint::from_shared(url)?.connect().await?;
        let mut agents = AgentServiceClient::new(channel);
        for (node, node_id) in nodes {
            let request = v1::ClaimRequest {
                node: node.clone(),
                node_id: node_id.into(),
                ..v1::ClaimRequest::default()
            };
            let outcome = agents.claim(request).await?.into_inner().outcome;
            anyhow::ensure!(matches!(outcome, Some(Outcome::Granted(_))), "{node}: {outcome:?}");
        }
        anyhow::Ok(())
    };
    let runtime = runtime.unwrap().unwrap();
    cluster.lab.switch().enter(|| runtime.block_on(claim)).unwrap().unwrap();
}
