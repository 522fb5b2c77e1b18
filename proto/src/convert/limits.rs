//! How much one node may say. What shapes routes is refused beyond a limit; what only reports is cut off.

use std::net::Ipv6Addr;

use super::{MessageError, address, all, parse, required};
use crate::{NodeName, PoolName, Prefix, Uplink, v1};

/// The most uplinks of a node.
pub const MOST_UPLINKS: usize = 16;
/// The most addresses on all uplinks of a node.
pub const MOST_ADDRESSES: usize = 64;
/// The most claims in one announcement.
pub const MOST_CLAIMS: usize = 64;
/// The most pools that an agent names, and the most claims that a node is granted: its end, or its move, is one transaction with
/// several steps for each, and etcd takes 128 in one.
pub const MOST_POOLS: usize = 16;
/// The most container prefixes of a claim.
pub const MOST_CONTAINER_PREFIXES: usize = 64;
/// The most addresses that a host's network stands on, in a claim request.
pub const MOST_INFRASTRUCTURE: usize = 256;
/// The most prefixes of `accept-pools` in a claim request.
pub const MOST_ACCEPTED: usize = 64;
/// The most entries of each list in an acknowledgement.
pub const MOST_REPORTED: usize = 256;
/// The most verdicts in an acknowledgement: one for each lost node.
pub const MOST_VERDICTS: usize = 10_000;
/// The longest text of a report, in octets.
pub const LONGEST_TEXT: usize = 512;

/// Whether an address may be a next hop: one of an interface towards other hosts, not of this host alone or of many.
pub fn is_next_hop(addr: Ipv6Addr) -> bool {
    let of_ipv4 = addr.to_ipv4().is_some();
    !addr.is_unspecified() && !addr.is_loopback() && !addr.is_multicast() && !of_ipv4
}

/// The uplinks of an announcement.
///
/// # Errors
/// If they are too many, one is malformed, or has an address that cannot be a next hop.
pub fn announced_uplinks(messages: Vec<v1::Uplink>) -> Result<Vec<Uplink>, MessageError> {
    at_most("uplinks", messages.len(), MOST_UPLINKS)?;
    let addresses = messages.iter().map(|uplink| uplink.addresses.len()).sum();
    at_most("uplinks: addresses", addresses, MOST_ADDRESSES)?;
    let uplinks: Vec<Uplink> = all("uplinks", messages)?;
    let mut addresses = uplinks.iter().flat_map(|uplink| &uplink.addresses);
    match addresses.find(|address| !is_next_hop(address.addr)) {
        Some(wrong) => Err(MessageError::new("uplinks", format!("{} cannot be a next hop", wrong.addr))),
        None => Ok(uplinks),
    }
}

/// The container prefixes of one claim in an announcement.
///
/// # Errors
/// If they are too many, or one is malformed.
pub fn announced_prefixes(messages: Vec<v1::Prefix>) -> Result<Vec<Prefix>, MessageError> {
    at_most("container_prefixes", messages.len(), MOST_CONTAINER_PREFIXES)?;
    messages.into_iter().map(|prefix| required("container_prefixes", Some(prefix))).collect()
}

/// The order of an agent's pools.
///
/// # Errors
/// If they are too many, or one is malformed.
pub fn pool_order(names: &[String]) -> Result<Vec<PoolName>, MessageError> {
    at_most("pool_order", names.len(), MOST_CLAIMS)?;
    names.iter().map(|name| parse("pool_order", name)).collect()
}

/// The addresses of a list.
///
/// # Errors
/// If they are too many, or one is malformed.
pub fn addresses(field: &'static str, messages: Vec<bytes::Bytes>) -> Result<Vec<Ipv6Addr>, MessageError> {
    at_most(field, messages.len(), MOST_INFRASTRUCTURE)?;
    let one = |octets: bytes::Bytes| address(&octets).map_err(|error| MessageError::new(field, error));
    messages.into_iter().map(one).collect()
}

/// The pools that an agent takes prefixes of.
///
/// # Errors
/// If they are too many, or one is malformed.
pub fn accept_pools(messages: Vec<v1::Prefix>) -> Result<Vec<Prefix>, MessageError> {
    at_most("accept_pools", messages.len(), MOST_ACCEPTED)?;
    messages.into_iter().map(|prefix| required("accept_pools", Some(prefix))).collect()
}

/// Checks the length of a list.
///
/// # Errors
/// If it is longer than `most`.
pub fn at_most(field: &'static str, len: usize, most: usize) -> Result<(), MessageError> {
    if len > most {
        return Err(MessageError::new(field, format!("{len} are too many; at most {most} are taken")));
    }
    Ok(())
}

/// The names of nodes in a report; what is no name is left out.
pub fn names(names: Vec<String>) -> Vec<NodeName> {
    names.into_iter().take(MOST_REPORTED).filter_map(|name| name.parse().ok()).collect()
}

/// The first elements of a list that reports.
pub(super) fn reported<T>(mut list: Vec<T>, most: usize) -> Vec<T> {
    list.truncate(most);
    list
}

/// The begin of a text that reports.
pub fn text(mut text: String) -> String {
    if text.len() > LONGEST_TEXT {
        text.truncate(text.floor_char_boundary(LONGEST_TEXT));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::octets;

    fn uplink(addresses: &[&str]) -> v1::Uplink {
        let address =
            |addr: &&str| v1::InterfaceAddress { address: octets(addr.parse().unwrap()), length: 64 };
        v1::Uplink { interface: "eth0".into(), addresses: addresses.iter().map(address).collect() }
    }

    #[test]
    fn addresses_of_one_host_of_groups_and_of_ipv4_are_no_next_hops() {
        for addr in ["::", "::1", "ff02::1", "ff0e::5", "::ffff:192.0.2.1", "::192.0.2.1"] {
            let error = announced_uplinks(vec![uplink(&["2001:db8::1", addr])]).unwrap_err();
            assert!(error.to_string().contains("cannot be a next hop"), "{addr}: {error}");
        }
        announced_uplinks(vec![uplink(&["2001:db8::1", "fd00::1", "fe80::1"])]).unwrap();
    }

    #[test]
    fn an_announcement_beyond_a_limit_is_refused_with_its_number() {
        let many = vec!["2001:db8::1"; MOST_ADDRESSES + 1];
        let error = announced_uplinks(vec![uplink(&many)]).unwrap_err();
        assert!(error.to_string().contains("65 are too many; at most 64"), "{error}");
        let uplinks = vec![uplink(&[]); MOST_UPLINKS + 1];
        assert!(announced_uplinks(uplinks).is_err());
        let prefix = v1::Prefix { address: octets("2001:db8::".parse().unwrap()), length: 64 };
        assert!(announced_prefixes(vec![prefix.clone(); MOST_CONTAINER_PREFIXES + 1]).is_err());
        assert_eq!(announced_prefixes(vec![prefix; 2]).unwrap().len(), 2);
        let pools = |number| pool_order(&vec!["main".to_owned(); number]);
        assert!(pools(MOST_CLAIMS).is_ok() && pools(MOST_CLAIMS + 1).is_err());
        let prefix = v1::Prefix { address: octets("2001:db8::".parse().unwrap()), length: 64 };
        let accepted = |number| accept_pools(vec![prefix.clone(); number]);
        assert!(accepted(MOST_ACCEPTED).is_ok() && accepted(MOST_ACCEPTED + 1).is_err());
        let of_network =
            |number| addresses("infrastructure", vec![octets("2001:db8::1".parse().unwrap()); number]);
        assert!(of_network(MOST_INFRASTRUCTURE).is_ok() && of_network(MOST_INFRASTRUCTURE + 1).is_err());
    }

    #[test]
    fn a_text_is_cut_off_between_characters() {
        assert_eq!(text("short".into()), "short");
        let long = text("ä".repeat(LONGEST_TEXT));
        assert_eq!((long.len(), long.chars().all(|it| it == 'ä')), (LONGEST_TEXT, true));
        assert_eq!(text(format!("a{}", "ä".repeat(LONGEST_TEXT))).len(), LONGEST_TEXT - 1);
    }

    #[test]
    fn what_is_no_name_of_a_node_is_left_out() {
        assert_eq!(names(vec!["h1".into(), "h 2; rm".into()]), ["h1".parse().unwrap()]);
        assert_eq!(names(vec!["h1".into(); 1000]).len(), MOST_REPORTED);
    }
}
