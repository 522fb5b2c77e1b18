//! Lists a range page by page, all pages at one revision. Pure.
//!
//! etcd limits replies in octets, pages in keys: so the page limit is derived from the average size of the entries so far.

use sextant_proto::Revision;

use super::fault::Kind;
use crate::registry::{Entry, Listing};

/// The limit of the first page, in keys.
const FIRST_LIMIT: usize = 1000;
/// The largest limit, in keys.
const MOST: usize = 20_000;
/// The intended size of a reply, in octets.
const WANTED_OCTETS: usize = 2 << 20;
/// etcd's overhead per key: revisions, lease, framing.
const OVERHEAD: usize = 40;
/// The most restarts of a listing whose revision was compacted.
const RESTARTS: usize = 5;

/// A request for one page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The first key, octets.
    pub from: Vec<u8>,
    /// The end of the range, exclusive, octets.
    pub to: Vec<u8>,
    /// How many keys at most.
    pub limit: usize,
    /// The revision; the newest if none.
    pub revision: Option<Revision>,
}

/// One page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The store's revision.
    pub revision: Revision,
    /// The entries whose key is text.
    pub entries: Vec<Entry>,
    /// The last key, if there are more.
    pub more_after: Option<Vec<u8>>,
}

/// A listing in progress.
#[derive(Debug)]
pub struct Pages {
    start: Vec<u8>,
    next: Page,
    entries: Vec<Entry>,
    octets: usize,
    restarts: usize,
}

impl Pages {
    /// A listing of the keys from `from` up to but without `to`.
    pub fn new(from: Vec<u8>, to: Vec<u8>) -> Self {
        let next = Page { from: from.clone(), to, limit: FIRST_LIMIT, revision: None };
        Self { start: from, next, entries: Vec::new(), octets: 0, restarts: 0 }
    }

    /// The next page to request.
    pub fn next(&self) -> &Page {
        &self.next
    }

    /// Adds a page; returns the listing after the last one.
    pub fn take(&mut self, reply: Reply) -> Option<Listing> {
        let revision = *self.next.revision.get_or_insert(reply.revision);
        let octets = |entry: &Entry| entry.key.len() + entry.value.len() + OVERHEAD;
        self.octets += reply.entries.iter().map(octets).sum::<usize>();
        self.entries.extend(reply.entries);
        let Some(mut last) = reply.more_after else {
            let entries = std::mem::take(&mut self.entries);
            return Some(Listing { revision, entries });
        };
        last.push(0);
        self.next.from = last;
        let average = self.octets / self.entries.len().max(1);
        let fits = (WANTED_OCTETS / average.max(1)).clamp(1, MOST);
        // Grows in steps: the next values may be larger.
        self.next.limit = fits.min(self.next.limit.saturating_mul(8));
        None
    }

    /// Handles a failed page; returns whether to request [`Pages::next`].
    pub fn failed(&mut self, kind: Kind) -> bool {
        match kind {
            Kind::TooLarge if self.next.limit > 1 => {
                self.next.limit /= 2;
                true
            }
            Kind::NoRevision if self.restarts < RESTARTS => {
                self.restarts += 1;
                self.next.from = self.start.clone();
                self.next.revision = None;
                self.entries.clear();
                self.octets = 0;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(number: usize, octets: usize) -> Entry {
        Entry {
            key: format!("k/{number:06}"),
            value: vec![7; octets].into(),
            created: Revision(3),
            modified: Revision(3),
            lease: None,
        }
    }

    /// Answers as a store of `entries` at `revision` does.
    fn answer(entries: &[Entry], page: &Page, revision: Revision) -> Reply {
        let from = entries.partition_point(|entry| entry.key.as_bytes() < &page.from[..]);
        let to = entries.partition_point(|entry| entry.key.as_bytes() < &page.to[..]);
        let end = to.min(from + page.limit);
        Reply {
            revision,
            entries: entries[from..end].to_vec(),
            more_after: (end < to).then(|| entries[end - 1].key.clone().into_bytes()),
        }
    }

    fn pages() -> Pages {
        Pages::new(b"k/".to_vec(), b"k0".to_vec())
    }

    #[test]
    fn a_listing_has_the_revision_of_its_first_page() {
        let entries: Vec<_> = (0..30_000).map(|number| entry(number, 100)).collect();
        let mut pages = pages();
        let mut asked = 0;
        let listing = loop {
            asked += 1;
            let wanted = (asked > 1).then_some(Revision(5));
            assert_eq!(pages.next().revision, wanted, "page {asked}");
            // The store changes meanwhile.
            let reply = answer(&entries, pages.next(), Revision(4 + asked));
            if let Some(listing) = pages.take(reply) {
                break listing;
            }
        };
        assert_eq!(listing.revision, Revision(5));
        assert_eq!(listing.entries, entries);
        assert!(asked < 8, "{asked} pages");
    }

    #[test]
    fn a_reply_that_is_too_large_halves_the_limit() {
        let mut pages = pages();
        for wanted in [500, 250, 125] {
            assert!(pages.failed(Kind::TooLarge));
            assert_eq!(pages.next().limit, wanted);
        }
        while pages.next().limit > 1 {
            assert!(pages.failed(Kind::TooLarge));
        }
        assert!(!pages.failed(Kind::TooLarge), "one key is too large");
        assert!(!pages.failed(Kind::Broken));
    }

    #[test]
    fn a_compacted_listing_restarts_a_limited_number_of_times() {
        let entries: Vec<_> = (0..3000).map(|number| entry(number, 10)).collect();
        let mut pages = pages();
        assert_eq!(pages.take(answer(&entries, pages.next(), Revision(9))), None);
        assert!(pages.failed(Kind::NoRevision));
        assert_eq!((&pages.next().from[..], pages.next().revision), (&b"k/"[..], None));
        let listing = loop {
            let reply = answer(&entries, pages.next(), Revision(12));
            if let Some(listing) = pages.take(reply) {
                break listing;
            }
        };
        assert_eq!((listing.revision, listing.entries), (Revision(12), entries));
        let restarts = std::iter::repeat_with(|| pages.failed(Kind::NoRevision));
        assert_eq!(restarts.take_while(|again| *again).count(), RESTARTS - 1);
    }

    proptest! {
        #[test]
        fn pages_stay_near_their_size(sizes in prop::collection::vec(0usize..20_000, 1..3000)) {
            let entries: Vec<_> = sizes.iter().enumerate().map(|(number, size)| entry(number, *size)).collect();
            let mut pages = pages();
            loop {
                let reply = answer(&entries, pages.next(), Revision(1));
                let octets: usize = reply.entries.iter().map(|entry| entry.value.len()).sum();
                prop_assert!(octets < 20 << 20, "{octets} octets in a page of {}", reply.entries.len());
                if let Some(listing) = pages.take(reply) {
                    prop_assert_eq!(listing.entries, entries);
                    break;
                }
            }
        }
    }
}
