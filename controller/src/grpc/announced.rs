//! The claims of an announcement. Pure.

use sextant_proto::{
    convert::{self, MessageError, required},
    v1,
};

use crate::claims::{AnnouncedClaim, Holder};

/// The claims that a host is set up for. An agent that knows of one claim only has announced that of its hello.
pub(super) fn announced_claims(
    holder: &Holder,
    container_prefix: Option<v1::Prefix>,
    claims: Vec<v1::AnnouncedClaim>,
) -> Result<Vec<AnnouncedClaim>, MessageError> {
    if claims.is_empty() {
        let container_prefixes = convert::announced_prefixes(container_prefix.into_iter().collect())?;
        return Ok(vec![AnnouncedClaim { epoch: holder.epoch, container_prefixes }]);
    }
    convert::at_most("claims", claims.len(), convert::MOST_CLAIMS)?;
    let claim = |claim: v1::AnnouncedClaim| {
        Ok(AnnouncedClaim {
            epoch: required("epoch", claim.epoch)?,
            container_prefixes: convert::announced_prefixes(claim.container_prefixes)?,
        })
    };
    claims.into_iter().map(claim).collect()
}

#[cfg(test)]
mod tests {
    use sextant_proto::{Epoch, Incarnation, NodeId, Revision};

    use super::*;

    #[test]
    fn an_announcement_names_so_many_claims_or_that_of_the_hello() {
        let epoch = |revision| Epoch { incarnation: Incarnation::random(), revision: Revision(revision) };
        let holder = Holder { node: "h1".parse().unwrap(), node_id: NodeId::random(), epoch: epoch(7) };
        let container = || v1::Prefix::from("2001:db8:1::/80".parse::<sextant_proto::Prefix>().unwrap());
        let claims = |count| {
            let claim = |n: usize| v1::AnnouncedClaim {
                epoch: Some(epoch(n as u64).into()),
                container_prefixes: vec![container()],
            };
            announced_claims(&holder, Some(container()), (1..=count).map(claim).collect())
        };
        let of_the_hello = claims(0).unwrap();
        assert_eq!((of_the_hello.len(), of_the_hello[0].epoch), (1, holder.epoch));
        assert_eq!(of_the_hello[0].container_prefixes.len(), 1);
        assert_eq!(claims(convert::MOST_CLAIMS).unwrap().len(), convert::MOST_CLAIMS);
        let error = claims(convert::MOST_CLAIMS + 1).unwrap_err();
        assert!(error.to_string().contains("65 are too many"), "{error}");
        let nameless = v1::AnnouncedClaim::default();
        assert!(announced_claims(&holder, None, vec![nameless]).is_err());
    }
}
