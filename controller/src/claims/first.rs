//! A node id has claims under one name (DESIGN I2): of two first claims that are made at once with one node id, the later one ends.
//!
//! No key of the store has the node id, so both are committed. The store's order decides between them: the later one sees the
//! earlier one, at whichever controller. It ends before its agent knows of it.

use sextant_proto::{Claim, NodeName, Prefix};

use super::{CATCH_UP, ClaimError, ClaimRequest, Claims};
use crate::{
    audit::{Event, What},
    registry::{Guard, Op, Txn},
};

impl Claims {
    /// The first claim of a node was committed just now. Ends it if the node id has an earlier one under another name.
    ///
    /// # Errors
    /// [`ClaimError::SameIdClaims`] with both names.
    pub(super) async fn keep_one_name(
        &self,
        request: &ClaimRequest,
        claim: &Claim,
    ) -> Result<(), ClaimError> {
        // Without the index, both stay, and the status names them.
        self.index.reaches(claim.epoch.revision, CATCH_UP).await;
        let Some((former, prefixes)) = self.earlier_name(request, claim) else { return Ok(()) };
        let (keys, node, revision) = (&self.keys, &request.node, claim.epoch.revision);
        let (node_key, claim_key) = (keys.node(node), keys.claim(claim.prefix));
        let detail = format!("node {former} has the same node id");
        let event = Event::new(What::Released).node(node).prefix(claim.prefix).pool(&claim.pool.name);
        let guards = [&node_key, &claim_key].map(|key| Guard::Unchanged(key.clone(), revision)).to_vec();
        let ops = vec![Op::Delete(node_key), Op::Delete(claim_key), self.note(event.detail(detail))];
        self.commit_seen(Txn { guards, ops }).await?;
        let (node, asking) = (node.clone(), request.node_id);
        Err(ClaimError::SameIdClaims { node, former, prefixes, asking })
    }

    /// The other name of the node id, with the prefixes of its earlier claims.
    fn earlier_name(&self, request: &ClaimRequest, claim: &Claim) -> Option<(NodeName, Vec<Prefix>)> {
        self.index.read(|state| {
            let mut others = state.names_of(request.node_id).filter(|name| **name != request.node);
            others.find_map(|name| {
                let node = state.nodes().get(name).filter(|node| node.created < claim.epoch.revision)?;
                Some((name.clone(), node.record.prefixes()))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Granted,
            tests::{Fixture, request},
        },
        *,
    };

    /// Two controllers, whose indexes do not have the other one's claim when they decide.
    #[tokio::test]
    async fn i2_of_first_claims_with_one_node_id_at_once_one_is_granted_and_the_others_name_both() {
        for round in 0..8 {
            let it = Fixture::new(Some(("2001:db8:1::/48", 64))).await;
            let other = it.another_controller().await;
            let first = request(1);
            let copy = |n| ClaimRequest { node_id: first.node_id, ..request(n) };
            let (second, third) = (copy(2), copy(3));
            let (one, two, three) =
                tokio::join!(it.claims.claim(&first), other.claim(&second), it.claims.claim(&third));
            let answers = [one, two, three];
            let granted: Vec<_> = answers
                .iter()
                .filter_map(|it| if let Ok(Granted::Claim(claim)) = it { Some(claim.prefix) } else { None })
                .collect();
            for refused in answers.iter().filter_map(|it| it.as_ref().err()) {
                let (text, id) = (refused.to_string(), first.node_id.to_string());
                let named = [id.as_str(), sextant_proto::CLEAR_COPY].iter().all(|it| text.contains(it));
                assert!(refused.is_refusal() && named && text.matches("\"host").count() == 2, "{text}");
            }
            assert_eq!((granted.len(), it.nodes().await), (1, 1), "round {round}: {answers:?}");
            let claims = it.registry.list(&it.keys.all()).await.unwrap().entries;
            let claims = claims.iter().filter(|entry| entry.key.contains("/claims/")).count();
            assert_eq!(claims, 1);
        }
    }
}
