//! The multicast groups of the addresses in use (RFC 4291 §2.7.1): a switch that listens to MLD sends their solicitations only to
//! ports that have reported them. The kernel reports what a socket has joined.

use std::{
    collections::{BTreeMap, BTreeSet},
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
}

impl Groups {
    /// Is in the groups of these addresses on these links, and in no others. One that cannot be joined is tried again the next time.
    ///
    /// # Errors
    /// The last reason for that.
    pub fn follow(&mut self, links: &[u32], targets: impl Iterator<Item = Ipv6Addr>) -> io::Result<()> {
        let groups: BTreeSet<Ipv6Addr> = targets.map(solicited_node).collect();
        let wanted: BTreeSet<Group> =
            links.iter().flat_map(|link| groups.iter().map(|group| (*link, *group))).collect();
        let former: Vec<_> = self.joined.keys().filter(|group| !wanted.contains(group)).copied().collect();
        for group in former {
            self.leave(group);
        }
        let mut failed = Ok(());
        for group in wanted {
            if !self.joined.contains_key(&group)
                && let Err(error) = self.join(group)
            {
                failed = Err(error);
            }
        }
        failed
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

/// Whether a socket has as many groups as it may.
fn is_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::OutOfMemory || error.raw_os_error() == Some(nix::libc::ENOBUFS)
}
