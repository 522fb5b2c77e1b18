//! Prefixes, epochs, pools, claims.

use bytes::Bytes;

use super::{MessageError, address, id, octets, parse, required};
use crate::{Claim, Epoch, Incarnation, Mark, Pool, Prefix, PrefixError, Revision, v1};

impl TryFrom<v1::Prefix> for Prefix {
    type Error = PrefixError;

    fn try_from(message: v1::Prefix) -> Result<Self, PrefixError> {
        let len = u8::try_from(message.length).map_err(|_| PrefixError::Length(message.length))?;
        Prefix::new(address(&message.address)?, len)
    }
}

impl From<Prefix> for v1::Prefix {
    fn from(prefix: Prefix) -> Self {
        Self { address: octets(prefix.addr()), length: prefix.len().into() }
    }
}

impl TryFrom<v1::Epoch> for Epoch {
    type Error = MessageError;

    fn try_from(message: v1::Epoch) -> Result<Self, MessageError> {
        Ok(Self {
            incarnation: id("incarnation", &message.incarnation)?,
            revision: Revision(message.revision),
        })
    }
}

impl From<Epoch> for v1::Epoch {
    fn from(epoch: Epoch) -> Self {
        Self { incarnation: epoch.incarnation.into(), revision: epoch.revision.0 }
    }
}

impl TryFrom<v1::Mark> for Mark {
    type Error = MessageError;

    fn try_from(message: v1::Mark) -> Result<Self, MessageError> {
        let incarnation = id("incarnation", &message.incarnation)?;
        Ok(Self { incarnation, revision: Revision(message.revision), id: message.id })
    }
}

impl From<Mark> for v1::Mark {
    fn from(mark: Mark) -> Self {
        Self { incarnation: mark.incarnation.into(), revision: mark.revision.0, id: mark.id }
    }
}

impl From<Incarnation> for Bytes {
    fn from(id: Incarnation) -> Self {
        Bytes::copy_from_slice(&id.octets())
    }
}

impl From<crate::InstanceId> for Bytes {
    fn from(id: crate::InstanceId) -> Self {
        Bytes::copy_from_slice(&id.octets())
    }
}

impl From<crate::NodeId> for Bytes {
    fn from(id: crate::NodeId) -> Self {
        Bytes::copy_from_slice(&id.octets())
    }
}

impl TryFrom<v1::Pool> for Pool {
    type Error = MessageError;

    fn try_from(message: v1::Pool) -> Result<Self, MessageError> {
        let name = parse("name", &message.name)?;
        let prefix = required("prefix", message.prefix)?;
        let pool = Pool::new(name, prefix, message.host_len, message.container_len);
        let pool = pool.map_err(|error| MessageError::new("pool", error))?;
        Ok(Pool { draining: message.draining, ..pool })
    }
}

impl From<&Pool> for v1::Pool {
    fn from(pool: &Pool) -> Self {
        Self {
            name: pool.name.to_string(),
            prefix: Some(pool.prefix.into()),
            host_len: pool.host_len.into(),
            container_len: pool.container_len.into(),
            draining: pool.draining,
        }
    }
}

impl TryFrom<v1::Claim> for Claim {
    type Error = MessageError;

    fn try_from(message: v1::Claim) -> Result<Self, MessageError> {
        Ok(Self {
            prefix: required("prefix", message.prefix)?,
            epoch: required("epoch", message.epoch)?,
            pool: required("pool", message.pool)?,
        })
    }
}

impl From<&Claim> for v1::Claim {
    fn from(claim: &Claim) -> Self {
        Self {
            prefix: Some(claim.prefix.into()),
            epoch: Some(claim.epoch.into()),
            pool: Some((&claim.pool).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_from_the_wire_has_no_host_bits() {
        let message = v1::Prefix {
            address: vec![0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1].into(),
            length: 64,
        };
        assert!(matches!(Prefix::try_from(message), Err(PrefixError::HostBits { .. })));
        let message = v1::Prefix { address: vec![0; 15].into(), length: 64 };
        assert_eq!(Prefix::try_from(message), Err(PrefixError::Octets(15)));
        let message = v1::Prefix { address: vec![0; 16].into(), length: 300 };
        assert_eq!(Prefix::try_from(message), Err(PrefixError::Length(300)));
    }

    #[test]
    fn a_claim_round_trips() {
        let pool = Pool::new("main".parse().unwrap(), "2001:db8:1::/48".parse().unwrap(), 64, 80).unwrap();
        let epoch = Epoch { incarnation: Incarnation::random(), revision: Revision(7) };
        let claim = Claim { prefix: "2001:db8:1:5::/64".parse().unwrap(), epoch, pool };
        assert_eq!(Claim::try_from(v1::Claim::from(&claim)).unwrap(), claim);
        assert_eq!(claim.container_prefix().to_string(), "2001:db8:1:5::/80");
    }

    #[test]
    fn a_missing_field_is_named() {
        let error = Claim::try_from(v1::Claim::default()).unwrap_err();
        assert_eq!(error.to_string(), "prefix: is missing");
    }
}
