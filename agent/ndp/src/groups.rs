//! The multicast groups of the addresses in use (RFC 4291 §2.7.1): a switch that listens to MLD sends their solicitations only to
//! ports that have reported them. The kernel reports what a socket has joined.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
    net::Ipv6Addr,
};

use socket2::{Domain, Protocol, Socket, Type};

use crate::message::solicited_node;

/// So many sockets are opened, each for as many groups as `net.core.optmem_max` permits: some hundred.
const MOST_SOCKETS: usize = 256;

/// A group on a link.
type Group = (u32, Ipv6Addr);

/// The groups that are joined.
#[derive(Debug, Default)]
pub struct Groups {
    sockets: Vec<Socket>,
    /// Each with the number of the socket that has joined it.
    joined: BTreeMap<Group, usize>,
    links: Vec<u32>,
    targets: HashSet<Ipv6Addr>,
    /// How many targets need each group.
    needed: HashMap<Ipv6Addr, usize>,
}

impl Groups {
    /// Is in the groups of these addresses on these links, and in no others. One that cannot be joined is tried again the next time.
    ///
    /// # Errors
    /// The last reason for that.
    pub fn follow(&mut self, links: &[u32], targets: impl Iterator<Item = Ipv6Addr>) -> io::Result<()> {
        (self.links, self.targets) = (links.to_vec(), targets.collect());
        self.needed.clear();
        for target in &self.targets {
            *self.needed.entry(solicited_node(*target)).or_default() += 1;
        }
        let is_needed = |(link, group): &&Group| links.contains(link) && self.needed.contains_key(group);
        let former: Vec<_> = self.joined.keys().filter(|group| !is_needed(group)).copied().collect();
        for group in former {
            self.leave(group);
        }
        let needed: Vec<_> = self.needed.keys().copied().collect();
        every(needed.into_iter().map(|group| self.join_everywhere(group)))
    }

    /// Follows the change of one address.
    ///
    /// # Errors
    /// If its group cannot be joined; it is tried again by [`Self::follow`].
    pub fn set(&mut self, target: Ipv6Addr, is_in: bool) -> io::Result<()> {
        let is_change = if is_in { self.targets.insert(target) } else { self.targets.remove(&target) };
        if !is_change {
            return Ok(());
        }
        let group = solicited_node(target);
        let needed = self.needed.entry(group).or_default();
        *needed = if is_in { *needed + 1 } else { needed.saturating_sub(1) };
        match *needed {
            0 => {
                self.needed.remove(&group);
                self.links.clone().into_iter().for_each(|link| self.leave((link, group)));
                Ok(())
            }
            1 if is_in => self.join_everywhere(group),
            _ => Ok(()),
        }
    }

    fn join_everywhere(&mut self, group: Ipv6Addr) -> io::Result<()> {
        let all = self.links.iter().map(|link| (*link, group));
        let missing: Vec<_> = all.filter(|it| !self.joined.contains_key(it)).collect();
        every(missing.into_iter().map(|it| self.join(it)))
    }

    /// How many are joined.
    pub fn len(&self) -> usize {
        self.joined.len()
    }

    /// How many are joined on each link.
    pub fn counts(&self) -> BTreeMap<u32, u64> {
        let mut counts = BTreeMap::new();
        for (link, _) in self.joined.keys() {
            *counts.entry(*link).or_default() += 1;
        }
        counts
    }

    fn leave(&mut self, (link, group): Group) {
        let socket = self.joined.remove(&(link, group)).and_then(|number| self.sockets.get(number));
        if let Some(socket) = socket {
            // A link that is gone has left its groups.
            let _ = socket.leave_multicast_v6(&group, link);
        }
    }

    fn join(&mut self, (link, group): Group) -> io::Result<()> {
        let mut last = io::Error::from(io::ErrorKind::OutOfMemory);
        // The newest ones have room, or where groups were left.
        for number in (0..self.sockets.len()).rev() {
            match self.sockets[number].join_multicast_v6(&group, link) {
                Ok(()) => {
                    self.joined.insert((link, group), number);
                    return Ok(());
                }
                Err(error) if is_full(&error) => last = error,
                Err(error) => return Err(error),
            }
        }
        if self.sockets.len() >= MOST_SOCKETS {
            return Err(last);
        }
        let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
        socket.join_multicast_v6(&group, link)?;
        self.joined.insert((link, group), self.sockets.len());
        self.sockets.push(socket);
        Ok(())
    }
}

/// The last error, after all were tried.
pub fn every(outcomes: impl Iterator<Item = io::Result<()>>) -> io::Result<()> {
    let errors = outcomes.filter_map(Result::err);
    errors.last().map_or(Ok(()), Err)
}

/// Whether a socket has as many groups as it may.
fn is_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::OutOfMemory || error.raw_os_error() == Some(nix::libc::ENOBUFS)
}
