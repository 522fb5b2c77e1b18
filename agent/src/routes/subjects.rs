//! What a destination is: the own prefix, a peer's, a pool, a router's. Pure.

use std::{collections::HashMap, sync::Arc};

use sextant_proto::{Claim, Peer, PeerClaim, Pool, Prefix};

use super::{Known, ReceivedPath};

/// Something that a route may lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject<'a> {
    /// The prefix of a claim of this node.
    Own(&'a Claim),
    /// The host prefix of a claim of a node, this one among them.
    Peer(&'a Peer, &'a PeerClaim),
    /// A pool.
    Pool(&'a Pool),
    /// A prefix that a router announces.
    Import(&'a Arc<ReceivedPath>),
}

/// What is known of each destination: an index for questions about single ones.
#[derive(Debug, Clone)]
pub struct Subjects<'a>(HashMap<Prefix, Vec<Subject<'a>>>);

impl<'a> Subjects<'a> {
    /// Those of all that is known. At one destination, a later one's route takes the place of an earlier one's.
    pub fn of(known: &Known<'a>) -> Self {
        let mut all = Self(HashMap::new());
        known.claims.iter().for_each(|claim| all.add(claim.prefix, Subject::Own(claim)));
        for peer in known.view.peers() {
            peer.claims.iter().for_each(|claim| all.add(claim.prefix, Subject::Peer(peer, claim)));
        }
        known.pools().for_each(|pool| all.add(pool.prefix, Subject::Pool(pool)));
        known.imports.routes.iter().for_each(|(prefix, path)| all.add(*prefix, Subject::Import(path)));
        all
    }

    /// Those at one destination.
    pub fn at(&self, destination: Prefix) -> &[Subject<'a>] {
        self.0.get(&destination).map_or(&[], Vec::as_slice)
    }

    /// All destinations, in no order.
    pub fn destinations(&self) -> impl Iterator<Item = Prefix> {
        self.0.keys().copied()
    }

    /// The node that has `destination`, and its claim.
    pub fn peer(&self, destination: Prefix) -> Option<(&'a Peer, &'a PeerClaim)> {
        self.at(destination).iter().find_map(|subject| match subject {
            Subject::Peer(peer, claim) => Some((*peer, *claim)),
            _ => None,
        })
    }

    /// The pool that is `destination`.
    pub fn pool(&self, destination: Prefix) -> Option<&'a Pool> {
        self.at(destination).iter().find_map(|subject| match subject {
            Subject::Pool(pool) => Some(*pool),
            _ => None,
        })
    }

    /// Whether `destination` is the prefix of a claim of this node.
    pub fn is_own(&self, destination: Prefix) -> bool {
        self.at(destination).iter().any(|subject| matches!(subject, Subject::Own(_)))
    }

    fn add(&mut self, destination: Prefix, subject: Subject<'a>) {
        self.0.entry(destination).or_default().push(subject);
    }
}
