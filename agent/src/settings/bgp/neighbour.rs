//! `[[bgp.neighbour]]`: a router to speak with.

use std::{
    fmt,
    net::Ipv6Addr,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use sextant_proto::Prefix;

use super::{Accept, Import, Invalid, Timing, value};

/// The longest TCP MD5 key that the kernel takes.
const MAX_PASSWORD: usize = 80;
/// `linux/if.h`, the last octet of which is zero.
const IFNAMSIZ: usize = 16;
/// In seconds; the field has 12 bits (RFC 4724 §3).
pub(super) const MAX_RESTART_TIME: u16 = 4095;
/// More than a router in the middle of a large network has to say, and less than a mistake of its may cost.
const DEFAULT_IMPORT_MAX: usize = 100_000;
/// In seconds.
const DEFAULT_RESTART_TIME: u16 = 120;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(in crate::settings) struct NeighbourKeys {
    address: Option<String>,
    interface: Option<String>,
    remote_as: u32,
    passive: bool,
    hold_time: Option<u16>,
    password_file: Option<PathBuf>,
    ttl_security: bool,
    restart_time: Option<u16>,
    bfd: bool,
    bfd_interval: Option<u64>,
    bfd_multiplier: Option<u8>,
    import: Import,
    import_filter: Option<Vec<String>>,
    import_max: Option<usize>,
    source: Option<Ipv6Addr>,
    communities: Vec<String>,
    large_communities: Vec<String>,
    med: Option<u32>,
    local_pref: Option<u32>,
}

/// One neighbour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeighbourSettings {
    /// Its address. Unspecified: that of the router on `interface`, which is heard there.
    pub address: Ipv6Addr,
    /// Where it is, if its address does not say so.
    pub interface: Option<Arc<str>>,
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
    /// For how many seconds it keeps our routes while the agent restarts; 0: it does not.
    pub restart_time: u16,
    /// Whether the way to it is watched, and how closely.
    pub bfd: Option<Timing>,
    /// What is taken of it.
    pub accept: Accept,
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
    pub(super) fn check(self, local_as: u32, all_restart: Option<u16>) -> Result<NeighbourSettings, Invalid> {
        let (address, interface) = self.place()?;
        let name = name(address, interface.as_deref());
        if matches!(self.remote_as, 0 | 23456 | u32::MAX) {
            let mend = format!("give neighbour {name} its AS, e.g. 65000 ({local_as} for iBGP)");
            return Err(value("[[bgp.neighbour]] remote-as", &self.remote_as, &mend));
        }
        let hold_time = self.hold_time.unwrap_or(90);
        if hold_time < 3 {
            return Err(value("[[bgp.neighbour]] hold-time", &hold_time, &"give it 3 to 65535 seconds"));
        }
        let (restart_time, bfd) = self.restart_or_bfd(&name, all_restart)?;
        let accept = self.accept(&name)?;
        let numbers = |key, texts: &[String], count| {
            texts.iter().map(|text| numbers_of(key, text, count)).collect::<Result<Vec<_>, _>>()
        };
        let pairs = numbers("[[bgp.neighbour]] communities", &self.communities, 2)?;
        let triples = numbers("[[bgp.neighbour]] large-communities", &self.large_communities, 3)?;
        if let Some(path) = self.password_file.as_ref().filter(|_| address.is_unspecified()) {
            let mend =
                format!("the kernel wants an address with a password: give neighbour {name} its address");
            return Err(value("[[bgp.neighbour]] password-file", &path.display(), &mend));
        }
        Ok(NeighbourSettings {
            address,
            interface,
            remote_as: self.remote_as,
            passive: self.passive,
            hold_time,
            password: self.password_file.as_deref().map(password).transpose()?,
            ttl_security: self.ttl_security,
            restart_time,
            bfd,
            accept,
            source: self.source,
            communities: pairs.iter().map(|pair| pair[0] << 16 | pair[1]).collect(),
            large_communities: triples.iter().map(|it| [it[0], it[1], it[2]]).collect(),
            med: self.med,
            local_pref: self.local_pref.unwrap_or(100),
        })
    }
}

impl NeighbourSettings {
    /// For people.
    pub fn name(&self) -> String {
        name(self.address, self.interface.as_deref())
    }
}

fn name(address: Ipv6Addr, interface: Option<&str>) -> String {
    match interface {
        Some(interface) if address.is_unspecified() => interface.to_owned(),
        Some(interface) => format!("{address}%{interface}"),
        None => address.to_string(),
    }
}

impl NeighbourKeys {
    /// Its address, and its interface if that is needed: `2001:db8::1`, `fe80::1%eth0`, or nothing but an interface.
    fn place(&self) -> Result<(Ipv6Addr, Option<Arc<str>>), Invalid> {
        const ADDRESS: &str = "[[bgp.neighbour]] address";
        const INTERFACE: &str = "[[bgp.neighbour]] interface";
        let (text, zone) =
            match self.address.as_deref().map(|text| text.split_once('%').unwrap_or((text, ""))) {
                Some((text, zone)) => (Some(text), Some(zone).filter(|zone| !zone.is_empty())),
                None => (None, None),
            };
        let interface = match (zone, self.interface.as_deref()) {
            (Some(zone), Some(other)) if zone != other => {
                return Err(value(INTERFACE, &other, &format!("is another one than {zone} of the address")));
            }
            (zone, other) => zone.or(other),
        };
        if let Some(name) = interface.filter(|it| it.is_empty() || it.len() >= IFNAMSIZ || it.contains('/')) {
            return Err(value(INTERFACE, &name, &"is no name of an interface; ask `ip link`"));
        }
        let Some(text) = text else {
            let mend = "name the router's address, e.g. address = \"2001:db8::fe:1\", or the interface that it is on";
            let interface = interface.ok_or_else(|| value(ADDRESS, &"(none)", &mend))?;
            return Ok((Ipv6Addr::UNSPECIFIED, Some(interface.into())));
        };
        let address: Ipv6Addr = text.parse().map_err(|error| value(ADDRESS, &text, &error))?;
        match interface {
            _ if address.is_multicast() || address.is_unspecified() => {
                Err(value(ADDRESS, &address, &"give it a unicast address"))
            }
            None if address.is_unicast_link_local() => {
                Err(value(ADDRESS, &address, &format!("is link-local: say where it is, e.g. {address}%eth0")))
            }
            Some(name) if !address.is_unicast_link_local() => {
                Err(value(INTERFACE, &name, &format!("is of no use with {address}; take it away")))
            }
            _ => Ok((address, interface.map(Into::into))),
        }
    }

    /// One of both: an agent that restarts ends its BFD, upon which the router drops what graceful restart would keep.
    fn restart_or_bfd(&self, name: &str, all: Option<u16>) -> Result<(u16, Option<Timing>), Invalid> {
        let asked = self.restart_time.or(all);
        if let Some(restart_time) = asked.filter(|time| *time > MAX_RESTART_TIME) {
            let mend = "give it 0 (none) to 4095 seconds";
            return Err(value("[[bgp.neighbour]] restart-time", &restart_time, &mend));
        }
        let Some(timing) = self.timing()? else {
            return Ok((asked.unwrap_or(DEFAULT_RESTART_TIME), None));
        };
        match asked {
            None | Some(0) => Ok((0, Some(timing))),
            Some(restart_time) => {
                let mend = format!(
                    "neighbour {name} has graceful restart too, restart-time = {restart_time}, and an agent that restarts \
                     ends its BFD, so that the router drops the routes; give it restart-time = 0, or take bfd away"
                );
                Err(value("[[bgp.neighbour]] bfd", &true, &mend))
            }
        }
    }

    fn accept(&self, name: &str) -> Result<Accept, Invalid> {
        const FILTER: &str = "[[bgp.neighbour]] import-filter";
        const MAX: &str = "[[bgp.neighbour]] import-max";
        let parse = |text: &String| text.parse().map_err(|error| value(FILTER, text, &error));
        let all = || vec!["::/0".to_owned()];
        let texts = self.import_filter.clone().unwrap_or_else(all);
        let filter: Vec<Prefix> = texts.iter().map(parse).collect::<Result<_, _>>()?;
        let max = self.import_max.unwrap_or(DEFAULT_IMPORT_MAX);
        let alone = format!("neighbour {name}: is of no use without import = \"all\"");
        match self.import {
            Import::All if filter.is_empty() => {
                Err(value(FILTER, &"[]", &"lets nothing in; name prefixes, or take it away"))
            }
            Import::All if max == 0 => Err(value(MAX, &max, &"lets nothing in; give it 1 or more")),
            Import::All => Ok(Accept { import: self.import, filter, max }),
            _ if self.import_filter.is_some() => Err(value(FILTER, &texts.join(", "), &alone)),
            _ if self.import_max.is_some() => Err(value(MAX, &max, &alone)),
            _ => Ok(Accept { import: self.import, filter: Vec::new(), max: 1 }),
        }
    }

    fn timing(&self) -> Result<Option<Timing>, Invalid> {
        const INTERVAL: &str = "[[bgp.neighbour]] bfd-interval";
        const MULTIPLIER: &str = "[[bgp.neighbour]] bfd-multiplier";
        let millis = self.bfd_interval.unwrap_or(100);
        let multiplier = self.bfd_multiplier.unwrap_or(3);
        let alone = "is of no use without bfd = true";
        match (self.bfd, self.bfd_interval, self.bfd_multiplier) {
            (false, Some(millis), _) => Err(value(INTERVAL, &millis, &alone)),
            (false, _, Some(multiplier)) => Err(value(MULTIPLIER, &multiplier, &alone)),
            (false, None, None) => Ok(None),
            _ if !(10..=60_000).contains(&millis) => {
                Err(value(INTERVAL, &millis, &"give it 10 to 60000 milliseconds"))
            }
            _ if multiplier == 0 => Err(value(MULTIPLIER, &multiplier, &"give it 1 to 255")),
            _ => Ok(Some(Timing { interval: Duration::from_millis(millis), multiplier })),
        }
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
