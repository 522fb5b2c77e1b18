//! The parts of host prefixes that the networks beside the main one have. Pure.
//!
//! A network keeps its part whatever becomes of other networks. If its host prefix changes, it gets the same part of the new one.

use std::collections::BTreeMap;

use sextant_proto::{Claim, PoolName, Prefix};

use crate::{network::Network, trouble::Trouble};

/// The longest part: with an address for the gateway and for containers.
pub const LONGEST: u8 = 126;

/// A network of the settings beside the main one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Further {
    /// Its name.
    pub name: String,
    /// The name of its bridge.
    pub bridge: String,
    /// The pool whose host prefix it gets a part of; none for the primary one.
    pub pool: Option<PoolName>,
    /// The length of the part; none for that of the container prefix.
    pub length: Option<u8>,
}

/// A part of a host prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The host prefix.
    pub host: Prefix,
    /// The part.
    pub prefix: Prefix,
}

impl Part {
    /// The same part of another host prefix, which may be too short for it.
    fn of(&self, host: Prefix) -> Option<Prefix> {
        let offset = self.prefix.addr().to_bits() ^ self.host.addr().to_bits();
        let moved = Prefix::containing((host.addr().to_bits() | offset).into(), self.prefix.len())?;
        (self.host.len() == host.len()).then_some(moved)
    }
}

/// The parts, each with the name of its network.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Parts(pub BTreeMap<String, Part>);

/// Where parts come from.
#[derive(Debug, Clone, Copy)]
pub struct Space<'a> {
    /// The claims, the primary one first.
    pub claims: &'a [Claim],
    /// The engine's networks.
    pub networks: &'a [Network],
    /// Prefixes that are in use otherwise.
    pub reserved: &'a [Prefix],
}

/// A network that has to have a part.
struct Open<'a> {
    name: &'a str,
    claim: &'a Claim,
    length: u8,
}

/// Finds a part for a network, apart from these prefixes.
type Candidate = fn(&Parts, &Open<'_>, &Space<'_>, &[Prefix]) -> Option<Prefix>;

impl Parts {
    /// The parts inside of present claims.
    pub fn prefixes(&self, claims: &[Claim]) -> Vec<Prefix> {
        self.0.keys().filter_map(|name| self.current(name, claims)).collect()
    }

    /// The part of a network, if it is inside of a present claim.
    pub fn current(&self, name: &str, claims: &[Claim]) -> Option<Prefix> {
        let prefix = self.0.get(name)?.prefix;
        claims.iter().any(|claim| claim.prefix.covers(prefix)).then_some(prefix)
    }

    /// The parts of these networks and of others that the engine still has, and why a network has none. A network whose claim is
    /// missing waits for it.
    pub fn assigned(&self, further: &[Further], space: &Space<'_>) -> (Self, Vec<Trouble>) {
        let named = |name: &str| further.iter().any(|it| it.name == name);
        let stands = |name: &str| space.networks.iter().any(|network| network.name == name);
        let retired = self.0.iter().filter(|(name, _)| !named(name) && stands(name));
        let mut parts = Self(retired.map(|(name, part)| (name.clone(), *part)).collect());
        let (mut open, mut troubles) = (Vec::new(), Vec::new());
        for network in further {
            match wish(network, space.claims) {
                Ok(Some(wish)) => open.push(wish),
                Ok(None) => parts.0.extend(self.0.get(&network.name).map(|it| (network.name.clone(), *it))),
                Err(trouble) => troubles.push(trouble),
            }
        }
        // A network that stands comes before a stored part, and both before a new one.
        for candidate in [Self::standing as Candidate, Self::stored, Self::free] {
            open.retain(|wish| {
                let taken = parts.taken(space);
                let found = candidate(self, wish, space, &taken);
                let part = found.map(|prefix| Part { host: wish.claim.prefix, prefix });
                parts.0.extend(part.map(|part| (wish.name.to_owned(), part)));
                part.is_none()
            });
        }
        troubles.extend(open.iter().map(Open::no_room));
        (parts, troubles)
    }

    fn taken(&self, space: &Space<'_>) -> Vec<Prefix> {
        let of_bridge = space.claims.iter().map(Claim::container_prefix);
        self.0
            .values()
            .map(|part| part.prefix)
            .chain(of_bridge)
            .chain(space.reserved.iter().copied())
            .collect()
    }

    /// The part that the network has in the engine.
    fn standing(&self, wish: &Open<'_>, space: &Space<'_>, taken: &[Prefix]) -> Option<Prefix> {
        let named = space.networks.iter().filter(|network| network.name == wish.name);
        let mut prefixes = named.flat_map(|network| &network.prefixes).map(|(prefix, _)| *prefix);
        prefixes.find(|prefix| wish.fits(*prefix, taken))
    }

    /// The part that was stored.
    fn stored(&self, wish: &Open<'_>, _space: &Space<'_>, taken: &[Prefix]) -> Option<Prefix> {
        self.0.get(wish.name)?.of(wish.claim.prefix).filter(|prefix| wish.fits(*prefix, taken))
    }

    /// The first part that neither a network of the engine nor a stored part has.
    fn free(&self, wish: &Open<'_>, space: &Space<'_>, taken: &[Prefix]) -> Option<Prefix> {
        let others = space.networks.iter().filter(|network| network.name != wish.name);
        let others = others.flat_map(|network| &network.prefixes).map(|(prefix, _)| *prefix);
        let all: Vec<_> = taken.iter().copied().chain(others).collect();
        let overlap = |prefix: Prefix| all.iter().copied().find(|other| other.overlaps(prefix));
        wish.claim.prefix.first_free(wish.length, overlap)
    }
}

impl Open<'_> {
    fn fits(&self, prefix: Prefix, taken: &[Prefix]) -> bool {
        let inside = self.claim.prefix.covers(prefix) && prefix.len() == self.length;
        inside && !taken.iter().any(|other| other.overlaps(prefix))
    }

    fn no_room(&self) -> Trouble {
        let (name, pool) = (self.name.to_owned(), self.claim.pool.name.clone());
        Trouble::NoRoom { name, pool, host: self.claim.prefix, length: self.length }
    }
}

/// What a network has to get; none while its claim is missing.
fn wish<'a>(network: &'a Further, claims: &'a [Claim]) -> Result<Option<Open<'a>>, Trouble> {
    let claim = match &network.pool {
        Some(pool) => claims.iter().find(|claim| claim.pool.name == *pool),
        None => claims.first(),
    };
    let Some(claim) = claim else { return Ok(None) };
    let (name, pool, host) = (network.name.clone(), claim.pool.name.clone(), claim.prefix);
    if claim.container_prefix() == host {
        return Err(Trouble::NoParts { name, pool, host });
    }
    let length = network.length.unwrap_or(claim.container_prefix().len());
    match (host.len() + 1..=LONGEST).contains(&length) {
        true => Ok(Some(Open { name: &network.name, claim, length })),
        false => Err(Trouble::Length { name, pool, host, length }),
    }
}

#[cfg(test)]
pub(crate) mod tests;
