//! Where and what for this host answers. Pure.

use std::{collections::BTreeSet, net::Ipv6Addr, time::Duration};

use sextant_ndp::{
    message::Mac,
    proxy::{Answer, Bridge, Place, Uplink},
};
use sextant_proto::{Claim, Epoch, Prefix};
use tokio::time::Instant;

use super::{facts::Facts, reach::Reach};
use crate::{
    engine::Announcement,
    settings::{NdpMode, NdpSettings},
    uplinks::LocalUplink,
};

/// For so long after a claim was granted, neighbours may still know its addresses at another host.
const MOVED_FOR: Duration = Duration::from_secs(600);

/// The claims that were granted to this host of late.
#[derive(Debug, Default)]
pub(super) struct Moved {
    /// The epochs of known claims, each with its prefix, and until when it counts as moved; those of the start do not.
    known: Option<Vec<(Epoch, Prefix, Option<Instant>)>>,
    now: Vec<Prefix>,
}

impl Moved {
    pub(super) fn follow(&mut self, claims: &[Claim], now: Instant) {
        let is_start = self.known.is_none() && !claims.is_empty();
        if self.known.is_none() && !is_start {
            return;
        }
        let before = self.known.take().unwrap_or_default();
        let of = |claim: &Claim| {
            let until = (!is_start).then(|| now + MOVED_FOR);
            let kept = before.iter().find(|(epoch, _, _)| *epoch == claim.epoch);
            kept.copied().unwrap_or((claim.epoch, claim.prefix, until))
        };
        let known: Vec<_> = claims.iter().map(of).collect();
        let moved = known.iter().filter(|(_, _, until)| until.is_some_and(|until| until > now));
        self.now = moved.map(|(_, prefix, _)| *prefix).collect();
        self.known = Some(known);
    }

    pub(super) fn prefixes(&self) -> &[Prefix] {
        &self.now
    }
}

/// The container prefixes of this host.
#[derive(Debug, Default)]
pub(super) struct Prefixes {
    /// As the host was last set up for them; `None` before that.
    announced: Option<Vec<Prefix>>,
    now: Vec<Prefix>,
}

impl Prefixes {
    /// Those that the host is set up for. Before that, addresses in use may be of any network of the host prefixes; and a setup that
    /// is interrupted, e.g. by a full disk, ends no network whose claim is held (DESIGN I5).
    pub(super) fn follow(&mut self, claims: &[Claim], announcement: Option<&Announcement>) {
        if let Some(announcement) = announcement {
            let all = announcement.claims.iter().flat_map(|claim| &claim.container_prefixes);
            self.announced = Some(all.copied().collect());
        }
        let is_held = |prefix: &&Prefix| claims.iter().any(|claim| claim.prefix.covers(**prefix));
        self.now = match &self.announced {
            Some(announced) => announced.iter().filter(is_held).copied().collect(),
            None => claims.iter().map(|claim| claim.prefix).collect(),
        };
    }

    pub(super) fn now(&self) -> &[Prefix] {
        &self.now
    }

    /// Whether the host has been set up.
    pub(super) fn are_known(&self) -> bool {
        self.announced.is_some()
    }
}

/// What decides on the place.
pub(super) struct Stand<'a> {
    pub(super) settings: &'a NdpSettings,
    pub(super) facts: &'a Facts,
    pub(super) prefixes: &'a Prefixes,
    pub(super) moved: &'a [Prefix],
    pub(super) uplinks: &'a [LocalUplink],
    pub(super) reach: &'a Reach,
}

impl Stand<'_> {
    pub(super) fn place(&self) -> Place {
        let NdpSettings { mode, answer, overrides, source } = *self.settings;
        Place {
            prefixes: self.prefixes.now().to_vec(),
            moved: self.moved.to_vec(),
            off_link: self.reach.off_link(self.uplinks, self.prefixes.now()),
            uplinks: self.uplinks.iter().filter_map(|uplink| self.uplink(uplink)).collect(),
            bridges: self.bridges(),
            answers: mode == NdpMode::Prefix,
            answer: if self.prefixes.are_known() { answer } else { Answer::Live },
            overrides,
            source,
        }
    }

    fn uplink(&self, uplink: &LocalUplink) -> Option<Uplink> {
        let mac = self.mac(uplink.link)?;
        let global = || uplink.uplink.addresses.first().map(|it| it.addr);
        let source = uplink.link_local.or_else(global)?;
        let kernel_hears = self.facts.link(uplink.link).is_some_and(|it| it.running);
        Some(Uplink { link: uplink.link, mac, source, kernel_hears })
    }

    /// The links with addresses of the container prefixes.
    fn bridges(&self) -> Vec<Bridge> {
        let all = self.prefixes.now().iter().flat_map(|prefix| self.facts.links_inside(*prefix));
        let is_uplink = |link: &u32| self.uplinks.iter().any(|uplink| uplink.link == *link);
        let others: BTreeSet<u32> = all.filter(|link| !is_uplink(link)).collect();
        others.into_iter().filter_map(|link| self.bridge(link, self.facts.usable(link).collect())).collect()
    }

    fn bridge(&self, link: u32, own: Vec<Ipv6Addr>) -> Option<Bridge> {
        let here = |prefix: &&Prefix| own.iter().any(|addr| prefix.contains(*addr));
        let prefixes: Vec<_> = self.prefixes.now().iter().filter(here).copied().collect();
        let is_up = self.facts.link(link).is_some_and(|link| link.up);
        let link_local = own.iter().find(|addr| addr.is_unicast_link_local());
        let source = *link_local.or_else(|| own.first())?;
        let mac = self.mac(link)?;
        (is_up && !prefixes.is_empty()).then_some(Bridge { link, mac, source, prefixes, own })
    }

    fn mac(&self, link: u32) -> Option<Mac> {
        self.facts.link(link)?.mac.as_slice().try_into().ok()
    }
}

#[cfg(test)]
mod tests {
    use sextant_proto::{Incarnation, Pool, Revision};

    use super::*;
    use crate::engine::AnnouncedClaim;

    #[test]
    fn networks_outlast_a_setup_that_is_interrupted() {
        let pool =
            Pool::new("main".parse().unwrap(), "2001:db8:0:0:8000::/65".parse().unwrap(), 72, 80).unwrap();
        let epoch = Epoch { incarnation: Incarnation::random(), revision: Revision(1) };
        let claim = Claim { prefix: "2001:db8:0:0:8000::/72".parse().unwrap(), epoch, pool };
        let claims = std::slice::from_ref(&claim);
        let parts: Vec<Prefix> =
            ["2001:db8:0:0:8000::/80", "2001:db8:0:0:8001::/80"].map(|part| part.parse().unwrap()).to_vec();
        let claimed = AnnouncedClaim { epoch, container_prefixes: parts.clone() };
        let announcement = Announcement { uplinks: Vec::new(), claims: vec![claimed] };
        let mut prefixes = Prefixes::default();
        prefixes.follow(claims, None);
        assert_eq!((prefixes.now(), prefixes.are_known()), (&[claim.prefix][..], false), "any may be in use");
        prefixes.follow(claims, Some(&announcement));
        assert_eq!(prefixes.now(), parts);
        prefixes.follow(claims, None);
        assert_eq!((prefixes.now(), prefixes.are_known()), (&parts[..], true));
        prefixes.follow(&[], None);
        assert_eq!(prefixes.now(), [], "the claim has ended");
    }

    #[test]
    fn a_prefix_has_moved_if_its_claim_is_new() {
        let pool =
            Pool::new("main".parse().unwrap(), "2001:db8::c000/116".parse().unwrap(), 125, 125).unwrap();
        let incarnation = Incarnation::random();
        let claim = |prefix: &str, n| Claim {
            prefix: prefix.parse().unwrap(),
            epoch: Epoch { incarnation, revision: Revision(n) },
            pool: pool.clone(),
        };
        let (one, other) = (claim("2001:db8::c000/125", 1), claim("2001:db8::c008/125", 2));
        let (now, mut moved) = (Instant::now(), Moved::default());
        moved.follow(&[], now);
        moved.follow(std::slice::from_ref(&one), now);
        assert_eq!(moved.prefixes(), [], "it was held before this process");
        moved.follow(std::slice::from_ref(&other), now);
        assert_eq!(moved.prefixes(), [other.prefix]);
        moved.follow(std::slice::from_ref(&other), now + MOVED_FOR);
        assert_eq!(moved.prefixes(), []);
        moved.follow(&[other, one.clone()], now + MOVED_FOR);
        assert_eq!(moved.prefixes(), [one.prefix], "it came back");
    }
}
