//! Names of nodes and pools.

use std::{fmt, str::FromStr};

use crate::quoted;

/// Why a text is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{kind} name \"{text}\" {why}; use lower-case letters, digits, '-' and '.', a letter or digit at both ends"
)]
pub struct NameError {
    kind: &'static str,
    text: String,
    why: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal, $max:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(String);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                check(text, $max).map_err(|why| NameError { kind: $kind, text: quoted(text), why })?;
                Ok(Self(text.to_owned()))
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name! {
    /// A host's name: an RFC 1123 subdomain in lower case, at most 253 octets, as Kubernetes names nodes.
    NodeName, "node", 253
}
name! {
    /// A pool's name: like a [`NodeName`], at most 63 octets.
    PoolName, "pool", 63
}

impl PoolName {
    /// Its place in the order of an agent's pools. A pool that the agent does not name comes after all others.
    pub fn place_in(&self, order: &[PoolName]) -> usize {
        order.iter().position(|pool| pool == self).unwrap_or(order.len())
    }
}

fn check(text: &str, max: usize) -> Result<(), &'static str> {
    let alphanumeric = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let octets = text.as_bytes();
    match (octets.first(), octets.last()) {
        (Some(first), Some(last)) if alphanumeric(*first) && alphanumeric(*last) => {}
        (None, _) => return Err("is empty"),
        _ => return Err("has another character at its start or end"),
    }
    if octets.len() > max {
        return Err("is too long");
    }
    if !octets.iter().all(|&c| alphanumeric(c) || c == b'-' || c == b'.') {
        return Err("has another character in it");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for good in ["a", "host-1", "ip-10-0-0-1.eu.internal", "0"] {
            assert!(good.parse::<NodeName>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "Host", "a/b", "a b", "ü", &"a".repeat(254)] {
            assert!(bad.parse::<NodeName>().is_err(), "{bad}");
        }
        assert!("a".repeat(64).parse::<PoolName>().is_err());
    }

    #[test]
    fn the_error_names_thing_value_and_fix() {
        let error = "Host/1".parse::<NodeName>().unwrap_err().to_string();
        assert!(error.starts_with("node name \"Host/1\" has another character"), "{error}");
        assert!(error.contains("lower-case"), "{error}");
    }
}
