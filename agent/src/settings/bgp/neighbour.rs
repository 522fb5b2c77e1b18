//! `[[bgp.neighbour]]`: a router to speak with.

use std::{
    fmt,
    net::Ipv6Addr,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use super::{Invalid, value};

/// The longest TCP MD5 key that the kernel takes.
const MAX_PASSWORD: usize = 80;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(in crate::settings) struct NeighbourKeys {
    address: Option<Ipv6Addr>,
    remote_as: u32,
    passive: bool,
    hold_time: Option<u16>,
    password_file: Option<PathBuf>,
    ttl_security: bool,
    source: Option<Ipv6Addr>,
    communities: Vec<String>,
    large_communities: Vec<String>,
    med: Option<u32>,
    local_pref: Option<u32>,
}

/// One neighbour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeighbourSettings {
    /// Its address.
    pub address: Ipv6Addr,
    /// Its AS.
    pub remote_as: u32,
    /// It connects to us, never the other way.
    pub passive: bool,
    /// After how many seconds of silence a session is over.
    pub hold_time: u16,
    /// TCP MD5 (RFC 2385).
    pub password: Option<Password>,
    /// Only packets from the same link are taken (RFC 5082).
    pub ttl_security: bool,
    /// Our address in the session.
    pub source: Option<Ipv6Addr>,
    /// Put onto what is announced (RFC 1997).
    pub communities: Vec<u32>,
    /// Put onto what is announced (RFC 8092).
    pub large_communities: Vec<[u32; 3]>,
    /// Put onto what is announced.
    pub med: Option<u32>,
    /// Put onto what is announced in an iBGP session.
    pub local_pref: u32,
}

/// A key that nobody gets to see.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// The key itself, for the kernel.
    pub fn octets(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

impl NeighbourKeys {
    /// Checks them, and reads the password.
    pub(super) fn check(self, local_as: u32) -> Result<NeighbourSettings, Invalid> {
        let mend = "name the router's address, e.g. address = \"2001:db8::fe:1\"";
        let address = self.address.ok_or_else(|| value("[[bgp.neighbour]] address", &"(none)", &mend))?;
        if address.is_unicast_link_local() || address.is_multicast() || address.is_unspecified() {
            return Err(value("[[bgp.neighbour]] address", &address, &"give it a global address"));
        }
        if matches!(self.remote_as, 0 | 23456 | u32::MAX) {
            let mend = format!("give neighbour {address} its AS, e.g. 65000 ({local_as} for iBGP)");
            return Err(value("[[bgp.neighbour]] remote-as", &self.remote_as, &mend));
        }
        let hold_time = self.hold_time.unwrap_or(90);
        if hold_time < 3 {
            return Err(value("[[bgp.neighbour]] hold-time", &hold_time, &"give it 3 to 65535 seconds"));
        }
        let numbers = |key, texts: &[String], count| {
            texts.iter().map(|text| numbers_of(key, text, count)).collect::<Result<Vec<_>, _>>()
        };
        let pairs = numbers("[[bgp.neighbour]] communities", &self.communities, 2)?;
        let triples = numbers("[[bgp.neighbour]] large-communities", &self.large_communities, 3)?;
        Ok(NeighbourSettings {
            address,
            remote_as: self.remote_as,
            passive: self.passive,
            hold_time,
            password: self.password_file.as_deref().map(password).transpose()?,
            ttl_security: self.ttl_security,
            source: self.source,
            communities: pairs.iter().map(|pair| pair[0] << 16 | pair[1]).collect(),
            large_communities: triples.iter().map(|it| [it[0], it[1], it[2]]).collect(),
            med: self.med,
            local_pref: self.local_pref.unwrap_or(100),
        })
    }
}

/// `65000:1` or `65000:1:2`. Of two numbers each has 16 bits, of three each has 32.
fn numbers_of(key: &'static str, text: &str, count: usize) -> Result<Vec<u32>, Invalid> {
    let fits = |number: &u32| count == 3 || *number <= 0xffff;
    let numbers = text.split(':').map(u32::from_str).collect::<Result<Vec<_>, _>>();
    match numbers {
        Ok(numbers) if numbers.len() == count && numbers.iter().all(fits) => Ok(numbers),
        _ if count == 2 => Err(value(key, &text, &"write it as 65000:1, each up to 65535")),
        _ => Err(value(key, &text, &"write it as 65000:1:2")),
    }
}

fn password(path: &Path) -> Result<Password, Invalid> {
    let wrong = |mend: &dyn ToString| value("[[bgp.neighbour]] password-file", &path.display(), mend);
    let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() || text.len() > MAX_PASSWORD {
        return Err(wrong(&"holds no key of 1 to 80 octets"));
    }
    Ok(Password(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_read_from_a_file_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, "geheim\n").unwrap();
        let read = password(&path).unwrap();
        assert_eq!(read.octets(), b"geheim");
        assert!(!format!("{read:?}").contains("geheim"));
        std::fs::write(&path, "\n").unwrap();
        assert!(password(&path).is_err());
    }
}
