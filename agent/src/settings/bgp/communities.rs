//! Communities, as settings have them.

use super::{Invalid, value};

/// Communities (RFC 1997): `65000:1`, with 16 bits for each number.
pub(super) fn communities(key: &'static str, texts: &[String]) -> Result<Vec<u32>, Invalid> {
    let one = |text: &String| match numbers(text, u16::MAX.into()) {
        Some([high, low]) => Ok(high << 16 | low),
        None => Err(value(key, text, &"write it as 65000:1, each up to 65535")),
    };
    texts.iter().map(one).collect()
}

/// Large communities (RFC 8092): `65000:1:2`, with 32 bits for each number.
pub(super) fn large_communities(key: &'static str, texts: &[String]) -> Result<Vec<[u32; 3]>, Invalid> {
    let one =
        |text: &String| numbers(text, u32::MAX).ok_or_else(|| value(key, text, &"write it as 65000:1:2"));
    texts.iter().map(one).collect()
}

fn numbers<const N: usize>(text: &str, max: u32) -> Option<[u32; N]> {
    let numbers = text.split(':').map(|number| number.parse().ok().filter(|number| *number <= max));
    numbers.collect::<Option<Vec<_>>>()?.try_into().ok()
}
