//! What packets to containers may reach, and the rules for that. Pure.

use std::{fmt, net::Ipv6Addr};

use sextant_proto::Prefix;

use super::{COMMENT, PUBLISHED, Table};

/// ICMPv6 errors: destination unreachable, packet too big, time exceeded, parameter problem (RFC 4443).
const ERRORS: [u8; 4] = [1, 2, 3, 4];

/// What packets between containers of the cluster may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FromCluster {
    /// All ports.
    #[default]
    Open,
    /// The ports that are published, and echo requests.
    Published,
}

/// What packets from other addresses may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FromOutside {
    /// The ports that are published, and echo requests.
    #[default]
    Published,
    /// All ports.
    Open,
    /// Nothing, but answers to what containers have sent.
    Closed,
}

/// A protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// A port of a container that is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// The container's address.
    pub address: Ipv6Addr,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number in the container.
    pub port: u16,
}

/// Whose packets pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passes {
    /// The prefixes of this host that containers have, of a network each.
    pub own: Vec<Prefix>,
    /// The cluster's pools, sorted.
    pub pools: Vec<Prefix>,
    /// What packets from there may reach.
    pub from_cluster: FromCluster,
    /// What packets from elsewhere may reach.
    pub from_outside: FromOutside,
    /// The published ports of containers on these prefixes, sorted.
    pub published: Vec<Port>,
}

/// The rules of a table, without the chain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// Those in the table's chain, in front.
    pub front: Vec<String>,
    /// Those of the chain of published ports, where a rule leads there.
    pub published: Option<Vec<String>>,
}

impl Passes {
    /// Whether the published ports matter.
    pub fn needs_published(&self) -> bool {
        self.from_cluster == FromCluster::Published || self.from_outside == FromOutside::Published
    }

    /// The rules of a table, in which the engine has rules of its own or not.
    pub fn rules(&self, table: Table, engine: bool) -> Rules {
        match table {
            Table::Nat if engine => Rules { front: self.sources(), published: None },
            Table::Raw if engine => self.raw(),
            Table::Filter if engine || self.restricts() => self.filter(engine),
            _ => Rules::default(),
        }
    }

    /// The rules of a table before an engine starts: as without one, and what one that has rules would drop or change.
    pub fn prepared(&self, table: Table) -> Rules {
        match table {
            Table::Nat => self.rules(table, true),
            Table::Raw => self.untracked(),
            Table::Filter => {
                let mut rules = self.filter(false);
                if self.from_cluster == FromCluster::Open {
                    rules.front.extend(self.sources());
                }
                rules
            }
        }
    }

    /// Whether something is to be dropped that an engine without rules lets pass.
    fn restricts(&self) -> bool {
        self.from_cluster != FromCluster::Open || self.from_outside != FromOutside::Open
    }

    /// No source is replaced inside of the cluster.
    fn sources(&self) -> Vec<String> {
        let of = |own: Prefix| self.pools.iter().map(move |pool| format!("-s {own} -d {pool} {}", accept()));
        self.own.iter().copied().flat_map(of).collect()
    }

    /// What later tables may let pass. Routers' errors among it (RFC 4890 section 4.3.1): a path's MTU is found by them.
    fn raw(&self) -> Rules {
        let mut rules = self.accepted(false);
        // This table knows no connections: what comes from the cluster may be an answer, and the filter decides.
        if self.from_cluster == FromCluster::Published {
            rules.front.splice(0..0, self.of_pools(&accept()));
        }
        let error =
            |own: &Prefix, kind| format!("-d {own} -p ipv6-icmp -m icmp6 --icmpv6-type {kind} {}", accept());
        let errors = self.own.iter().flat_map(|own| ERRORS.map(|kind| error(own, kind)));
        rules.front.splice(0..0, errors.collect::<Vec<_>>());
        rules
    }

    /// As [`Self::raw`], and no connection inside of the cluster is tracked, so that no source is replaced: an engine of 20.10 puts its rule for
    /// that before ours. The filter needs the connections where not all packets of the cluster pass.
    fn untracked(&self) -> Rules {
        let mut rules = self.raw();
        if self.from_cluster == FromCluster::Open {
            let of = |own: Prefix| {
                self.pools.iter().map(move |pool| format!("-s {own} -d {pool} {} -j CT --notrack", comment()))
            };
            rules.front.splice(0..0, self.own.iter().copied().flat_map(of).collect::<Vec<_>>());
        }
        rules
    }

    fn filter(&self, engine: bool) -> Rules {
        let closed = self.from_outside == FromOutside::Closed;
        // What is not published must not come to the rule that lets all sources pass, nor to an engine without rules.
        let last = self.needs_published() && (!engine || self.from_outside == FromOutside::Open);
        let mut rules = self.accepted(last);
        if last || closed {
            let answers = |own| format!("-d {own} -m conntrack --ctstate RELATED,ESTABLISHED {}", accept());
            rules.front.splice(0..0, self.own.iter().map(answers).collect::<Vec<_>>());
        }
        // Neither the policy nor an engine, which keeps its networks apart, comes between containers of this host.
        if last || closed || self.from_cluster == FromCluster::Published {
            let inside = |from| self.own.iter().map(move |to| format!("-s {from} -d {to} {}", accept()));
            rules.front.splice(0..0, self.own.iter().flat_map(inside).collect::<Vec<_>>());
        }
        if engine && self.from_cluster == FromCluster::Open {
            // An engine may drop what leaves its networks.
            rules.front.extend(self.sources());
        }
        if closed {
            rules.front.extend(self.own.iter().map(|own| format!("-d {own} {} -j DROP", comment())));
        }
        rules
    }

    /// What passes by its source and port; `last` if nothing decides on what is not published.
    fn accepted(&self, last: bool) -> Rules {
        let (cluster, outside) = (self.from_cluster, self.from_outside);
        let target = |open: bool| if open { accept() } else { format!("{} -j {PUBLISHED}", comment()) };
        // The rule for all sources serves for the pools too.
        let served = cluster == FromCluster::Published && outside == FromOutside::Published;
        let mut front = Vec::new();
        if !served {
            front.extend(self.of_pools(&target(cluster == FromCluster::Open)));
        }
        if outside != FromOutside::Closed {
            let open = outside == FromOutside::Open;
            front.extend(self.own.iter().map(|own| format!("-d {own} {}", target(open))));
        }
        let published = self.needs_published().then(|| self.published_rules(last));
        Rules { front, published }
    }

    /// A rule for the packets from each pool to each prefix.
    fn of_pools(&self, target: &str) -> Vec<String> {
        let to = |own: Prefix| self.pools.iter().map(move |pool| format!("-s {pool} -d {own} {target}"));
        self.own.iter().copied().flat_map(to).collect()
    }

    fn published_rules(&self, last: bool) -> Vec<String> {
        let echo = format!("-p ipv6-icmp -m icmp6 --icmpv6-type 128 {}", accept());
        let port = |Port { address, protocol, port }: &Port| {
            format!("-d {address}/128 -p {protocol} -m {protocol} --dport {port} {}", accept())
        };
        let drop = last.then(|| format!("{} -j DROP", comment()));
        std::iter::once(echo).chain(self.published.iter().map(port)).chain(drop).collect()
    }
}

fn comment() -> String {
    format!("-m comment --comment {COMMENT}")
}

fn accept() -> String {
    format!("{} -j ACCEPT", comment())
}
