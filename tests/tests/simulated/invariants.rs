//! Invariants that hold at all times, and conditions that hold at the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
    time::Duration,
};

use anyhow::{bail, ensure};
use sextant_controller::{
    keys::Keys,
    records::{Meta, Record},
    registry::KeyRange,
};
use sextant_proto::Prefix;

use crate::{
    host::address,
    log,
    network::Place,
    parts,
    schedule::{CONTROLLERS, Event, Fault, HOSTS},
    world::World,
};

/// How often is looked.
const EVERY: Duration = Duration::from_millis(60);
/// For how long after its return a host may still have what ended while it was away.
const LEAVE: Duration = Duration::from_secs(10);
/// For how long a host must be away, or back, for that to be known everywhere.
const KNOWN: Duration = Duration::from_secs(8);

/// For how long an agent waits for the answer of a controller that has accepted its connection and is frozen, before it tries
/// the next one.
const UNANSWERED: Duration = Duration::from_secs(12);

/// What is known of the world so far.
pub struct Watch {
    keys: Keys,
    hold_down: Option<Duration>,
    next: Duration,
    recovering: bool,
    hosts: Vec<Known>,
    /// The prefixes that the kernel of a host routed to another one: routing host, target, prefix.
    routes: BTreeSet<(usize, usize, Prefix)>,
    /// Since when each controller has worked.
    works_since: [Option<Duration>; CONTROLLERS],
}

/// Where a route leads to that a container prefix is in.
fn leads(routes: &BTreeMap<Prefix, Ipv6Addr>, prefix: Prefix) -> Option<Ipv6Addr> {
    routes.iter().find(|(destination, _)| destination.overlaps(prefix)).map(|(_, hop)| *hop)
}

/// What is known of a host.
#[derive(Default, Clone)]
struct Known {
    live_since: Option<Duration>,
    /// Since when its agent has been out of reach for all controllers that work, of which there are some.
    silent_since: Option<Duration>,
    /// The same towards controllers that may end claims. While there are none, nothing is learnt: it neither begins nor ends.
    unheard_since: Option<Duration>,
    /// It does not answer its neighbours.
    lost: bool,
}

impl Watch {
    pub fn new(hold_down: Option<u64>) -> Self {
        Self {
            keys: Keys::new(&"default".parse().expect("a name")),
            hold_down: hold_down.map(Duration::from_secs),
            next: Duration::ZERO,
            recovering: false,
            hosts: vec![Known::default(); HOSTS],
            routes: BTreeSet::new(),
            works_since: [None; CONTROLLERS],
        }
    }

    /// Whether the store waits for agents of a lost one.
    pub fn is_recovering(&self, world: &World) -> bool {
        let meta = world.store.snapshot().within(&KeyRange::key(&self.keys.meta()));
        meta.first().and_then(|entry| Meta::decode(&entry.value).ok()).is_none_or(|meta| meta.recovering)
    }

    /// All hosts have their prefixes, which they keep from now on.
    pub fn all_hold(&mut self, world: &mut World) -> anyhow::Result<()> {
        for (number, host) in world.hosts.iter_mut().enumerate() {
            host.holds = host.on_bridges();
            ensure!(host.holds.len() == parts::pools(number).len(), "h{}: {:?}", number + 1, host.holds);
        }
        Ok(())
    }

    /// A fault begins.
    pub fn begins(&mut self, world: &mut World, event: &Event) {
        if let Fault::LoseHost(host) = event.fault {
            self.hosts[host].lost = true;
            self.routes.retain(|(_, to, _)| *to != host);
        }
        // What was claimed after the snapshot is not in the store: its agent must report its holder.
        if matches!(event.fault, Fault::Wipe { .. } | Fault::Restore { .. }) {
            self.recovering = true;
            log::note(world.now, "the store is another one");
        }
    }

    /// All claims of a host have ended, or may have.
    pub fn ends(&mut self, world: &mut World, host: usize) {
        world.hosts[host].ended.all = true;
        self.routes.retain(|(from, to, _)| *from != host && *to != host);
    }

    /// The claim of a host in the second pool has ended, or may have, by a command. Its other one has not.
    pub fn ula_ends(&mut self, world: &mut World, host: usize) {
        world.hosts[host].ended.ula = true;
        self.routes.retain(|(_, to, prefix)| *to != host || !parts::is_ula(*prefix));
    }

    /// Looks, if it is time to.
    ///
    /// # Errors
    /// What does not hold.
    pub fn look(&mut self, world: &mut World) -> anyhow::Result<()> {
        if world.now < self.next {
            return Ok(());
        }
        self.next = world.now + EVERY;
        self.know(world);
        self.expect_ends(world);
        self.unique(world)?;
        self.routes_stay(world)
    }

    fn know(&mut self, world: &World) {
        let since = |since: &mut Option<Duration>, is: bool| {
            *since = is.then(|| since.unwrap_or(world.now));
        };
        for number in 0..CONTROLLERS {
            since(&mut self.works_since[number], world.works(number));
        }
        let any_works = self.works_since.iter().any(Option::is_some);
        for (host, known) in self.hosts.iter_mut().enumerate() {
            let is_live = world.is_live(host);
            since(&mut known.live_since, is_live);
            // A controller that only misses the answers to its writes has the agent's session, and hears it.
            let is_heard = world.is_heard(host);
            since(&mut known.silent_since, any_works && !is_live && is_heard != Some(true));
            if let Some(is_heard) = is_heard {
                since(&mut known.unheard_since, !is_heard);
            }
            known.lost &= known.live_since.is_none_or(|at| at + KNOWN >= world.now);
        }
    }

    /// Claims that end by themselves: by hold-down, and of hosts that were silent when a store that had been lost was taken
    /// for whole.
    fn expect_ends(&mut self, world: &mut World) {
        let is_recovering = self.is_recovering(world);
        let was_recovering = std::mem::replace(&mut self.recovering, is_recovering);
        let closed = was_recovering && !self.recovering;
        let patience = if world.has_frozen_controller() { KNOWN + UNANSWERED } else { KNOWN };
        for host in 0..HOSTS {
            let known = &self.hosts[host];
            let back = known.live_since.is_some_and(|at| at + patience < world.now);
            let held_down = match (known.unheard_since, self.hold_down) {
                (Some(at), Some(hold_down)) => at + hold_down < world.now,
                _ => false,
            };
            if (closed && !back) || held_down {
                if !world.hosts[host].ended.all {
                    log::note(world.now, &format!("the claim of h{} may have ended", host + 1));
                }
                self.ends(world, host);
            }
        }
    }

    /// No prefix is on two hosts' bridges (I1), but for one of a host that has been away while its claim ended.
    fn unique(&self, world: &World) -> anyhow::Result<()> {
        let has: Vec<_> = world.hosts.iter().map(crate::host::Host::on_bridges).collect();
        for (one, other) in (0..HOSTS).flat_map(|one| (0..one).map(move |other| (one, other))) {
            if self.was_away(world, one) || self.was_away(world, other) {
                continue;
            }
            for prefix in &has[one] {
                if let Some(double) = has[other].iter().find(|double| double.overlaps(*prefix)) {
                    bail!("I1: h{} has {prefix}, and h{} has {double}", one + 1, other + 1);
                }
            }
        }
        Ok(())
    }

    fn was_away(&self, world: &World, host: usize) -> bool {
        let back = self.hosts[host].live_since.is_some_and(|at| at + LEAVE < world.now);
        world.hosts[host].ended.any() && !back
    }

    /// A route to a host that holds its prefix stays, whatever becomes of agents, controllers and the store (I5).
    fn routes_stay(&mut self, world: &World) -> anyhow::Result<()> {
        for from in 0..HOSTS {
            let routes = world.hosts[from].routes();
            for to in (0..HOSTS).filter(|to| *to != from) {
                let (on_bridges, ended) = (world.hosts[to].on_bridges(), world.hosts[to].ended);
                let is_routed = |prefix: &Prefix| leads(&routes, *prefix) == Some(address(to));
                let known = self.routes.iter().filter(|(at, target, _)| (*at, *target) == (from, to));
                let lost: Vec<_> = known.map(|(_, _, prefix)| *prefix).filter(|it| !is_routed(it)).collect();
                for before in lost.into_iter().filter(|_| !world.hosts[from].ended.all) {
                    ensure!(
                        ended.of(before) || !on_bridges.contains(&before),
                        "I5: h{} lost its route to {before} of h{}",
                        from + 1,
                        to + 1
                    );
                    self.routes.remove(&(from, to, before));
                }
                if !world.hosts[from].ended.all && !self.hosts[to].lost {
                    let stable = on_bridges.iter().filter(|prefix| is_routed(prefix) && !ended.of(**prefix));
                    self.routes.extend(stable.map(|prefix| (from, to, *prefix)));
                }
            }
        }
        Ok(())
    }

    /// A host that status must name, and a controller that must know.
    pub fn silence(&self, world: &World) -> Option<(usize, usize)> {
        let number = (0..CONTROLLERS)
            .find(|number| self.works_since[*number].is_some_and(|at| at + KNOWN < world.now))?;
        if !world.network.connects(Place::Operator, Place::Controller(number)) {
            return None;
        }
        let host = (0..HOSTS).find(|host| self.is_silent(world, *host))?;
        Some((host, number))
    }

    /// Whether this host holds a claim and has been silent for long.
    pub fn is_silent(&self, world: &World, host: usize) -> bool {
        let long = parts::DOWN_AFTER + KNOWN;
        let silent = self.hosts[host].silent_since.is_some_and(|at| at + long < world.now);
        silent && !world.hosts[host].ended.all && !self.is_recovering(world)
    }

    /// All agents are live, each host has a prefix of each of its pools, and all others route them there.
    pub fn mesh(&self, world: &World) -> Result<(), String> {
        for to in 0..HOSTS {
            if !world.is_live(to) {
                return Err(format!("the agent of h{} is not live", to + 1));
            }
            let on_bridges = world.hosts[to].on_bridges();
            let of_ula = on_bridges.iter().filter(|prefix| parts::is_ula(**prefix)).count();
            if (on_bridges.len(), of_ula) != (parts::pools(to).len(), parts::pools(to).len() - 1) {
                return Err(format!("h{} has not a prefix of each pool, but {on_bridges:?}", to + 1));
            }
            for from in (0..HOSTS).filter(|from| *from != to) {
                let routes = world.hosts[from].routes();
                let mut unrouted = on_bridges.iter().filter(|it| leads(&routes, **it) != Some(address(to)));
                if let Some(prefix) = unrouted.next() {
                    return Err(format!("h{} has no route to {prefix} of h{}: {routes:?}", from + 1, to + 1));
                }
                let others = (0..HOSTS).filter(|other| *other != from);
                if routes.len() != others.map(|other| parts::pools(other).len()).sum::<usize>() {
                    return Err(format!("h{} routes more than there is: {routes:?}", from + 1));
                }
            }
        }
        Ok(())
    }

    /// Whoever's claims were not ended has the prefixes that it had (I2).
    pub fn claims_are_held(&self, world: &World) -> anyhow::Result<()> {
        for (number, host) in world.hosts.iter().enumerate() {
            let on_bridges = host.on_bridges();
            let mut kept = host.holds.iter().filter(|prefix| !host.ended.of(**prefix));
            ensure!(
                kept.all(|prefix| on_bridges.contains(prefix)),
                "I2: h{} had {:?}, of which {:?} ended, and has {on_bridges:?}",
                number + 1,
                host.holds,
                host.ended
            );
        }
        Ok(())
    }
}
