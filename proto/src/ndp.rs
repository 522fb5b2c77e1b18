//! What a host answers neighbour solicitations for, as its agent sees it (topology `ndp-proxy`).

use std::net::Ipv6Addr;

/// An Ethernet address.
pub type Mac = [u8; 6];

/// How a host answers for its containers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NdpProxy {
    /// `prefix` or `address`.
    pub mode: String,
    /// `live` or `all`.
    pub answer: String,
    /// `link-local` or `target`.
    pub source: String,
    /// Whether each advertisement replaces what a neighbour knew.
    pub overrides: bool,
    /// The uplinks.
    pub uplinks: Vec<NdpUplink>,
    /// The number of addresses that are answered for.
    pub in_use: u64,
    /// These addresses, or the one that was asked for.
    pub addresses: Vec<NdpAddress>,
    /// The number of those that are not listed.
    pub more: u64,
}

/// An uplink, with counts since the start of its agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NdpUplink {
    /// Its name.
    pub interface: String,
    /// Its MAC address, which is advertised.
    pub mac: Option<Mac>,
    /// Whether it is up and has carrier.
    pub up: bool,
    /// Whether the agent hears its solicitations.
    pub heard: bool,
    /// Proxy entries of the kernel.
    pub entries: u64,
    /// Multicast groups of the addresses in use.
    pub groups: u64,
    /// Solicitations to groups that the agent answered.
    pub multicast: u64,
    /// Those to the address itself.
    pub unicast: u64,
    /// Those of duplicate address detection.
    pub detection: u64,
    /// Those that the agent did not answer, by the reason.
    pub refused: Vec<(String, u64)>,
    /// Advertisements of addresses that have come into use.
    pub advertised: u64,
}

/// An address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NdpAddress {
    /// The address.
    pub address: Ipv6Addr,
    /// How it is known that it is in use; `None` if it is not.
    pub learnt: Option<Learnt>,
    /// The container with the address, if the engine names it.
    pub container: Option<String>,
    /// The container's MAC address, if it is known.
    pub mac: Option<Mac>,
    /// Since when it is known to be in use; 0 if that is not known.
    pub since_unix_ms: u64,
    /// Who answers for it.
    pub by: By,
    /// Why nobody does, or not on each uplink; else empty.
    pub why: String,
    /// The fix; empty if none is needed.
    pub fix: String,
}

/// How it is known that an address is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learnt {
    /// The container engine has a container with it.
    Engine,
    /// A container has spoken of it.
    Neighbour,
    /// A container has answered for it.
    Probe,
    /// It was in use before the agent started; no container has spoken of it since.
    Kept,
    /// A bridge of the host has it.
    Bridge,
}

/// Who answers for an address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum By {
    /// Nobody on this host.
    #[default]
    Nobody,
    /// The kernel, by its proxy entries.
    Kernel,
    /// The agent.
    Agent,
}

impl Learnt {
    /// As it is shown.
    pub fn text(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Neighbour => "neighbour",
            Self::Probe => "probe",
            Self::Kept => "kept",
            Self::Bridge => "bridge",
        }
    }
}

impl By {
    /// As it is shown.
    pub fn text(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Kernel => "kernel",
            Self::Agent => "agent",
        }
    }
}

/// A MAC address as text.
pub fn mac_text(mac: Mac) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}
