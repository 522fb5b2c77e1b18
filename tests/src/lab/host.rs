//! Hosts on the switch, and containers on the hosts' bridges.

use std::{
    net::Ipv6Addr,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
};

use anyhow::{Context, ensure};
use sextant_proto::Prefix;

use super::{Lab, namespace::Namespace, poll::try_poll};

/// The container bridge's name on every host, Docker's own.
pub const BRIDGE: &str = "docker0";

/// A host: a namespace with `eth0` on the switch. It has no default route.
#[derive(Debug, Clone)]
pub struct Host {
    namespace: Namespace,
    switch: Namespace,
    name: String,
    port: String,
    bridge: String,
    address: Ipv6Addr,
    containers: Arc<AtomicU16>,
}

/// A container: a namespace with `eth0` on its host's bridge, and its default route via the bridge's address.
#[derive(Debug, Clone)]
pub struct Container {
    namespace: Namespace,
    name: String,
    address: Ipv6Addr,
}

impl Host {
    pub(crate) fn add(lab: &Lab, name: &str, number: u16) -> anyhow::Result<Self> {
        let address = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number);
        Self::add_at(lab, name, &format!("p{number}"), address)
    }

    pub(crate) fn add_at(lab: &Lab, name: &str, port: &str, address: Ipv6Addr) -> anyhow::Result<Self> {
        Self::add_on(lab, name, port, "br0", address)
    }

    /// A host whose link ends at another of the switch's bridges.
    pub(crate) fn add_on(
        lab: &Lab,
        name: &str,
        port: &str,
        bridge: &str,
        address: Ipv6Addr,
    ) -> anyhow::Result<Self> {
        let host = Self {
            namespace: Namespace::add(&lab.site, name)?,
            switch: lab.switch.clone(),
            name: name.to_owned(),
            port: port.to_owned(),
            bridge: bridge.to_owned(),
            address,
            containers: Arc::default(),
        };
        host.connect()?;
        Ok(host)
    }

    fn connect(&self) -> anyhow::Result<()> {
        let (port, bridge, target) = (&self.port, &self.bridge, self.namespace.name());
        // The same each time, as a machine has it: peers remember it while the host is off.
        let [.., a, b, c, d] = self.address.octets();
        self.switch.ip_batch(&format!(
            "link add {port} type veth peer name eth0 address 02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x} netns {target}
             link set {port} master {bridge} up"
        ))?;
        bring_up(&self.namespace, self.address, 64, "")
    }

    /// Its name, which is its node's too.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address on `eth0`, of `2001:db8::/64`.
    pub fn address(&self) -> Ipv6Addr {
        self.address
    }

    /// Makes [`BRIDGE`] by hand, with the first address of `prefix`, and turns forwarding on: what an agent does otherwise.
    ///
    /// # Errors
    /// If `ip` fails.
    pub fn make_bridge(&self, prefix: Prefix) -> anyhow::Result<()> {
        let (address, len) = (prefix.first_host(), prefix.len());
        self.ip_batch(&format!(
            "link add {BRIDGE} address 02:42:00:00:00:01 type bridge
             address add {address}/{len} dev {BRIDGE} nodad
             link set {BRIDGE} up"
        ))?;
        self.sysctl("net/ipv6/conf/all/forwarding", "1")
    }

    /// The address of [`BRIDGE`] and the length of its on-link prefix, once it has one.
    ///
    /// # Errors
    /// If there is no such bridge, or it has no global address (yet).
    pub fn bridge_address(&self) -> anyhow::Result<(Ipv6Addr, u8)> {
        self.address_of(BRIDGE)
    }

    /// As [`Host::bridge_address`], of this bridge.
    ///
    /// # Errors
    /// As there.
    pub fn address_of(&self, bridge: &str) -> anyhow::Result<(Ipv6Addr, u8)> {
        let text = self.ip(&format!("-6 -j address show dev {bridge} scope global"))?;
        let links: serde_json::Value = serde_json::from_str(&text)?;
        let found = links[0]["addr_info"].as_array().into_iter().flatten().find_map(|entry| {
            let address = entry["local"].as_str()?.parse().ok()?;
            Some((address, u8::try_from(entry["prefixlen"].as_u64()?).ok()?))
        });
        found.with_context(|| format!("{bridge} of {} has no global address", self.name))
    }

    /// Starts a container on [`BRIDGE`], which an agent or [`Host::make_bridge`] has made; waits some seconds for it. The
    /// container's address is the next one after the bridge's that no other container has.
    ///
    /// # Errors
    /// If the bridge has no address or `ip` fails.
    pub fn container(&self, name: &str) -> anyhow::Result<Container> {
        let (gateway, len) = try_poll(super::poll::SECONDS * 10, || self.bridge_address())?;
        let number = self.containers.fetch_add(1, Ordering::Relaxed) + 1;
        let address = Ipv6Addr::from_bits(gateway.to_bits() + u128::from(number));
        ensure!(
            Prefix::containing(gateway, len).is_some_and(|prefix| prefix.contains(address)),
            "{gateway}/{len} of {BRIDGE} has no room for a container number {number}"
        );
        let namespace = Namespace::add(self.namespace.site(), &format!("{}-{name}", self.name))?;
        self.ip_batch(&format!(
            "link add ve{number} type veth peer name eth0 netns {}
             link set ve{number} master {BRIDGE} up",
            namespace.name()
        ))?;
        bring_up(&namespace, address, len, &format!("route add default via {gateway} dev eth0"))?;
        Ok(Container { namespace, name: format!("{}/{name}", self.name), address })
    }

    /// Adds a default route by hand.
    ///
    /// # Errors
    /// If there is one.
    pub fn default_route_via(&self, gateway: Ipv6Addr) -> anyhow::Result<()> {
        self.ip(&format!("-6 route add default via {gateway} dev eth0 proto static")).map(drop)
    }

    /// Cuts the host off the switch without it seeing that: its link stays up.
    ///
    /// # Errors
    /// If `ip` fails.
    pub fn cut(&self) -> anyhow::Result<()> {
        self.switch.ip(&format!("link set {} nomaster", self.port)).map(drop)
    }

    /// Mends a [`Host::cut`].
    ///
    /// # Errors
    /// If `ip` fails.
    pub fn mend(&self) -> anyhow::Result<()> {
        self.switch.ip(&format!("link set {} master {}", self.port, self.bridge)).map(drop)
    }

    /// Takes the carrier of `eth0` away, or gives it back, as when its cable is pulled.
    ///
    /// # Errors
    /// If `ip` fails.
    pub fn set_carrier(&self, up: bool) -> anyhow::Result<()> {
        let state = if up { "up" } else { "down" };
        self.switch.ip(&format!("link set {} {state}", self.port)).map(drop)
    }
}

impl Host {
    /// Pulls the host's plug: at once nothing comes from it any more, then its processes are killed, and its containers and
    /// all that its kernel knew are gone. Files, such as an agent's state directory, stay.
    ///
    /// # Errors
    /// If it is off already.
    pub fn power_off(&self) -> anyhow::Result<()> {
        self.switch.ip(&format!("link delete {}", self.port))?;
        let containers = format!("{}-", self.namespace.name());
        for namespace in self.namespace.site().namespaces()? {
            if namespace.name() == self.namespace.name() || namespace.name().starts_with(&containers) {
                namespace.delete()?;
            }
        }
        Ok(())
    }

    /// Starts it again, as [`Lab::host`] made it.
    ///
    /// # Errors
    /// If it is not off.
    pub fn power_on(&self) -> anyhow::Result<()> {
        Namespace::add(self.namespace.site(), &self.name)?;
        self.containers.store(0, Ordering::Relaxed);
        self.connect()
    }
}

impl Container {
    /// Its name: `<host>/<name>`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address on `eth0`, of its host's container prefix.
    pub fn address(&self) -> Ipv6Addr {
        self.address
    }
}

impl Deref for Host {
    type Target = Namespace;

    fn deref(&self) -> &Namespace {
        &self.namespace
    }
}

impl Deref for Container {
    type Target = Namespace;

    fn deref(&self) -> &Namespace {
        &self.namespace
    }
}

/// Duplicate address detection is off on this one interface only, so that nothing waits for it here while an agent's own
/// addresses are treated as on any host.
fn bring_up(namespace: &Namespace, address: Ipv6Addr, len: u8, more: &str) -> anyhow::Result<()> {
    namespace.sysctl("net/ipv6/conf/eth0/accept_dad", "0")?;
    namespace.sysctl("net/ipv6/conf/eth0/dad_transmits", "0")?;
    namespace.ip_batch(&format!(
        "link set lo up
         address add {address}/{len} dev eth0 nodad
         link set eth0 up
         {more}"
    ))
}
