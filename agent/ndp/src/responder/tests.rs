//! What a change costs beside many addresses.

use nix::time::{ClockId, clock_gettime};
use sextant_proto::Prefix;

use super::*;
use crate::{
    message::{Kind, solicited_node},
    proxy::{Answer, Bridge, Uplink},
};

const BRIDGE: u32 = 7;
/// No interface has this index: nothing is joined or sent.
const UPLINK: u32 = 0x7fff_fff0;
const FEW: u32 = 100;
const MANY: u32 = 10_000;
/// So many changes, or solicitations, are measured at once, and the cheapest of so many measurements counts.
const EACH: u32 = 200;
const ROUNDS: u32 = 9;

fn addr(n: u32) -> Ipv6Addr {
    Ipv6Addr::from_bits(0x2001_0db8_0000_0000_0000_0000_0001_0000 + u128::from(n))
}

fn place(uplinks: Vec<Uplink>) -> Place {
    let prefix: Prefix = "2001:db8::/64".parse().unwrap();
    let source = "fe80::7".parse().unwrap();
    Place {
        prefixes: vec![prefix],
        bridges: vec![Bridge {
            link: BRIDGE,
            mac: [2; 6],
            source,
            prefixes: vec![prefix],
            own: vec!["2001:db8::1".parse().unwrap()],
        }],
        answers: true,
        answer: Answer::Live,
        uplinks,
        ..Place::default()
    }
}

fn message(kind: Kind, source: Ipv6Addr, target: Ipv6Addr) -> Message {
    Message { kind, source, destination: solicited_node(target), target, mac: None }
}

/// The processor time of this thread.
fn spent() -> Duration {
    // Not by getrusage, which counts whole ticks.
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

fn cheapest(mut measure: impl FnMut(u32)) -> Duration {
    let one = |round| {
        let before = spent();
        measure(round);
        spent() - before
    };
    (0..ROUNDS).map(one).min().unwrap()
}

/// Addresses come, and the kernel answers for each after that.
fn cost_of_changes(count: u32) -> Duration {
    let all = || (0..count).map(addr);
    let first = Given { place: place(vec![]), kernel: all().collect(), ..Given::default() };
    let (given, given_rx) = watch::channel(first);
    let (known, seen) = watch::channel(Known::default());
    let mut responder = Responder::new(given_rx, known, mpsc::channel(1).1, all());
    responder.report_alive();
    let mut expected = count as usize + 1;
    let cost = cheapest(|round| {
        for n in (0..EACH).map(|n| count + round * EACH + n) {
            let [_, _, high, low] = n.to_be_bytes();
            let said = message(Kind::Advertisement, addr(n), addr(n));
            responder.proxy.received(BRIDGE, [2, 0, 0, 9, high, low], &said, Instant::now());
            responder.report_alive();
            given.send_modify(|given| assert!(given.kernel.set(addr(n), true)));
            responder.take_given();
        }
        expected += EACH as usize;
        assert_eq!(seen.borrow().alive.as_ref().unwrap().len(), expected);
    });
    assert_eq!(responder.kernel, given.borrow().kernel.revision());
    cost
}

fn cost_of_answers(count: u32) -> Duration {
    let uplink = Uplink { link: UPLINK, mac: [3; 6], source: "fe80::3".parse().unwrap(), kernel_hears: true };
    let mut proxy = Proxy::new(place(vec![uplink]), Instant::now());
    proxy.adopt((0..count).map(addr), Instant::now());
    cheapest(|round| {
        for n in 0..EACH * 10 {
            let asks = message(Kind::Solicitation, "2001:db8::5:5".parse().unwrap(), addr(n * 7919 % count));
            let from = [2, 1, 0, 0, round as u8, (n / 1000) as u8];
            assert_eq!(proxy.received(UPLINK, from, &asks, Instant::now()).len(), 1);
        }
    })
}

/// So many containers with so many addresses each; the first one's link is lost. Returns which addresses are asked for.
fn asked_after_a_loss(containers: u8, each: u32) -> Vec<Ipv6Addr> {
    let (given, given_rx) = watch::channel(Given { place: place(vec![]), ..Given::default() });
    let mut responder = Responder::new(given_rx, watch::channel(Known::default()).0, mpsc::channel(1).1, []);
    let now = Instant::now();
    for n in 0..u32::from(containers) * each {
        let mac = [2, 0, 0, 0, 0, (n / each) as u8];
        responder.proxy.received(BRIDGE, mac, &message(Kind::Advertisement, addr(n), addr(n)), now);
    }
    given.send_modify(|given| given.losses.note((BRIDGE, Some([2, 0, 0, 0, 0, 0]))));
    responder.take_given();
    let asks = responder.proxy.ask(Instant::now(), |_| true);
    responder.take_given();
    assert_eq!(responder.proxy.ask(Instant::now(), |_| true), [], "once");
    asks.iter().map(|it| crate::message::decode(&it.packet).unwrap().target).collect()
}

#[test]
fn after_a_loss_only_what_was_there_is_asked_for() {
    let there = [addr(0), addr(1), addr(2)];
    assert_eq!((asked_after_a_loss(2, 3), asked_after_a_loss(200, 3)), (there.to_vec(), there.to_vec()));
}

#[test]
fn all_are_asked_for_after_more_losses_than_are_remembered() {
    let (given, given_rx) = watch::channel(Given { place: place(vec![]), ..Given::default() });
    let mut responder = Responder::new(given_rx, watch::channel(Known::default()).0, mpsc::channel(1).1, []);
    for n in 0..50 {
        let said = message(Kind::Advertisement, addr(n), addr(n));
        responder.proxy.received(BRIDGE, [2, 0, 0, 0, 0, n as u8], &said, Instant::now());
    }
    given.send_modify(|given| (0..2000).for_each(|_| given.losses.note((BRIDGE, Some([9; 6])))));
    responder.take_given();
    assert_eq!(responder.proxy.ask(Instant::now(), |_| true).len(), 50);
}

/// A flood on one link has messages ready at any time.
#[tokio::test]
async fn each_link_has_its_turn() {
    let ports: BTreeMap<u32, ()> = [2, 3, 7].map(|link| (link, ())).into();
    let (mut last, mut turns) = (0, Vec::new());
    for _ in 0..6 {
        let each = in_turn(&ports, last).map(|(link, ())| std::future::ready(*link));
        (last, _, _) = futures::future::select_all(each).await;
        turns.push(last);
    }
    assert_eq!(turns, [2, 3, 7, 2, 3, 7]);
}

#[test]
fn a_change_costs_the_same_beside_few_addresses_and_many() {
    let (few, many) = (cost_of_changes(FEW), cost_of_changes(MANY));
    // The cheapest walk over all of them, which copies the set, doubles the cost of a change.
    assert!(many * 2 < few * 3, "{EACH} changes: {few:?} beside {FEW} addresses, {many:?} beside {MANY}");
}

#[test]
fn an_answer_costs_the_same_beside_few_addresses_and_many() {
    let (few, many) = (cost_of_answers(FEW), cost_of_answers(MANY));
    assert!(many * 2 < few * 3, "{few:?} beside {FEW} addresses, {many:?} beside {MANY}");
}
