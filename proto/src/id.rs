//! Random 128-bit identities.

use std::{fmt, str::FromStr};

use crate::quoted;

/// Why octets or a text are no identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} \"{value}\" is malformed; it has 32 hexadecimal digits (16 octets)")]
pub struct IdError {
    kind: &'static str,
    value: String,
}

fn in_hex(octets: &[u8]) -> String {
    quoted(&octets.iter().map(|octet| format!("{octet:02x}")).collect::<String>())
}

macro_rules! id {
    ($(#[$doc:meta])* $type:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(u128);

        impl $type {
            /// A new one, from the system's random source.
            pub fn random() -> Self {
                Self(rand::random())
            }

            /// Its 16 octets.
            pub fn octets(self) -> [u8; 16] {
                self.0.to_be_bytes()
            }
        }

        impl TryFrom<&[u8]> for $type {
            type Error = IdError;

            fn try_from(octets: &[u8]) -> Result<Self, IdError> {
                let octets = octets.try_into().map_err(|_| IdError { kind: $kind, value: in_hex(octets) })?;
                Ok(Self(u128::from_be_bytes(octets)))
            }
        }

        impl FromStr for $type {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let malformed = || IdError { kind: $kind, value: quoted(text) };
                if text.len() != 32 || !text.bytes().all(|c| c.is_ascii_hexdigit()) {
                    return Err(malformed());
                }
                u128::from_str_radix(text, 16).map(Self).map_err(|_| malformed())
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

id! {
    /// Who a host is, whatever it is called: made on its first start, kept in the agent's state directory.
    NodeId, "node id"
}
id! {
    /// One run of an agent: random at each start, so that two agents with one node id are distinguished.
    InstanceId, "instance id"
}
id! {
    /// Identifies the content of a store: a wiped, new or restored store has another one.
    Incarnation, "incarnation"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_octets_round_trip() {
        let id = NodeId::random();
        assert_eq!(id.to_string().parse::<NodeId>().unwrap(), id);
        assert_eq!(NodeId::try_from(&id.octets()[..]).unwrap(), id);
        assert!("+123456789abcdef0123456789abcdef".parse::<NodeId>().is_err());
        let error = NodeId::try_from(&[0xa1; 15][..]).unwrap_err().to_string();
        assert!(error.starts_with(&format!("node id \"{}\" is malformed", "a1".repeat(15))), "{error}");
        assert!(NodeId::try_from(&[0; 100_000][..]).unwrap_err().to_string().len() < 200);
    }
}
