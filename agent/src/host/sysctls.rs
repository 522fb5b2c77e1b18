//! Forwarding, without loss of what router advertisements have set, and without a container's advertisements.

use std::{
    collections::BTreeSet,
    io::{self, ErrorKind},
};

use tokio::time::Instant;

use super::{HostSetup, SetupError, containers::ContainerLinks};
use crate::{
    damping::Change,
    kernel::{Address, KernelError, Link, Route, RouteTarget},
    settings::Role,
};

/// A change of this sysctl also changes each interface's own one.
pub(crate) const FORWARDING: &str = "net/ipv6/conf/all/forwarding";

/// The argument of sysctl(8) for a path: with slashes, if the interface has a dot in its name, as those of VLANs have.
pub(crate) fn argument(path: &str) -> String {
    if path.contains('.') { path.to_owned() } else { path.replace('/', ".") }
}

/// The fix of a sysctl that cannot be set here.
pub(super) fn set_elsewhere(path: &str, value: &str) -> String {
    format!(
        "sysctl -w {}={value}, where /proc/sys can be written: in the same network namespace, with root's rights",
        argument(path)
    )
}

/// A sysctl of an interface.
pub(super) fn of_interface(interface: &str, sysctl: &str) -> String {
    format!("net/ipv6/conf/{interface}/{sysctl}")
}

impl HostSetup {
    /// Enables forwarding, and keeps it. Before that, `accept_ra` is set from 1 to 2 on the uplinks and on each link that has an
    /// address or a route by router advertisement: otherwise the kernel ignores router advertisements once the host forwards,
    /// and drops the default route from them.
    ///
    /// On bridges that containers are on, and on their ports, `accept_ra` is set to 0, whoever made them: a container could
    /// give the host a default route or an address (CVE-2020-13401).
    pub(super) fn ensure_sysctls(
        &mut self,
        links: &[Link],
        addresses: &[Address],
        advertised: &[Route],
    ) -> Result<(), SetupError> {
        let inside = ContainerLinks::among(links, self.own_bridge(), &self.settings.uplinks);
        let inner = links.iter().filter(|link| inside.contains(link.index));
        self.switch_advertisements_off(inner.map(|link| of_interface(&link.name, "accept_ra")).collect())?;
        let by_routers = by_advertisement(addresses, advertised);
        for link in links.iter().filter(|link| !inside.contains(link.index) && link.name != "lo") {
            let path = of_interface(&link.name, "accept_ra");
            let uplink = self.settings.uplinks.contains(&link.name);
            if uplink || by_routers.contains(&link.index) || self.ledger.sysctls.contains_key(&path) {
                self.ensure_sysctl(&path, |found| found == "1", "2", Change::Forwarding)?;
            }
        }
        self.limit_neighbours(links, &inside)?;
        self.announce_link_layer()?;
        self.ensure_proxying(links)?;
        self.ensure_forwarding(links)
    }

    fn ensure_forwarding(&mut self, links: &[Link]) -> Result<(), SetupError> {
        let forwards = self.read_sysctl(FORWARDING)?.as_deref() == Some("1");
        if !forwards && !self.drift.was_right(FORWARDING) {
            self.record_own_forwarding(links)?;
        }
        self.ensure_sysctl(FORWARDING, |found| found == "0", "1", Change::Forwarding)?;
        let off = self.read_sysctl(FORWARDING)?.as_deref() == Some("0");
        if off && self.drift.holds(FORWARDING, Instant::now()) {
            // It sets each interface's own one, once it is restored.
            return Ok(());
        }
        let ours = links.iter().filter(|link| {
            self.settings.uplinks.contains(&link.name) || self.own_bridge() == Some(link.name.as_str())
        });
        let paths: Vec<_> = ours.map(|link| of_interface(&link.name, "forwarding")).collect();
        for path in paths {
            // An operator's own choice from before is kept.
            let forwarded = self.drift.was_right(&path);
            self.ensure_sysctl(&path, |found| forwarded && found == "0", "1", Change::Forwarding)?;
        }
        Ok(())
    }

    /// The name of the containers' bridge; a router has none.
    pub(super) fn own_bridge(&self) -> Option<&str> {
        (self.settings.role == Role::Host).then_some(self.settings.bridge.as_str())
    }

    /// The value of a sysctl, which is watched from now on.
    pub(super) fn read_sysctl(&mut self, path: &str) -> Result<Option<String>, KernelError> {
        let value = self.kernel.sysctl(path)?;
        self.watched.insert(path.to_owned(), value.clone());
        Ok(value)
    }

    /// Records interfaces with forwarding of their own, which is lost when forwarding of all is enabled and disabled.
    fn record_own_forwarding(&mut self, links: &[Link]) -> Result<(), SetupError> {
        let interfaces = links.iter().map(|link| link.name.as_str()).chain(["default"]);
        let mut forwarding = Vec::new();
        for path in interfaces.map(|name| of_interface(name, "forwarding")) {
            if self.kernel.sysctl(&path)?.as_deref() == Some("1") {
                forwarding.push((path, "1".to_owned()));
            }
        }
        Ok(self.record(|ledger| ledger.sysctls.extend(forwarding))?)
    }

    /// All of them are recorded at once: a hundred containers may start together, and a record is written to the disk.
    fn switch_advertisements_off(&mut self, paths: Vec<String>) -> Result<(), SetupError> {
        let mut on = Vec::new();
        for path in &paths {
            let value = self.read_sysctl(path)?.filter(|value| value != "0");
            on.extend(value.filter(|_| !self.drift.was_right(path)).map(|value| (path.clone(), value)));
        }
        if !on.is_empty() {
            self.record(|ledger| {
                ledger.switched_off.extend(on.iter().map(|(path, _)| path.clone()));
                for (path, value) in on {
                    ledger.sysctls.entry(path).or_insert(value);
                }
            })?;
        }
        let mut switch =
            |path: String| self.ensure_sysctl(&path, |found| found != "0", "0", Change::Protecting);
        paths.into_iter().try_for_each(&mut switch)
    }

    /// Sets a sysctl to `to` where `from` accepts its value, and records the old one. If it was right before, another process
    /// has changed it, which puts something at `risk`: the recorded value stays.
    pub(super) fn ensure_sysctl(
        &mut self,
        path: &str,
        from: impl Fn(&str) -> bool,
        to: &str,
        risk: Change,
    ) -> Result<(), SetupError> {
        let Some(found) = self.read_sysctl(path)? else {
            self.drift.is_gone(path);
            return Ok(());
        };
        if found == to {
            self.drift.is_right(path, to);
            return Ok(());
        }
        if !from(&found) {
            return Ok(());
        }
        let drifted = self.drift.was_right(path);
        if drifted && self.drift.holds(path, Instant::now()) {
            return Ok(());
        }
        if !drifted && !self.ledger.sysctls.contains_key(path) {
            self.record(|ledger| {
                ledger.sysctls.entry(path.to_owned()).or_insert_with(|| found.clone());
            })?;
        }
        match self.kernel.set_sysctl(path, to) {
            // Its link went meanwhile, e.g. with its container.
            Err(KernelError::SysctlNotSet { source, .. }) if source.kind() == ErrorKind::NotFound => {
                self.drift.is_gone(path);
                return Ok(());
            }
            done => done?,
        }
        self.watched.insert(path.to_owned(), Some(to.to_owned()));
        self.drift.is_right(path, to);
        if drifted {
            self.restored(path, &found, to, risk);
        } else {
            tracing::info!(sysctl = path, from = found, to, "sysctl set");
        }
        Ok(())
    }

    /// The same for a sysctl that the host works without. Returns the error if it cannot be read or set, e.g. because `/proc/sys` is
    /// read-only.
    pub(super) fn ensure_optional(
        &mut self,
        path: &str,
        from: impl Fn(&str) -> bool,
        to: &str,
    ) -> Result<Option<io::Error>, SetupError> {
        match self.ensure_sysctl(path, from, to, Change::Forwarding) {
            Err(SetupError::Kernel(
                KernelError::Sysctl { source, .. } | KernelError::SysctlNotSet { source, .. },
            )) => Ok(Some(source)),
            done => done.map(|()| None),
        }
    }

    /// Another process changed `what` to `found`; the agent has restored it.
    pub(super) fn restored(&mut self, what: &str, found: &str, restored: &str, risk: Change) {
        if self.engine_away && super::drift::interface(what) == Some(&self.settings.bridge) {
            // A container engine that starts takes its bridge down, and builds it up again.
            tracing::info!(what, found, restored, "bridge restored while the container engine was away");
            return;
        }
        if let Some(times) = self.drift.restored(what, found, restored, risk, Instant::now()) {
            tracing::warn!(what, found, restored, times, "host state repeatedly changed by another process");
        }
    }
}

/// The links with an address or a route by router advertisement. An address of a limited lifetime counts as one.
pub(super) fn by_advertisement(addresses: &[Address], advertised: &[Route]) -> BTreeSet<u32> {
    let addresses = addresses.iter().filter(|address| is_learned(address)).map(|address| address.link);
    let hops = advertised.iter().filter_map(|route| match &route.target {
        RouteTarget::Via(hops) => Some(hops),
        _ => None,
    });
    addresses.chain(hops.flatten().map(|hop| hop.link)).collect()
}

pub(super) fn is_learned(address: &Address) -> bool {
    address.global && !address.permanent
}
