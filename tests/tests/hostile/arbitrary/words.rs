//! What a node may say: right, nearly right, and anything.

use std::net::Ipv6Addr;

use rand::{Rng, rngs::StdRng, seq::IndexedRandom};
use sextant_proto::{
    convert::octets,
    v1::{
        Ack, Announce, AnnouncedClaim, Answer, BgpNeighbour, Check, Claim, ClaimRequest, Conflict, Drained,
        Epoch, FailedRoute, Hello, HostLook, InterfaceAddress, Keepalive, Mark, Plan, PlannedChange, Pool,
        Prefix, Problem, Receipt, Stopping, Uplink, Verdict, agent_message::Message, answer,
    },
};
use tonic::codegen::Bytes;

/// Texts that matter to a shell, a terminal, a path or a limit.
const TEXTS: [&str; 12] = [
    "",
    "eth0",
    "h1",
    "evil",
    "$(reboot)",
    "a; ip -6 route flush table all",
    "../../etc",
    "\u{1b}[2J\u{7}",
    "line\nbreak",
    "bridge-missing",
    "main",
    "\u{202e}1h",
];

/// Draws messages.
pub struct Words {
    pub random: StdRng,
    /// Addresses that mean something in this cluster.
    pub addresses: Vec<Ipv6Addr>,
    /// Prefixes of the cluster: hosts', pools', links'.
    pub prefixes: Vec<Prefix>,
    /// The node's true claim.
    pub claim: Claim,
    /// Its true hello.
    pub hello: Hello,
}

impl Words {
    pub fn message(&mut self) -> Message {
        match self.random.random_range(0..14) {
            0..6 => Message::Announce(self.announce()),
            6..9 => Message::Ack(self.ack()),
            9 => Message::Drained(Drained { laggards: self.several(Self::text) }),
            10 => Message::Answer(self.answer()),
            11 => Message::Keepalive(Keepalive { stale: self.chance(50) }),
            12 => Message::Stopping(Stopping {}),
            _ => Message::Hello(self.hello()),
        }
    }

    /// Mostly the true one.
    pub fn hello(&mut self) -> Hello {
        let mut hello = self.hello.clone();
        if self.chance(60) {
            return hello;
        }
        match self.random.random_range(0..8) {
            0 => hello.node = self.text(),
            1 => hello.node_id = self.octets(),
            2 => hello.epoch = self.epoch(),
            3 => (hello.incarnation, hello.revision) = (self.octets(), self.number()),
            4 => hello.role = self.random.random_range(-1..4),
            5 => hello.instance = self.octets(),
            6 => hello.version = self.text(),
            _ => {
                hello.mark =
                    Some(Mark { incarnation: self.octets(), revision: self.number(), id: self.number() });
            }
        }
        hello
    }

    pub fn claim_request(&mut self) -> ClaimRequest {
        let held = Claim { prefix: Some(self.prefix()), epoch: self.epoch(), pool: Some(self.pool()) };
        let own_name = self.chance(50);
        let receipt =
            Receipt { content: self.octets(), signature: self.octets(), chain: self.several(Self::octets) };
        ClaimRequest {
            receipt: self.chance(50).then_some(receipt),
            node: if own_name { self.hello.node.clone() } else { self.text() },
            node_id: if own_name { self.hello.node_id.clone() } else { self.octets() },
            pool: if self.chance(70) { String::new() } else { self.text() },
            held: if self.chance(50) { Some(held) } else { None },
            host_len: if self.chance(70) { 0 } else { self.random.random_range(0..200) },
            beside: self.chance(30),
            infrastructure: self.several(|words| octets(words.address())),
            pool_order: self.several(Self::text),
            accept_pools: if self.chance(80) { Vec::new() } else { self.several(Self::prefix) },
        }
    }

    fn announce(&mut self) -> Announce {
        let prefix = self.prefix();
        Announce {
            uplinks: self.several(|words| Uplink {
                interface: if words.chance(90) { "eth0".into() } else { words.text() },
                addresses: words.several(Self::interface_address),
            }),
            container_prefix: self.chance(20).then_some(prefix),
            claims: self.several(|words| AnnouncedClaim {
                epoch: words.epoch(),
                container_prefixes: words.several(Self::container_prefix),
            }),
            pool_order: self.several(Self::text),
        }
    }

    fn interface_address(&mut self) -> InterfaceAddress {
        let address = if self.chance(95) { octets(self.address()) } else { self.octets() };
        InterfaceAddress { address, length: self.length() }
    }

    fn ack(&mut self) -> Ack {
        Ack {
            revision: self.number(),
            failed: self
                .several(|words| FailedRoute { destination: Some(words.prefix()), error: words.text() }),
            conflicts: self.several(|words| Conflict {
                destination: Some(words.prefix()),
                protocol: words.text(),
                metric: words.random.random(),
                ours_wins: words.chance(50),
                ours: words.chance(50).then(|| words.prefix()),
                leads: words.text(),
            }),
            refused_pools: self.several(Self::prefix),
            ndp_proxy: self.chance(50),
            held: self.random.random(),
            verdicts: self.several(|words| Verdict {
                node: format!("h{}", words.random.random_range(1..5)),
                forwarding: words.chance(50),
            }),
            bgp: self.several(|words| BgpNeighbour {
                address: octets(words.address()),
                state: words.text(),
                error: words.text(),
                sent: words.number(),
                ..BgpNeighbour::default()
            }),
            problems: self.several(|words| Problem {
                what: words.text(),
                saw: words.text(),
                fix: words.text(),
                since_unix_ms: words.number(),
            }),
        }
    }

    fn answer(&mut self) -> Answer {
        let about = match self.random.random_range(0..3) {
            0 => answer::About::Failed(self.text()),
            1 => answer::About::Plan(Plan {
                revision: self.number(),
                changes: self.several(|words| PlannedChange {
                    destination: Some(words.prefix()),
                    route: words.text(),
                    ..PlannedChange::default()
                }),
                more: self.number(),
                ..Plan::default()
            }),
            _ => answer::About::Host(HostLook {
                bridge_address: self.octets(),
                checks: self.several(|words| Check {
                    what: words.text(),
                    fix: words.text(),
                    ..Check::default()
                }),
                ..HostLook::default()
            }),
        };
        Answer { id: self.random.random_range(0..4), about: Some(about) }
    }

    fn pool(&mut self) -> Pool {
        Pool {
            name: self.text(),
            prefix: Some(self.prefix()),
            host_len: self.length(),
            container_len: self.length(),
            draining: self.chance(20),
        }
    }

    fn epoch(&mut self) -> Option<Epoch> {
        match self.random.random_range(0..10) {
            0 => None,
            1 => Some(Epoch { incarnation: self.octets(), revision: self.number() }),
            2 => self.claim.epoch.clone().map(|epoch| Epoch { revision: self.number(), ..epoch }),
            _ => self.claim.epoch.clone(),
        }
    }

    fn prefix(&mut self) -> Prefix {
        match self.random.random_range(0..20) {
            0 => Prefix { address: octets(self.address()), length: self.length() },
            1 => Prefix { length: self.length(), ..self.claim.prefix.clone().unwrap() },
            _ => self.prefixes.choose(&mut self.random).cloned().unwrap(),
        }
    }

    /// Mostly one that may be its own.
    fn container_prefix(&mut self) -> Prefix {
        let pool = self.claim.pool.as_ref().unwrap();
        let own = Prefix { length: pool.container_len, ..self.claim.prefix.clone().unwrap() };
        if self.chance(80) { own } else { self.prefix() }
    }

    fn address(&mut self) -> Ipv6Addr {
        if self.chance(80) {
            *self.addresses.choose(&mut self.random).unwrap()
        } else {
            Ipv6Addr::from_bits(self.random.random())
        }
    }

    fn length(&mut self) -> u32 {
        let usual = self.chance(95);
        let lengths: &[u32] = if usual { &[64, 80, 128] } else { &[0, 1, 40, 127, 129, u32::MAX] };
        *lengths.choose(&mut self.random).unwrap()
    }

    fn number(&mut self) -> u64 {
        *[0, 1, 2, 10, 40, 1 << 40, u64::MAX].choose(&mut self.random).unwrap()
    }

    /// Sixteen octets mostly.
    fn octets(&mut self) -> Bytes {
        let length = *[16, 16, 16, 16, 0, 4, 15, 17].choose(&mut self.random).unwrap();
        (0..length).map(|_| self.random.random()).collect()
    }

    fn text(&mut self) -> String {
        match self.random.random_range(0..40) {
            0 => "x".repeat(100_000),
            1 => format!("n{}", self.random.random_range(0..4)),
            _ => (*TEXTS.choose(&mut self.random).unwrap()).into(),
        }
    }

    /// None, one, a few; rarely very many.
    fn several<T>(&mut self, mut one: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let count = *[0, 1, 1, 1, 2, 3, 9].choose(&mut self.random).unwrap();
        let count = if self.chance(1) { count * 500 } else { count };
        (0..count).map(|_| one(self)).collect()
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.random.random_range(0..100) < percent
    }
}
