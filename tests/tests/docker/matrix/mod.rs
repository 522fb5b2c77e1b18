//! What packets to containers reach: each mode, with and without a firewall of the engine, under each policy, equals the table of
//! the documentation.

mod hosts;
mod packets;
mod table;

use std::{fmt, net::IpAddr, thread};

use sextant_tests::{SECONDS, poll};

use hosts::{Hosts, Mode, OUTSIDE, Place, ipv4};
use packets::{Answer, ask};
use table::{Packet, Policy, reaches};

/// A packet, and the right answer.
struct Cell<'a> {
    /// For messages: where it comes from, and which engine.
    what: String,
    from: &'a Place,
    to: IpAddr,
    packet: Packet,
    /// The right answers: one of them.
    right: Vec<Answer>,
}

/// A cell with another answer.
struct Wrong<'a>(&'a Cell<'a>, Answer);

impl fmt::Display for Wrong<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(Cell { what, packet, right, .. }, answer) = self;
        write!(f, "{what}, {packet:?}: {answer:?}, not {right:?}")
    }
}

fn engine(index: usize) -> &'static str {
    if index == 0 { "without ip6tables" } else { "with ip6tables" }
}

/// The answer to a packet that is reached, which had this source.
fn answered(packet: Packet, source: IpAddr) -> Answer {
    match packet {
        Packet::Echo => Answer::Echo,
        Packet::Refused => Answer::Refused,
        Packet::Tcp { .. } | Packet::Udp { .. } => Answer::From(source.to_string()),
    }
}

/// Packets to the container of a host.
fn incoming(hosts: &Hosts, policy: Policy, index: usize) -> Vec<Cell<'_>> {
    let packets = hosts.sources(index).flat_map(|(source, from)| Packet::ALL.map(|it| (source, from, it)));
    packets
        .map(|(source, from, packet)| Cell {
            what: format!("{source:?} to a host {}", engine(index)),
            from,
            to: hosts.containers[index].asked.address,
            packet,
            // A container's own address is the source, and so is that of others.
            right: match reaches(policy, source, packet) {
                true => vec![answered(packet, from.address)],
                false => vec![Answer::Nothing],
            },
        })
        .collect()
}

/// Packets of the container to the host outside, whose answers always pass. Their source is as Docker makes it.
fn outgoing(hosts: &Hosts, index: usize) -> Vec<Cell<'_>> {
    let from = &hosts.containers[index].asked;
    let (own, host) = (from.address, hosts.address(index));
    let cell = |to: IpAddr, packet| Cell {
        what: format!("from a host {} to {to}", engine(index)),
        from,
        to,
        packet,
        right: match to {
            IpAddr::V4(_) => vec![answered(packet, ipv4(index))],
            IpAddr::V6(_) => vec![answered(packet, own), answered(packet, host)],
        },
    };
    let all = [hosts.outside.address, ipv4(OUTSIDE)];
    all.into_iter().flat_map(|to| Packet::ALL.map(|packet| cell(to, packet))).collect()
}

/// Sends all packets at once.
fn wrong<'a>(cells: &'a [Cell<'a>]) -> Vec<Wrong<'a>> {
    let answers: Vec<Answer> = thread::scope(|scope| {
        let asked: Vec<_> =
            cells.iter().map(|cell| scope.spawn(|| cell.from.enter(|| ask(cell.packet, cell.to)))).collect();
        asked.into_iter().map(|answer| answer.join().unwrap()).collect()
    });
    let all = cells.iter().zip(answers);
    all.filter(|(cell, answer)| !cell.right.contains(answer))
        .map(|(cell, answer)| Wrong(cell, answer))
        .collect()
}

/// All policies of a mode.
fn equals_the_table(mode: Mode) {
    let Some(mut hosts) = Hosts::start(mode) else { return };
    let (mut before, mut count) = (None, 0);
    for policy in Policy::ALL {
        hosts.set(policy, before != Some(policy.from_cluster));
        before = Some(policy.from_cluster);
        let of_host = |index| [incoming(&hosts, policy, index), outgoing(&hosts, index)];
        let cells: Vec<_> = (0..2).flat_map(of_host).flatten().collect();
        count += cells.len();
        poll(&format!("each packet of {mode:?} with {policy:?} as in the table"), 15 * SECONDS, || {
            let wrong: Vec<_> = wrong(&cells).iter().map(ToString::to_string).collect();
            if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
        });
        hosts.are_well();
    }
    println!("Docker {}, mode {mode:?}: {count} cells equal the table", hosts.version());
}

#[test]
fn a_network_that_the_agent_keeps() {
    equals_the_table(Mode::Network);
}

#[test]
fn dockers_own_bridge() {
    equals_the_table(Mode::Daemon);
}

#[test]
fn networks_of_the_ipam_driver() {
    equals_the_table(Mode::Ipam);
}

#[test]
fn networks_of_dockers_own_pools() {
    equals_the_table(Mode::Pools);
}
