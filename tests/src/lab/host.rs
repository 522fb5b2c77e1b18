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

/// The container bridge on every host: Docker's default name.
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

/// A container: a namespace with `eth0` on its host's bridge, and a default route via the bridge's address.
#[derive(Debug, Clone)]
pub struct Container {
    namespace: Namespace,
    name: String,
    number: u16,
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

    /// Adds a host that is connected to this bridge in the switch's namespace.
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
        // The same MAC address after each start, as on a real machine: peers remember it while the host is off.
        let [.., a, b, c, d] = self.address.octets();
        self.switch.ip_batch(&format!(
            "link add {port} type veth peer name eth0 address 02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x} netns {target}
             link set {port} master {bridge} up"
        ))?;
        bring_up(&self.namespace, self.address, 64, "")
    }

    /// Its name, which is also the default node name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address on `eth0`, in `2001:db8::/64`.
    pub fn address(&self) -> Ipv6Addr {
        self.address
    }

    /// Creates [`BRIDGE`] with the first address of `prefix`, and enables forwarding, as an agent does.
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
        let first = self.addresses_of(bridge)?.into_iter().next();
        first.with_context(|| format!("{bridge} of {} has no global address", self.name))
    }

    /// The global addresses of a bridge, with the lengths of their on-link prefixes, in the kernel's order.
    ///
    /// # Errors
    /// If there is no such bridge.
    pub fn addresses_of(&self, bridge: &str) -> anyhow::Result<Vec<(Ipv6Addr, u8)>> {
        let text = self.ip(&format!("-6 -j address show dev {bridge} scope global"))?;
        let links: serde_json::Value = serde_json::from_str(&text)?;
        let address = |entry: &serde_json::Value| {
            let address = entry["local"].as_str()?.parse().ok()?;
            Some((address, u8::try_from(entry["prefixlen"].as_u64()?).ok()?))
        };
        Ok(links[0]["addr_info"].as_array().into_iter().flatten().filter_map(address).collect())
    }

    /// Starts a container on [`BRIDGE`], which an agent or [`Host::make_bridge`] creates; waits up to ten seconds for the
    /// bridge. The container gets the next free address after the bridge's.
    ///
    /// # Errors
    /// If the bridge has no address or `ip` fails.
    pub fn container(&self, name: &str) -> anyhow::Result<Container> {
        let (gateway, len) = try_poll(super::poll::SECONDS * 10, || self.bridge_address())?;
        self.container_behind(name, gateway, len)
    }

    /// As [`Host::container`], with the bridge's address in this host prefix.
    ///
    /// # Errors
    /// As there.
    pub fn container_in(&self, name: &str, prefix: Prefix) -> anyhow::Result<Container> {
        let (gateway, len) = self.gateway_in(prefix)?;
        self.container_behind(name, gateway, len)
    }

    /// Gives a container of this host an address in another host prefix; returns the container with that address.
    ///
    /// # Errors
    /// If the bridge has no address in the prefix or `ip` fails.
    pub fn also_in(&self, container: &Container, prefix: Prefix) -> anyhow::Result<Container> {
        let (gateway, len) = self.gateway_in(prefix)?;
        let address = address_behind(gateway, len, container.number)?;
        container.ip(&format!("address add {address}/{len} dev eth0 nodad"))?;
        Ok(Container { address, ..container.clone() })
    }

    /// Waits for the bridge's address in a prefix.
    fn gateway_in(&self, prefix: Prefix) -> anyhow::Result<(Ipv6Addr, u8)> {
        try_poll(super::poll::SECONDS * 10, || {
            let found = self.addresses_of(BRIDGE)?.into_iter().find(|(address, _)| prefix.contains(*address));
            found.with_context(|| format!("{BRIDGE} of {} has no address in {prefix}", self.name))
        })
    }

    fn container_behind(&self, name: &str, gateway: Ipv6Addr, len: u8) -> anyhow::Result<Container> {
        let bare = self.plugged_in(name)?;
        let address = address_behind(gateway, len, bare.number)?;
        bring_up(&bare.namespace, address, len, &format!("route add default via {gateway} dev eth0"))?;
        Ok(Container { address, ..bare })
    }

    /// A container with `eth0` on [`BRIDGE`], which is down and has no address.
    fn plugged_in(&self, name: &str) -> anyhow::Result<Container> {
        let number = self.containers.fetch_add(1, Ordering::Relaxed) + 1;
        let namespace = Namespace::add(self.namespace.site(), &format!("{}-{name}", self.name))?;
        self.ip_batch(&format!(
            "link add ve{number} type veth peer name eth0 netns {}
             link set ve{number} master {BRIDGE} up",
            namespace.name()
        ))?;
        let (name, address) = (format!("{}/{name}", self.name), Ipv6Addr::UNSPECIFIED);
        Ok(Container { namespace, name, number, address })
    }

    /// Starts a container on [`BRIDGE`] that has no configuration: it waits for router advertisements. Returns once it has a
    /// global address by SLAAC.
    ///
    /// # Errors
    /// If it has none after ten seconds.
    pub fn container_by_slaac(&self, name: &str) -> anyhow::Result<Container> {
        let bare = self.container_without_address(name)?;
        let address = try_poll(super::poll::SECONDS * 10, || bare.address_by_slaac())?;
        Ok(Container { address, ..bare })
    }

    /// As [`Host::container_by_slaac`], without waiting. Its address is unspecified.
    ///
    /// # Errors
    /// If `ip` fails.
    pub fn container_without_address(&self, name: &str) -> anyhow::Result<Container> {
        let bare = self.plugged_in(name)?;
        bare.namespace.ip_batch("link set lo up\nlink set eth0 up")?;
        Ok(bare)
    }

    /// Adds a static default route.
    ///
    /// # Errors
    /// If there already is one.
    pub fn default_route_via(&self, gateway: Ipv6Addr) -> anyhow::Result<()> {
        self.ip(&format!("-6 route add default via {gateway} dev eth0 proto static")).map(drop)
    }

    /// Disconnects the host from the switch. Its link stays up, so the host does not notice.
    ///
    /// # Errors
    /// If `ip` fails.
    pub fn isolate(&self) -> anyhow::Result<()> {
        self.switch.ip(&format!("link set {} nomaster", self.port)).map(drop)
    }

    /// Ends [`Host::isolate`].
    ///
    /// # Errors
    /// If `ip` fails.
    pub fn reconnect(&self) -> anyhow::Result<()> {
        self.switch.ip(&format!("link set {} master {}", self.port, self.bridge)).map(drop)
    }

    /// Sets the carrier of `eth0`: false is a pulled cable.
    ///
    /// # Errors
    /// If `ip` fails.
    pub fn set_carrier(&self, up: bool) -> anyhow::Result<()> {
        let state = if up { "up" } else { "down" };
        self.switch.ip(&format!("link set {} {state}", self.port)).map(drop)
    }
}

impl Host {
    /// Switches the host off without notice: removes its link, kills its processes, and deletes its containers and its
    /// kernel state. Files, such as an agent's state directory, stay.
    ///
    /// # Errors
    /// If it is already off.
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

    /// Switches it on again, as [`Lab::host`] created it.
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
    /// Its preferred address by SLAAC, and a default route by the same advertisement.
    ///
    /// # Errors
    /// If it has none (yet).
    pub fn address_by_slaac(&self) -> anyhow::Result<Ipv6Addr> {
        let route = self.namespace.ip("-6 route show default proto ra")?;
        anyhow::ensure!(!route.is_empty(), "{} has no default route by router advertisement", self.name);
        let text =
            self.namespace.ip("-6 -o address show dev eth0 scope global dynamic -deprecated -tentative")?;
        let address = text.split_whitespace().skip_while(|word| *word != "inet6").nth(1);
        let address = address.with_context(|| format!("{} has no address by SLAAC", self.name))?;
        Ok(address.split('/').next().unwrap_or(address).parse()?)
    }

    /// Its name: `<host>/<name>`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address on `eth0`, in its host's container prefix. See [`Host::also_in`] for one with several.
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

/// The address of the container with this number.
fn address_behind(gateway: Ipv6Addr, len: u8, number: u16) -> anyhow::Result<Ipv6Addr> {
    let address = Ipv6Addr::from_bits(gateway.to_bits() + u128::from(number));
    ensure!(
        Prefix::containing(gateway, len).is_some_and(|prefix| prefix.contains(address)),
        "{gateway}/{len} of {BRIDGE} has no address for container {number}"
    );
    Ok(address)
}

/// Duplicate address detection is off on this interface only: the lab does not wait for it, and an agent's addresses behave
/// as on any host.
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
