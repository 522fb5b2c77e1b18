//! The node that a command names. Pure.

use sextant_proto::NodeName;

use crate::{
    answer::{Cluster, Node, Refused},
    failure::Failure,
    troubles::Trouble,
};

/// The node of this name. An agent that is refused a prefix under it is no node yet: the failure tells why.
pub(super) fn node<'a>(cluster: &'a Cluster, name: &NodeName) -> Result<&'a Node, Failure> {
    let node = cluster.nodes.iter().find(|node| node.name() == name);
    node.ok_or_else(|| {
        let is_it = |refused: &&_| is_of(refused, name);
        cluster.refused.iter().find(is_it).map_or_else(
            || Failure::no_node(name),
            |refused| Failure::NotFound(Trouble::Refused(refused.clone()).to_string()),
        )
    })
}

fn is_of(refused: &Refused, name: &NodeName) -> bool {
    refused.node == *name || refused.asks_as.as_ref() == Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::sample;

    #[test]
    fn a_refused_host_is_shown_with_the_reason() {
        let mut cluster = sample::healthy();
        let name = |name: &str| -> NodeName { name.parse().unwrap() };
        let failure = |cluster: &Cluster, of: &str| {
            let failure = node(cluster, &name(of)).map(drop).unwrap_err();
            (failure.to_string(), failure.exit_code())
        };
        assert!(node(&cluster, &name("host1")).is_ok());
        let missing = "node \"host9\" does not exist; see `sextant node list`".to_owned();
        assert_eq!(failure(&cluster, "host9"), (missing, 3));
        let refused = |node, asks_as: Option<&str>| Refused {
            node: name(node),
            asks_as: asks_as.map(name),
            why: "pool main is exhausted".into(),
            since_unix_ms: 1,
        };
        cluster.refused = vec![refused("host8", None), refused("host1", Some("host9"))];
        let expected = "node host8 gets no prefix: pool main is exhausted".to_owned();
        assert_eq!(failure(&cluster, "host8"), (expected, 3));
        let expected = "node host1 is refused under the name host9: pool main is exhausted".to_owned();
        assert_eq!(failure(&cluster, "host9"), (expected, 3));
    }
}
