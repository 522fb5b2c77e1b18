//! `[bgp]`: the speaker in the agent. Only in the config file: a list of neighbours is no flag.

mod neighbour;

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::{Invalid, value};

use neighbour::NeighbourKeys;
pub use neighbour::{NeighbourSettings, Password};

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(super) struct BgpKeys {
    local_as: u32,
    router_id: Option<Ipv4Addr>,
    listen_port: Option<u16>,
    announce: Announce,
    restart_time: Option<u16>,
    neighbour: Vec<NeighbourKeys>,
}

/// Whose prefixes are announced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Announce {
    /// This host's own.
    #[default]
    Own,
    /// All live hosts', each with its own next hop.
    All,
}

/// The speaker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BgpSettings {
    /// Our AS.
    pub local_as: u32,
    /// Our BGP identifier; drawn from the node id unless given.
    pub router_id: Option<Ipv4Addr>,
    /// Where neighbours may connect to.
    pub listen_port: u16,
    /// Whose prefixes are announced.
    pub announce: Announce,
    /// For how many seconds neighbours keep our routes while the agent restarts; 0: they do not.
    pub restart_time: u16,
    /// The neighbours.
    pub neighbours: Vec<NeighbourSettings>,
}

impl BgpKeys {
    /// Checks them, and reads the passwords.
    pub(super) fn check(self) -> Result<BgpSettings, Invalid> {
        if matches!(self.local_as, 0 | 23456 | u32::MAX) {
            return Err(value("[bgp] local-as", &self.local_as, &"give it this host's AS, e.g. 65001"));
        }
        if self.router_id.is_some_and(|id| id.is_unspecified()) {
            return Err(value("[bgp] router-id", &"0.0.0.0", &"leave it away, or give it another one"));
        }
        let restart_time = self.restart_time.unwrap_or(120);
        if restart_time > 4095 {
            return Err(value("[bgp] restart-time", &restart_time, &"give it 0 (none) to 4095 seconds"));
        }
        let local_as = self.local_as;
        let neighbours: Vec<_> =
            self.neighbour.into_iter().map(|keys| keys.check(local_as)).collect::<Result<_, _>>()?;
        for (nth, neighbour) in neighbours.iter().enumerate() {
            if neighbours[..nth].iter().any(|other| other.address == neighbour.address) {
                return Err(value("[[bgp.neighbour]] address", &neighbour.address, &"is there twice"));
            }
        }
        Ok(BgpSettings {
            local_as,
            router_id: self.router_id,
            listen_port: self.listen_port.unwrap_or(179),
            announce: self.announce,
            restart_time,
            neighbours,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<BgpSettings, String> {
        let keys: BgpKeys = serde_json::from_str(text).map_err(|error| error.to_string())?;
        keys.check().map_err(|error| error.to_string())
    }

    #[test]
    fn a_neighbour_has_defaults() {
        let it =
            parse(r#"{"local-as": 65001, "neighbour": [{"address": "2001:db8::fe:1", "remote-as": 65000}]}"#);
        let it = it.unwrap();
        assert_eq!((it.listen_port, it.announce, it.restart_time), (179, Announce::Own, 120));
        let router = &it.neighbours[0];
        assert_eq!((router.hold_time, router.passive, router.local_pref), (90, false, 100));
    }

    #[test]
    fn wrong_values_name_key_value_and_mend() {
        let with = |more: &str| {
            parse(&format!(
                r#"{{"local-as": 65001, "neighbour": [{{"address": "2001:db8::1", "remote-as": 65000, {more}}}]}}"#
            ))
        };
        for (more, expected) in [
            (r#""hold-time": 2"#, "[[bgp.neighbour]] hold-time 2: "),
            (r#""communities": ["65536:1"]"#, "[[bgp.neighbour]] communities 65536:1: write it as 65000:1"),
            (r#""large-communities": ["1:2"]"#, "[[bgp.neighbour]] large-communities 1:2: write it as"),
            (r#""password-file": "/nonexistent""#, "[[bgp.neighbour]] password-file /nonexistent: "),
            (r#""pasword-file": "x""#, "unknown field `pasword-file`"),
        ] {
            let error = with(more).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
        assert!(parse(r#"{"neighbour": []}"#).unwrap_err().starts_with("[bgp] local-as 0: "));
        assert!(parse(r#"{"local-as": 1, "neighbour": [{"address": "fe80::1", "remote-as": 2}]}"#).is_err());
    }
}
