//! What is checked before claims of one pool are ended.

use sextant_proto::{NodeName, PoolName};

use crate::{answer::Node, failure::Failure};

/// Checks that each of the named nodes holds a claim in the pool. The controller checks this too; but one from before claims of
/// several pools does not read the pool, and would end the claim that the node has in another one.
pub(super) fn all_hold_claims(nodes: &[Node], names: &[NodeName], pool: &PoolName) -> Result<(), Failure> {
    let named = nodes.iter().filter(|node| names.contains(node.name()));
    for node in named {
        let claims = &node.peer.claims;
        if claims.iter().all(|claim| claim.pool != *pool) {
            let held: Vec<_> = claims.iter().map(|claim| claim.prefix.to_string()).collect();
            return Err(Failure::NotFound(format!(
                "node {} holds no claim in pool {pool}; it holds {}",
                node.name(),
                held.join(", ")
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::sample;

    #[test]
    fn a_node_without_a_claim_in_the_pool_is_refused() {
        let nodes = sample::healthy().nodes;
        let (name, held) = (nodes[0].name().clone(), nodes[0].peer.claims[0].clone());
        let check = |names: &[NodeName], pool| all_hold_claims(&nodes, names, pool);
        check(std::slice::from_ref(&name), &held.pool).unwrap();
        let other: PoolName = "other".parse().unwrap();
        let refused = check(std::slice::from_ref(&name), &other).unwrap_err();
        let expected = format!("node {name} holds no claim in pool other; it holds {}", held.prefix);
        assert_eq!((refused.to_string(), refused.exit_code()), (expected, 3));
        check(&["unknown".parse().unwrap()], &other).unwrap();
    }
}
