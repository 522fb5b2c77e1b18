//! The pools that an agent takes prefixes of (`accept-pools`): no claim is made that it would leave behind. Pure.

use sextant_proto::Pool;

use super::{ClaimError, ClaimRequest};
use crate::index::View;

impl ClaimRequest {
    /// Whether its agent takes new prefixes of a pool.
    pub(super) fn accepts(&self, pool: &Pool) -> bool {
        self.accept_pools.is_empty() || self.accept_pools.iter().any(|accepted| accepted.covers(pool.prefix))
    }
}

/// The pool of a new claim. A claim that the agent holds is its own to judge: the pool may have grown since.
///
/// # Errors
/// [`ClaimError::NotAccepted`].
pub(super) fn accepted<'a>(
    pool: &'a View<Pool>,
    request: &ClaimRequest,
) -> Result<&'a View<Pool>, ClaimError> {
    if request.accepts(&pool.record) {
        return Ok(pool);
    }
    let (node, accept_pools) = (request.node.clone(), request.accept_pools.clone());
    Err(ClaimError::NotAccepted { node, pool: Box::new(pool.record.clone()), accept_pools })
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{Fixture, pool, request},
        *,
    };

    fn accepting(n: usize, prefix: &str) -> ClaimRequest {
        ClaimRequest { accept_pools: vec![prefix.parse().unwrap()], ..request(n) }
    }

    #[tokio::test]
    async fn i14_no_claim_is_made_outside_of_what_the_agent_takes() {
        let it = Fixture::new(Some(("2001:db8:1::/48", 64))).await;
        let outside = accepting(1, "fd00::/8");
        let error = it.claims.claim(&outside).await.unwrap_err();
        assert!(error.is_refusal());
        assert!(
            error
                .to_string()
                .contains("main 2001:db8:1::/48 is outside accept-pools (fd00::/8) of node host1")
        );
        let part = it.claims.claim(&accepting(1, "2001:db8:1::/49")).await.unwrap_err();
        assert!(matches!(part, ClaimError::NotAccepted { .. }), "a part of the pool is not all of it");
        assert_eq!(it.nodes().await, 0);
        let taken = accepting(2, "2001:db8::/32");
        let claim = it.claim(&taken).await;
        // What it holds is confirmed, whatever it takes now.
        let accept_pools = vec!["fd00::/8".parse().unwrap()];
        let held = ClaimRequest { held: Some(claim.clone()), accept_pools, ..taken };
        assert_eq!(it.claim(&held).await, claim);
    }

    #[tokio::test]
    async fn without_a_name_the_pool_is_one_that_the_agent_takes() {
        let it = Fixture::new(Some(("2001:db8:1::/48", 64))).await;
        it.pools.add(&pool("ula", "fd00:5::/48", 64)).await.unwrap();
        assert!(matches!(it.claims.claim(&request(1)).await, Err(ClaimError::Ambiguous(_))));
        let claim = it.claim(&accepting(1, "fd00::/8")).await;
        assert_eq!(claim.pool.name.as_str(), "ula");
    }
}
