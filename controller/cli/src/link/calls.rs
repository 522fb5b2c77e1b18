//! The calls to a controller.

use std::{net::Ipv6Addr, time::Duration};

use sextant_identity::TokenId;
use sextant_proto::{
    Containers, Incarnation, NodeName, Pool, PoolName, Prefix, Revision,
    convert::{MessageError, all, octets, required},
    ndp::NdpProxy,
    v1,
};

use super::{Client, Following, Link};
use crate::{
    answer::{Cluster, Move, Node, PoolUse, Readable, Reservation, Route, readable_nodes, readable_pools},
    failure::Failure,
};

/// How long a trace may take: each agent gets three requests, with a time-out of 9 s each.
const TRACE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an agent may take to answer a question.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(12);
/// How long a call that reads or writes the whole store may take.
const WHOLE_TIMEOUT: Duration = Duration::from_secs(600);
/// The octets of a file in one message.
const PIECE: usize = 256 << 10;

/// The selection of events.
pub(crate) struct EventFilter {
    pub(crate) follow: bool,
    pub(crate) node: Option<NodeName>,
    pub(crate) last: Option<u32>,
}

/// The progress of the agents.
pub(crate) type Waiting = Following<v1::WaitProgress>;

impl Link {
    pub(crate) async fn add_pool(&mut self, pool: &Pool) -> Result<Revision, Failure> {
        let request = v1::AddPoolRequest { pool: Some(pool.into()) };
        let call = async |mut client: Client| client.add_pool(request.clone()).await;
        Ok(Revision(self.change(call).await?.revision))
    }

    pub(crate) async fn pools(&mut self) -> Result<Readable<PoolUse>, Failure> {
        let call = async |mut client: Client| client.list_pools(v1::ListPoolsRequest {}).await;
        Ok(readable_pools(self.ask(call).await?.pools))
    }

    pub(crate) async fn remove_pool(&mut self, name: &PoolName) -> Result<Revision, Failure> {
        let request = v1::RemovePoolRequest { name: name.to_string() };
        let call = async |mut client: Client| client.remove_pool(request.clone()).await;
        Ok(Revision(self.change(call).await?.revision))
    }

    pub(crate) async fn drain_pool(&mut self, name: &PoolName, drain: bool) -> Result<Revision, Failure> {
        let request = v1::DrainPoolRequest { name: name.to_string(), undrain: !drain };
        let call = async |mut client: Client| client.drain_pool(request.clone()).await;
        Ok(Revision(self.change(call).await?.revision))
    }

    pub(crate) async fn grow_pool(&mut self, name: &PoolName, to: Prefix) -> Result<Revision, Failure> {
        let request = v1::GrowPoolRequest { name: name.to_string(), prefix: Some(to.into()) };
        let call = async |mut client: Client| client.grow_pool(request.clone()).await;
        Ok(Revision(self.change(call).await?.revision))
    }

    pub(crate) async fn reserve(
        &mut self,
        prefix: Prefix,
        node: &str,
        reason: &str,
    ) -> Result<Revision, Failure> {
        let (prefix, node, reason) = (Some(prefix.into()), node.to_owned(), reason.to_owned());
        let reservation = v1::Reservation { prefix, node, reason, ..v1::Reservation::default() };
        let request = v1::ReserveRequest { reservation: Some(reservation) };
        let call = async |mut client: Client| client.reserve(request.clone()).await;
        Ok(Revision(self.change(call).await?.revision))
    }

    pub(crate) async fn unreserve(&mut self, prefix: Prefix) -> Result<Revision, Failure> {
        let request = v1::UnreserveRequest { prefix: Some(prefix.into()) };
        let call = async |mut client: Client| client.unreserve(request.clone()).await;
        Ok(Revision(self.change(call).await?.revision))
    }

    pub(crate) async fn reservations(&mut self) -> Result<Vec<Reservation>, Failure> {
        let call = async |mut client: Client| client.list_reservations(v1::ListReservationsRequest {}).await;
        Ok(all("reservations", self.ask(call).await?.reservations)?)
    }

    pub(crate) async fn nodes(&mut self) -> Result<Readable<Node>, Failure> {
        let call = async |mut client: Client| client.list_nodes(v1::ListNodesRequest {}).await;
        Ok(readable_nodes(self.ask(call).await?.nodes))
    }

    /// The containers of a node, from its agent.
    pub(crate) async fn containers(&mut self, node: &NodeName) -> Result<Containers, Failure> {
        let request = v1::NodeContainersRequest { name: node.to_string() };
        let call = async |mut client: Client| client.node_containers(request.clone()).await;
        Ok(self.ask_within(ANSWER_TIMEOUT, call).await?.containers.unwrap_or_default().into())
    }

    /// What the host of a node answers neighbour solicitations for, from its agent; with `addresses`, each of them.
    pub(crate) async fn ndp(&mut self, node: &NodeName, addresses: bool) -> Result<NdpProxy, Failure> {
        let request = v1::NodeNdpRequest { name: node.to_string(), addresses };
        let call = async |mut client: Client| client.node_ndp(request.clone()).await;
        Ok(self.ask_within(ANSWER_TIMEOUT, call).await?.ndp.unwrap_or_default().into())
    }

    pub(crate) async fn drain_node(
        &mut self,
        name: &NodeName,
        timeout: Duration,
    ) -> Result<Revision, Failure> {
        let request = v1::DrainNodeRequest { name: name.to_string(), timeout_ms: millis(timeout) };
        let call = async |mut client: Client| client.drain_node(request.clone()).await;
        Ok(Revision(self.change(call).await?.revision))
    }

    /// Revokes a node, or permits it again. Returns whether it holds a claim.
    pub(crate) async fn revoke_node(
        &mut self,
        name: &NodeName,
        undo: bool,
    ) -> Result<(Revision, bool), Failure> {
        let request = v1::RevokeNodeRequest { name: name.to_string(), undo };
        let call = async |mut client: Client| client.revoke_node(request.clone()).await;
        let answer = self.change(call).await?;
        Ok((Revision(answer.revision), answer.holds_claim))
    }

    pub(crate) async fn undrain_node(&mut self, name: &NodeName) -> Result<Revision, Failure> {
        let request = v1::UndrainNodeRequest { name: name.to_string() };
        let call = async |mut client: Client| client.undrain_node(request.clone()).await;
        Ok(Revision(self.change(call).await?.revision))
    }

    /// Moves a node to another prefix; with `plan`, only reports what that would do.
    pub(crate) async fn reassign_node(
        &mut self,
        name: &NodeName,
        pool: Option<&PoolName>,
        prefix: Option<Prefix>,
        plan: bool,
    ) -> Result<Move, Failure> {
        let (name, pool) = (name.to_string(), pool.map(ToString::to_string).unwrap_or_default());
        let request = v1::ReassignNodeRequest { name, pool, prefix: prefix.map(Into::into), plan };
        let call = async |mut client: Client| client.reassign_node(request.clone()).await;
        let answer = if plan { self.ask(call).await? } else { self.change(call).await? };
        Ok(answer.try_into()?)
    }

    /// The freed prefixes of each node, in the order of `names`, and the revision of the change.
    pub(crate) async fn forget_nodes(
        &mut self,
        names: &[NodeName],
        pool: Option<&PoolName>,
        force: bool,
        confirm: Option<u32>,
    ) -> Result<(Vec<Vec<Prefix>>, Revision), Failure> {
        // An older controller supports one name only.
        let (name, names) = match names {
            [name] => (name.to_string(), Vec::new()),
            names => (String::new(), names.iter().map(ToString::to_string).collect()),
        };
        let pool = pool.map(ToString::to_string).unwrap_or_default();
        let request = v1::ForgetNodeRequest { name, force, names, confirm, pool };
        let call = async |mut client: Client| client.forget_node(request.clone()).await;
        let forgotten = self.change(call).await?;
        let prefixes = if !forgotten.nodes.is_empty() {
            forgotten
                .nodes
                .into_iter()
                .map(|node| all("prefixes", node.prefixes))
                .collect::<Result<_, _>>()?
        } else if !forgotten.prefixes.is_empty() {
            all("prefixes", forgotten.prefixes)?.into_iter().map(|prefix| vec![prefix]).collect()
        } else {
            vec![vec![required("prefix", forgotten.prefix)?]]
        };
        Ok((prefixes, Revision(forgotten.revision)))
    }

    pub(crate) async fn pause(&mut self) -> Result<Revision, Failure> {
        let call = async |mut client: Client| client.pause(v1::PauseRequest {}).await;
        Ok(Revision(self.change(call).await?.revision))
    }

    pub(crate) async fn resume(&mut self) -> Result<Revision, Failure> {
        let call = async |mut client: Client| client.resume(v1::ResumeRequest {}).await;
        Ok(Revision(self.change(call).await?.revision))
    }

    pub(crate) async fn routes(&mut self, node: Option<&NodeName>) -> Result<Vec<Route>, Failure> {
        let request = v1::ListRoutesRequest { node: node.map(ToString::to_string).unwrap_or_default() };
        let call = async |mut client: Client| client.list_routes(request.clone()).await;
        Ok(all("routes", self.ask(call).await?.routes)?)
    }

    pub(crate) async fn cluster(&mut self) -> Result<Cluster, Failure> {
        let call = async |mut client: Client| client.status(v1::StatusRequest {}).await;
        Ok(self.ask(call).await?.try_into()?)
    }

    pub(crate) async fn plan(&mut self, node: &NodeName) -> Result<v1::Plan, Failure> {
        let request = v1::PlanNodeRequest { name: node.to_string() };
        let call = async |mut client: Client| client.plan_node(request.clone()).await;
        Ok(required("plan", self.ask(call).await?.plan)?)
    }

    pub(crate) async fn trace(&mut self, from: &str, to: &str) -> Result<v1::TraceResponse, Failure> {
        let request = v1::TraceRequest { from: from.to_owned(), to: to.to_owned() };
        let call = async |mut client: Client| client.trace(request.clone()).await;
        self.ask_within(TRACE_TIMEOUT, call).await
    }

    /// Events after the revision `after` of its incarnation.
    pub(crate) async fn events(
        &mut self,
        filter: &EventFilter,
        after: Option<(Incarnation, Revision)>,
    ) -> Result<Following<v1::Event>, Failure> {
        let (incarnation, after) = after.map_or_else(Default::default, |(it, after)| (it.into(), after.0));
        let request = v1::EventsRequest {
            follow: filter.follow,
            node: filter.node.as_ref().map(ToString::to_string).unwrap_or_default(),
            after,
            incarnation,
            last: filter.last.unwrap_or_default(),
        };
        let call = async |mut client: Client| client.events(request.clone()).await;
        let stream = self.ask(call).await?;
        Ok(Following { stream, endpoint: self.endpoint().clone() })
    }

    /// A backup file's octets.
    pub(crate) async fn backup(&mut self) -> Result<Vec<u8>, Failure> {
        let call = async |mut client: Client| client.backup(v1::BackupRequest {}).await;
        let stream = self.ask_within(WHOLE_TIMEOUT, call).await?;
        let mut pieces = Following { stream, endpoint: self.endpoint().clone() };
        let mut octets = Vec::new();
        while let Some(Piece(piece)) = pieces.next().await? {
            octets.extend_from_slice(&piece);
        }
        Ok(octets)
    }

    pub(crate) async fn restore(&mut self, octets: &[u8]) -> Result<v1::RestoreResponse, Failure> {
        let pieces: Vec<_> = octets
            .chunks(PIECE)
            .map(|piece| v1::BackupPiece { octets: bytes::Bytes::copy_from_slice(piece) })
            .collect();
        let call = async |mut client: Client| client.restore(futures::stream::iter(pieces.clone())).await;
        self.change_within(WHOLE_TIMEOUT, call).await
    }

    /// The number of deleted keys.
    pub(crate) async fn undo_restore(&mut self) -> Result<u64, Failure> {
        let call = async |mut client: Client| client.undo_restore(v1::UndoRestoreRequest {}).await;
        Ok(self.change_within(WHOLE_TIMEOUT, call).await?.deleted)
    }

    pub(crate) async fn finish_recovery(
        &mut self,
        confirm: Option<u32>,
    ) -> Result<v1::FinishRecoveryResponse, Failure> {
        let call =
            async |mut client: Client| client.finish_recovery(v1::FinishRecoveryRequest { confirm }).await;
        self.change(call).await
    }

    pub(crate) async fn accept_unsigned(&mut self) -> Result<Revision, Failure> {
        let call = async |mut client: Client| client.accept_unsigned(v1::AcceptUnsignedRequest {}).await;
        Ok(Revision(self.change(call).await?.revision))
    }

    pub(crate) async fn explain(&mut self, address: Ipv6Addr) -> Result<v1::ExplainResponse, Failure> {
        let request = v1::ExplainRequest { address: octets(address) };
        let call = async |mut client: Client| client.explain(request.clone()).await;
        self.ask(call).await
    }

    pub(crate) async fn who_am_i(&mut self) -> Result<v1::WhoAmIResponse, Failure> {
        self.ask(async |mut client: Client| client.who_am_i(v1::WhoAmIRequest {}).await).await
    }

    pub(crate) async fn create_token(
        &mut self,
        request: &v1::CreateTokenRequest,
    ) -> Result<v1::CreateTokenResponse, Failure> {
        self.change(async |mut client: Client| client.create_token(request.clone()).await).await
    }

    pub(crate) async fn tokens(&mut self) -> Result<Vec<v1::JoinToken>, Failure> {
        let call = async |mut client: Client| client.list_tokens(v1::ListTokensRequest {}).await;
        Ok(self.ask(call).await?.tokens)
    }

    pub(crate) async fn revoke_token(&mut self, id: TokenId) -> Result<Revision, Failure> {
        let request = v1::RevokeTokenRequest { id: id.to_string() };
        let call = async |mut client: Client| client.revoke_token(request.clone()).await;
        Ok(Revision(self.change(call).await?.revision))
    }

    pub(crate) async fn revoke_member(
        &mut self,
        request: &v1::RevokeMemberRequest,
    ) -> Result<Revision, Failure> {
        let call = async |mut client: Client| client.revoke_member(request.clone()).await;
        Ok(Revision(self.change(call).await?.revision))
    }

    pub(crate) async fn revoked(&mut self) -> Result<Vec<v1::RevokedMember>, Failure> {
        let call = async |mut client: Client| client.list_revoked(v1::ListRevokedRequest {}).await;
        Ok(self.ask(call).await?.revoked)
    }

    /// Without a revision: the last one published to agents. Without a time-out: no limit.
    pub(crate) async fn wait(
        &mut self,
        revision: Option<Revision>,
        timeout: Option<Duration>,
    ) -> Result<Waiting, Failure> {
        let request = v1::WaitRequest {
            revision: revision.unwrap_or_default().0,
            timeout_ms: timeout.map_or(0, millis),
        };
        let call = async |mut client: Client| client.wait(request).await;
        let stream = self.ask(call).await?;
        let endpoint = self.endpoint().clone();
        Ok(Waiting { stream, endpoint })
    }
}

/// A piece of a file.
struct Piece(bytes::Bytes);

impl TryFrom<v1::BackupPiece> for Piece {
    type Error = MessageError;

    fn try_from(message: v1::BackupPiece) -> Result<Self, MessageError> {
        Ok(Self(message.octets))
    }
}

/// At least 1: on the wire, 0 means the default.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_never_sent_as_zero() {
        assert_eq!(millis(Duration::ZERO), 1);
    }
}
