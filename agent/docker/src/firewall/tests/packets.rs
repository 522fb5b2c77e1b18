//! What becomes of packets, by the rules of engines and ours: each policy means the same with each engine.

use std::net::Ipv6Addr;

use super::{
    super::policy::{Port, Protocol},
    *,
};

/// Before any rule, no engine filters.
const NONE: [&str; 2] = ["-P PREROUTING ACCEPT", "-P FORWARD ACCEPT"];
/// What an engine of 20.10 has with `ip6tables`, and a container with port 8000 published.
const FIRST: [&str; 2] = [
    "-P PREROUTING ACCEPT",
    "-P FORWARD DROP
    -N DOCKER
    -A FORWARD -o sextant0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
    -A FORWARD -o sextant0 -j DOCKER
    -A FORWARD -i sextant0 ! -o sextant0 -j ACCEPT
    -A FORWARD -i sextant0 -o sextant0 -j ACCEPT
    -A DOCKER -d 2001:db8:1::2/128 -p tcp -m tcp --dport 8000 -j ACCEPT",
];
/// The same of one from 28 on, with a network that is not routed.
const LATER: [&str; 2] = [
    "-P PREROUTING ACCEPT
    -A PREROUTING -d 2001:db8:1::2/128 ! -i sextant0 -j DROP",
    "-P FORWARD DROP
    -N DOCKER
    -N DOCKER-USER
    -A FORWARD -j DOCKER-USER
    -A FORWARD -o sextant0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
    -A FORWARD -o sextant0 -j DOCKER
    -A FORWARD -i sextant0 ! -o sextant0 -j ACCEPT
    -A FORWARD -i sextant0 -o sextant0 -j ACCEPT
    -A DOCKER -d 2001:db8:1::2/128 ! -i sextant0 -o sextant0 -p tcp -m tcp --dport 8000 -j ACCEPT
    -A DOCKER ! -i sextant0 -o sextant0 -j DROP",
];

/// The same with a routed network, which the agent makes where the engine is to decide on packets of the cluster.
const ROUTED: [&str; 2] = [NONE[0], LATER[1]];

/// As the first, with two networks, which it keeps apart.
const APART: [&str; 2] = [
    NONE[0],
    "-P FORWARD DROP
    -N DOCKER
    -N DOCKER-USER
    -N DOCKER-ISOLATION-STAGE-1
    -N DOCKER-ISOLATION-STAGE-2
    -A FORWARD -j DOCKER-USER
    -A FORWARD -j DOCKER-ISOLATION-STAGE-1
    -A FORWARD -o sextant0 -j DOCKER
    -A FORWARD -i sextant0 ! -o sextant0 -j ACCEPT
    -A FORWARD -i br-other ! -o br-other -j ACCEPT
    -A DOCKER-ISOLATION-STAGE-1 -i sextant0 ! -o sextant0 -j DOCKER-ISOLATION-STAGE-2
    -A DOCKER-ISOLATION-STAGE-1 -i br-other ! -o br-other -j DOCKER-ISOLATION-STAGE-2
    -A DOCKER-ISOLATION-STAGE-2 -o sextant0 -j DROP
    -A DOCKER-ISOLATION-STAGE-2 -o br-other -j DROP",
];

const HERE: &str = "2001:db8:1::2";
const NEIGHBOUR: &str = "2001:db8:1::3";
/// On another network of the host prefix.
const BESIDE: &str = "2001:db8:1:0:1::2";
const CLUSTER: &str = "2001:db8:2::2";
/// On a network of another prefix of this host.
const OTHER: &str = "fd00:0:0:1::3";
const OUTSIDE: &str = "2001:db9::2";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Tcp(u16),
    Udp(u16),
    Echo,
    /// Belongs to a connection from the container.
    Answer,
    /// An ICMPv6 error about such a connection.
    TooBig,
}

#[derive(Debug, Clone, Copy)]
struct Packet {
    from: Ipv6Addr,
    to: Ipv6Addr,
    what: What,
}

impl Packet {
    fn matches(&self, rule: &str) -> bool {
        let within = |prefix: &str, addr| prefix.parse::<Prefix>().unwrap().contains(addr);
        let link = |addr| match addr {
            addr if within("2001:db8:1::/80", addr) => "sextant0",
            addr if within("2001:db8:1::/64", addr) || within(OTHER_NETWORK, addr) => "br-other",
            _ => "eth0",
        };
        let mut words = rule.split(' ');
        let (mut holds, mut negated) = (true, false);
        while let Some(word) = words.next() {
            let mut value = || words.next().unwrap();
            let it = match word {
                "!" => {
                    negated = true;
                    continue;
                }
                "-s" => within(value(), self.from),
                "-d" => within(value(), self.to),
                "-i" => value() == link(self.from),
                "-o" => value() == link(self.to),
                "-p" => value() == self.protocol(),
                "--dport" => [What::Tcp, What::Udp].map(|of| of(value_of(rule))).contains(&self.what),
                "--icmpv6-type" => value() == if self.what == What::Echo { "128" } else { "2" },
                "--ctstate" => matches!(self.what, What::Answer | What::TooBig),
                _ => continue,
            };
            holds &= it != negated;
            negated = false;
        }
        holds
    }

    fn protocol(&self) -> &'static str {
        match self.what {
            What::Tcp(_) | What::Answer => "tcp",
            What::Udp(_) => "udp",
            What::Echo | What::TooBig => "ipv6-icmp",
        }
    }

    /// What the rules of a chain say; `None` if they say nothing.
    fn judged(&self, lines: &[String], chain: &str) -> Option<bool> {
        rules(lines, chain).filter(|rule| self.matches(rule)).find_map(|rule| {
            match rule.rsplit_once("-j ").unwrap().1 {
                "ACCEPT" => Some(true),
                "DROP" => Some(false),
                other => self.judged(lines, other),
            }
        })
    }

    fn passes(&self, raw: &[String], filter: &[String]) -> bool {
        let forward = !filter.iter().any(|line| line == "-P FORWARD DROP");
        self.judged(raw, "PREROUTING").unwrap_or(true) && self.judged(filter, "FORWARD").unwrap_or(forward)
    }
}

fn value_of(rule: &str) -> u16 {
    rule.split("--dport ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap()
}

/// What a policy promises.
fn promised(passes: &Passes, packet: &Packet) -> bool {
    let published = matches!(packet.what, What::Tcp(8000) | What::Echo);
    let from = |prefix: &Prefix| prefix.contains(packet.from);
    match packet.what {
        What::Answer | What::TooBig => true,
        _ if passes.own.iter().any(from) && passes.own.iter().any(|own| own.contains(packet.to)) => true,
        _ if passes.pools.iter().any(from) => passes.from_cluster == FromCluster::Open || published,
        _ => match passes.from_outside {
            FromOutside::Open => true,
            FromOutside::Published => published,
            FromOutside::Closed => false,
        },
    }
}

#[test]
fn each_policy_means_the_same_with_each_engine() {
    let published = Port { address: HERE.parse().unwrap(), protocol: Protocol::Tcp, port: 8000 };
    let kinds = [What::Tcp(8000), What::Tcp(8001), What::Udp(8000), What::Echo, What::Answer, What::TooBig];
    for engine in [NONE, FIRST, LATER, ROUTED] {
        for from_cluster in [FromCluster::Open, FromCluster::Published] {
            for from_outside in [FromOutside::Published, FromOutside::Open, FromOutside::Closed] {
                let passes = Passes { from_outside, published: vec![published], ..passes(from_cluster) };
                let [raw, filter] =
                    [(Table::Raw, engine[0]), (Table::Filter, engine[1])].map(|(table, text)| {
                        let before = lines(text);
                        let after = changed(&before, &changes(table, &before, Some(&passes)));
                        assert_eq!(changes(table, &after, Some(&passes)), [""; 0], "{after:#?}");
                        after
                    });
                for from in [CLUSTER, OUTSIDE, NEIGHBOUR, OTHER] {
                    for what in kinds {
                        // The sources of packets that leave the cluster are replaced: answers come to the host's address.
                        if engine == LATER && (from, what) == (OUTSIDE, What::Answer) {
                            continue;
                        }
                        let packet = Packet { from: from.parse().unwrap(), to: HERE.parse().unwrap(), what };
                        assert_eq!(
                            packet.passes(&raw, &filter),
                            promised(&passes, &packet),
                            "{packet:?} with {from_cluster:?}, {from_outside:?}: {raw:#?} {filter:#?}"
                        );
                    }
                }
                for to in [CLUSTER, OUTSIDE] {
                    let out =
                        Packet { from: HERE.parse().unwrap(), to: to.parse().unwrap(), what: What::Tcp(443) };
                    assert!(out.passes(&raw, &filter), "{out:?}");
                }
            }
        }
    }
}

#[test]
fn each_policy_lets_the_networks_of_one_host_reach_each_other() {
    for from_cluster in [FromCluster::Open, FromCluster::Published] {
        for from_outside in [FromOutside::Published, FromOutside::Open, FromOutside::Closed] {
            let own = ["2001:db8:1::/64", OTHER_NETWORK].map(|own| own.parse().unwrap()).to_vec();
            let passes = Passes { own, from_outside, ..passes(from_cluster) };
            let [raw, filter] = [(Table::Raw, APART[0]), (Table::Filter, APART[1])].map(|(table, text)| {
                let before = lines(text);
                changed(&before, &changes(table, &before, Some(&passes)))
            });
            for (from, to) in [(BESIDE, HERE), (HERE, BESIDE), (OTHER, HERE), (HERE, OTHER)] {
                let packet =
                    Packet { from: from.parse().unwrap(), to: to.parse().unwrap(), what: What::Tcp(8001) };
                assert!(packet.passes(&raw, &filter), "{packet:?} with {from_cluster:?}, {from_outside:?}");
            }
        }
    }
}

/// A table with an engine that has started after these `lines` were there: its rules of the filter come first, those of the raw table
/// last, and users' rules stay.
fn started(table: Table, lines: &[String], engine: &str) -> Vec<String> {
    let engine: Vec<_> = engine.lines().map(|line| line.trim().to_owned()).collect();
    let new = engine.into_iter().filter(|line| !lines.contains(line));
    match table {
        Table::Filter => new.chain(lines.iter().cloned()).collect(),
        Table::Raw | Table::Nat => lines.iter().cloned().chain(new).collect(),
    }
}

#[test]
fn a_kernel_that_tracks_all_connections_gets_the_other_rules() {
    let (passes, none) = (passes(FromCluster::Open), lines(NONE[0]));
    let all = prepared(Table::Raw, &none, &passes);
    let untracked = all.iter().filter(|rule| rule.contains("-j CT --notrack")).count();
    assert_eq!((untracked > 0, tracked(&none, &passes).len()), (true, all.len() - untracked), "{all:#?}");
    let published = Passes { from_cluster: FromCluster::Published, ..passes };
    assert_eq!(prepared(Table::Raw, &none, &published), tracked(&none, &published), "answers need it");
}

#[test]
fn before_the_agent_runs_each_policy_holds_for_each_engine_that_starts() {
    let kinds = [What::Tcp(8001), What::Echo, What::Answer, What::TooBig];
    for engine in [NONE, FIRST, LATER, APART] {
        for from_cluster in [FromCluster::Open, FromCluster::Published] {
            for from_outside in [FromOutside::Published, FromOutside::Open, FromOutside::Closed] {
                let passes = Passes { from_outside, ..passes(from_cluster) };
                let before = [NONE[0], NONE[1]].map(lines);
                let [raw, filter] = [(Table::Raw, 0), (Table::Filter, 1)].map(|(table, at)| {
                    let after = changed(&before[at], &prepared(table, &before[at], &passes));
                    assert_eq!(prepared(table, &after, &passes), [""; 0], "{after:#?}");
                    let started = started(table, &after, engine[at]);
                    // The agent leaves none of these rules where it wants others.
                    let kept = changed(&started, &changes(table, &started, Some(&passes)));
                    assert_eq!(changes(table, &kept, Some(&passes)), [""; 0], "{kept:#?}");
                    started
                });
                for (from, what) in
                    [CLUSTER, OUTSIDE, NEIGHBOUR].into_iter().flat_map(|it| kinds.map(|what| (it, what)))
                {
                    let packet = Packet { from: from.parse().unwrap(), to: HERE.parse().unwrap(), what };
                    // Without the users' chain an engine decides first. Of one from 28 on see above.
                    let own_way = engine == FIRST && !matches!(what, What::Answer | What::TooBig);
                    if own_way || engine == LATER && (from, what) == (OUTSIDE, What::Answer) {
                        continue;
                    }
                    assert_eq!(
                        packet.passes(&raw, &filter),
                        promised(&passes, &packet),
                        "{packet:?} with {from_cluster:?}, {from_outside:?}: {raw:#?} {filter:#?}"
                    );
                }
            }
        }
    }
}
