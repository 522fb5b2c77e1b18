//! Converts messages to domain types and back: the only place where received messages are validated.

mod ack;
mod common;
mod containers;
mod limits;
mod ndp;
mod peer;
mod trace;

use std::net::Ipv6Addr;

use crate::PrefixError;

pub use containers::MOST_CONTAINERS;
pub use limits::{
    LONGEST_TEXT, MOST_ACCEPTED, MOST_ADDRESSES, MOST_CLAIMS, MOST_CONTAINER_PREFIXES, MOST_INFRASTRUCTURE,
    MOST_POOLS, MOST_UPLINKS, accept_pools, addresses, announced_prefixes, announced_uplinks, at_most,
    is_next_hop, names, pool_order, text,
};
pub use ndp::{MOST_NDP_ADDRESSES, ndp_address};

/// Why a message is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct MessageError {
    field: &'static str,
    problem: String,
}

impl MessageError {
    /// An error about `field`, named as in the .proto file; `problem` is the reason.
    pub fn new(field: &'static str, problem: impl ToString) -> Self {
        Self { field, problem: problem.to_string() }
    }
}

/// The value of a field that must be there, as a domain type.
///
/// # Errors
/// If it is missing, or its own conversion fails.
pub fn required<M, T>(field: &'static str, message: Option<M>) -> Result<T, MessageError>
where
    T: TryFrom<M>,
    T::Error: ToString,
{
    let message = message.ok_or_else(|| MessageError::new(field, "is missing"))?;
    T::try_from(message).map_err(|error| MessageError::new(field, error.to_string()))
}

/// A text as a domain type.
///
/// # Errors
/// If the type does not take it.
pub fn parse<T: std::str::FromStr>(field: &'static str, text: &str) -> Result<T, MessageError>
where
    T::Err: ToString,
{
    text.parse().map_err(|error: T::Err| MessageError::new(field, error.to_string()))
}

/// 16 octets as an identity.
///
/// # Errors
/// If there are more or fewer.
pub fn id<'a, T>(field: &'static str, octets: &'a [u8]) -> Result<T, MessageError>
where
    T: TryFrom<&'a [u8]>,
    T::Error: ToString,
{
    T::try_from(octets).map_err(|error| MessageError::new(field, error.to_string()))
}

/// 16 octets as an address.
///
/// # Errors
/// If there are more or fewer.
pub fn address(octets: &[u8]) -> Result<Ipv6Addr, PrefixError> {
    let octets: [u8; 16] = octets.try_into().map_err(|_| PrefixError::Octets(octets.len()))?;
    Ok(Ipv6Addr::from(octets))
}

/// An address as its 16 octets.
pub fn octets(addr: Ipv6Addr) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(&addr.octets())
}

/// All of a repeated field as domain types.
///
/// # Errors
/// The first element's that fails.
pub fn all<M, T>(field: &'static str, messages: Vec<M>) -> Result<Vec<T>, MessageError>
where
    T: TryFrom<M>,
    T::Error: ToString,
{
    let convert = |message| T::try_from(message).map_err(|error| MessageError::new(field, error.to_string()));
    let mut all = messages.into_iter().map(convert).collect::<Result<Vec<T>, _>>()?;
    // It would keep the room of the messages, for four elements at least.
    all.shrink_to_fit();
    Ok(all)
}
