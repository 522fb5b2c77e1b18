//! `[[bgp.neighbour]]`: a BGP neighbour.

use std::{net::Ipv6Addr, path::PathBuf, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use sextant_proto::Prefix;

use super::{
    Accept, Import, Invalid, Password, Timing,
    communities::{communities, large_communities},
    interface_name, value,
};

/// In seconds; the field has 12 bits (RFC 4724 §3).
pub(super) const MAX_RESTART_TIME: u16 = 4095;
/// Enough for the internal routes of a large network, and few enough to limit the harm of a misconfigured router.
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
    /// Its address. If unspecified, it is learnt from router advertisements on `interface`.
    pub address: Ipv6Addr,
    /// Its interface, for a link-local or unspecified address.
    pub interface: Option<Arc<str>>,
    /// Its AS.
    pub remote_as: u32,
    /// It connects to us; we never connect to it.
    pub passive: bool,
    /// The hold time, in seconds.
    pub hold_time: u16,
    /// TCP MD5 (RFC 2385).
    pub password: Option<Password>,
    /// Whether only packets from the same link are accepted (RFC 5082).
    pub ttl_security: bool,
    /// The restart time of graceful restart, in seconds; 0 for no graceful restart.
    pub restart_time: u16,
    /// The timing of BFD; none for no BFD.
    pub bfd: Option<Timing>,
    /// The import policy.
    pub accept: Accept,
    /// Our source address.
    pub source: Option<Ipv6Addr>,
    /// Communities of announced routes (RFC 1997).
    pub communities: Vec<u32>,
    /// Large communities of announced routes (RFC 8092).
    pub large_communities: Vec<[u32; 3]>,
    /// MULTI_EXIT_DISC of announced routes.
    pub med: Option<u32>,
    /// LOCAL_PREF of announced routes, in iBGP sessions.
    pub local_pref: u32,
}

impl NeighbourKeys {
    /// Checks them, and reads the password.
    pub(super) fn check(self, local_as: u32, all_restart: Option<u16>) -> Result<NeighbourSettings, Invalid> {
        let (address, interface) = self.place()?;
        let name = name(address, interface.as_deref());
        if matches!(self.remote_as, 0 | 23456 | u32::MAX) {
            let fix = format!("give neighbour {name} its AS, e.g. 65000 ({local_as} for iBGP)");
            return Err(value("[[bgp.neighbour]] remote-as", &self.remote_as, &fix));
        }
        let hold_time = self.hold_time.unwrap_or(90);
        if hold_time < 3 {
            return Err(value("[[bgp.neighbour]] hold-time", &hold_time, &"give it 3 to 65535 seconds"));
        }
        let (restart_time, bfd) = self.restart_or_bfd(&name, all_restart)?;
        let accept = self.accept(&name)?;
        let communities = communities("[[bgp.neighbour]] communities", &self.communities)?;
        let large_communities =
            large_communities("[[bgp.neighbour]] large-communities", &self.large_communities)?;
        if let Some(path) = self.password_file.as_ref().filter(|_| address.is_unspecified()) {
            let fix = format!(
                "requires an address, since the kernel matches TCP MD5 keys by address; set the address of neighbour {name}"
            );
            return Err(value("[[bgp.neighbour]] password-file", &path.display(), &fix));
        }
        Ok(NeighbourSettings {
            address,
            interface,
            remote_as: self.remote_as,
            passive: self.passive,
            hold_time,
            password: self.password_file.map(Password::read).transpose()?,
            ttl_security: self.ttl_security,
            restart_time,
            bfd,
            accept,
            source: self.source,
            communities,
            large_communities,
            med: self.med,
            local_pref: self.local_pref.unwrap_or(100),
        })
    }
}

impl NeighbourSettings {
    /// Its name in logs and status.
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
    /// Its address, with its interface if needed: `2001:db8::1`, `fe80::1%eth0`, or only an interface.
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
                return Err(value(
                    INTERFACE,
                    &other,
                    &format!("differs from {zone} in the address; remove one of them"),
                ));
            }
            (zone, other) => zone.or(other),
        };
        let interface = interface.map(|name| interface_name(INTERFACE, name)).transpose()?;
        let interface = interface.as_deref();
        let Some(text) = text else {
            let fix = "set the router's address, e.g. address = \"2001:db8::fe:1\", or its interface";
            let interface = interface.ok_or_else(|| value(ADDRESS, &"(none)", &fix))?;
            return Ok((Ipv6Addr::UNSPECIFIED, Some(interface.into())));
        };
        let address: Ipv6Addr = text.parse().map_err(|error| value(ADDRESS, &text, &error))?;
        match interface {
            _ if address.is_multicast() || address.is_unspecified() => {
                Err(value(ADDRESS, &address, &"give it a unicast address"))
            }
            None if address.is_unicast_link_local() => Err(value(
                ADDRESS,
                &address,
                &format!("is link-local and requires an interface, e.g. {address}%eth0"),
            )),
            Some(name) if !address.is_unicast_link_local() => Err(value(
                INTERFACE,
                &name,
                &format!("is only for link-local addresses, and {address} is not; remove it"),
            )),
            _ => Ok((address, interface.map(Into::into))),
        }
    }

    /// Graceful restart or BFD, not both: a restart of the agent ends BFD, and the router would drop the retained routes.
    fn restart_or_bfd(&self, name: &str, all: Option<u16>) -> Result<(u16, Option<Timing>), Invalid> {
        let asked = self.restart_time.or(all);
        if let Some(restart_time) = asked.filter(|time| *time > MAX_RESTART_TIME) {
            let fix = "give it 0 (none) to 4095 seconds";
            return Err(value("[[bgp.neighbour]] restart-time", &restart_time, &fix));
        }
        let Some(timing) = self.timing()? else {
            return Ok((asked.unwrap_or(DEFAULT_RESTART_TIME), None));
        };
        match asked {
            None | Some(0) => Ok((0, Some(timing))),
            Some(restart_time) => {
                let fix = format!(
                    "neighbour {name} also has graceful restart (restart-time = {restart_time}), but a restart of the agent \
                     ends BFD, and the router drops the routes; set restart-time = 0, or remove bfd"
                );
                Err(value("[[bgp.neighbour]] bfd", &true, &fix))
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
        let alone = format!("neighbour {name}: requires import = \"all\"");
        match self.import {
            Import::All if filter.is_empty() => {
                Err(value(FILTER, &"[]", &"accepts nothing; add prefixes, or remove it"))
            }
            Import::All if max == 0 => Err(value(MAX, &max, &"accepts nothing; give it 1 or more")),
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
        let alone = "requires bfd = true";
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
