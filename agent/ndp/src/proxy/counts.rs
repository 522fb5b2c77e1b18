//! How often solicitations were answered, and why not: of each uplink, by kind. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::message::Message;

/// Why a valid solicitation is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unanswered {
    /// No container prefix of this host has the address.
    Elsewhere,
    /// It comes from this host, or from somebody in its name.
    Own,
    /// The kernel answers for it.
    Kernel,
    /// Its neighbour has asked too often.
    Limit,
    /// No container has answered for it yet.
    Unknown,
}

impl Unanswered {
    /// All reasons.
    pub const ALL: [Self; 5] = [Self::Elsewhere, Self::Own, Self::Kernel, Self::Limit, Self::Unknown];

    /// As it is shown.
    pub fn text(self) -> &'static str {
        match self {
            Self::Elsewhere => "elsewhere",
            Self::Own => "own",
            Self::Kernel => "kernel",
            Self::Limit => "limit",
            Self::Unknown => "unknown",
        }
    }
}

/// How an address was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// By a solicitation to its group: whoever asks does not know the address, or no longer.
    Multicast,
    /// By one to the address itself: a neighbour checks that it is still there (RFC 4861 §7.3).
    Unicast,
    /// By a probe of duplicate address detection.
    Detection,
}

impl Form {
    /// All forms.
    pub const ALL: [Self; 3] = [Self::Multicast, Self::Unicast, Self::Detection];

    /// That of a solicitation.
    pub fn of(message: &Message) -> Self {
        match (message.is_dad(), message.destination.is_multicast()) {
            (true, _) => Self::Detection,
            (false, true) => Self::Multicast,
            (false, false) => Self::Unicast,
        }
    }
}

/// What has happened on a link since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkCounts {
    /// Solicitations that were answered here, not by the kernel.
    pub answered: BTreeMap<Form, u64>,
    /// Valid ones that were not.
    pub unanswered: BTreeMap<Unanswered, u64>,
    /// Advertisements of addresses that have come into use.
    pub advertised: u64,
}

/// What has happened since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// By the index of the uplink. Former uplinks are counted together, as [`FORMER`].
    pub links: BTreeMap<u32, LinkCounts>,
}

/// No link has this index.
pub const FORMER: u32 = 0;

impl Counts {
    pub(super) fn of(&mut self, link: u32) -> &mut LinkCounts {
        self.links.entry(link).or_default()
    }

    /// These are the uplinks now.
    pub(super) fn keep(&mut self, links: &BTreeSet<u32>) {
        let former: Vec<_> =
            self.links.keys().filter(|link| **link != FORMER && !links.contains(link)).copied().collect();
        for link in former {
            let counts = self.links.remove(&link).unwrap_or_default();
            self.of(FORMER).add(&counts);
        }
    }

    /// That of all links together.
    pub fn all(&self) -> LinkCounts {
        self.links.values().fold(LinkCounts::default(), |mut all, counts| {
            all.add(counts);
            all
        })
    }
}

impl LinkCounts {
    /// The number of answers.
    pub fn answers(&self) -> u64 {
        self.answered.values().sum()
    }

    /// A solicitation was answered, or was not.
    pub(super) fn count(&mut self, form: Form, judged: Result<(), Unanswered>) {
        match judged {
            Ok(()) => self.answer(form),
            Err(reason) => *self.unanswered.entry(reason).or_default() += 1,
        }
    }

    pub(super) fn answer(&mut self, form: Form) {
        *self.answered.entry(form).or_default() += 1;
    }

    fn add(&mut self, more: &Self) {
        for (form, count) in &more.answered {
            *self.answered.entry(*form).or_default() += count;
        }
        for (reason, count) in &more.unanswered {
            *self.unanswered.entry(*reason).or_default() += count;
        }
        self.advertised += more.advertised;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn former_uplinks_stay_counted() {
        let mut counts = Counts::default();
        for link in [2, 3, 2] {
            counts.of(link).answer(Form::Unicast);
            counts.of(link).count(Form::Unicast, Err(Unanswered::Limit));
            counts.of(link).advertised += 1;
        }
        let all = counts.all();
        counts.keep(&[3].into());
        counts.keep(&[4].into());
        assert_eq!(counts.links.keys().copied().collect::<Vec<_>>(), [FORMER]);
        assert_eq!(counts.all(), all);
        assert_eq!((all.answers(), all.unanswered[&Unanswered::Limit], all.advertised), (3, 3, 3));
    }
}
