use super::*;
use crate::message::{ALL_NODES, ALL_ROUTERS, Kind, Message, decode};

mod kernel;

const UPLINK: u32 = 2;
const BRIDGE: u32 = 7;
const ROUTER: Mac = [2, 0, 0, 0, 0, 1];
const OWN: Mac = [2, 0, 0, 0, 0, 2];
const BRIDGE_MAC: Mac = [2, 0, 0, 0, 0, 7];
const CONTAINER: Mac = [2, 0, 0, 0, 0, 9];

impl Proxy {
    /// How much is remembered, and the most.
    pub(crate) fn sizes(&self) -> Vec<(&'static str, usize, usize)> {
        let limits = [("answers", &self.answers), ("asks", &self.asks)];
        let accounts = limits.map(|(what, limits)| (what, limits.sizes().0, limits.sizes().1));
        let (others, unheeded) = (self.others.sizes(), self.unheeded.sizes());
        let more = [("others", others.0, others.1), ("unheeded", unheeded.0, unheeded.1)];
        self.targets.sizes().into_iter().chain(accounts).chain(more).collect()
    }
}

fn addr(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

/// The example of Docker's guide: a /125 of the uplink's /64.
fn place() -> Place {
    let prefix = "2001:db8::c000/125".parse().unwrap();
    Place {
        prefixes: vec![prefix],
        answers: true,
        uplinks: vec![Uplink { link: UPLINK, mac: OWN, source: addr("fe80::2"), kernel_hears: true }],
        bridges: vec![Bridge {
            link: BRIDGE,
            mac: BRIDGE_MAC,
            source: addr("fe80::7"),
            prefixes: vec![prefix],
            own: vec![addr("2001:db8::c001"), addr("fe80::7")],
        }],
        ..Place::default()
    }
}

fn proxy(place: Place) -> (Proxy, Instant) {
    let now = Instant::now();
    (Proxy::new(place, now), now)
}

fn message(kind: Kind, source: &str, target: &str, mac: Mac) -> Message {
    let target = addr(target);
    let mac = (source != "::").then_some(mac);
    Message { kind, source: addr(source), destination: solicited_node(target), target, mac }
}

fn solicits(target: &str) -> Message {
    message(Kind::Solicitation, "2001:db8::1", target, ROUTER)
}

fn says(target: &str) -> Message {
    message(Kind::Advertisement, target, target, CONTAINER)
}

/// Link, receiver, destination, target, and flags.
fn seen(sent: &[Sent]) -> Vec<(u32, Mac, Ipv6Addr, Ipv6Addr, u8)> {
    let one = |it: &Sent| {
        let read = decode(&it.packet).unwrap();
        (it.link, it.to, read.destination, read.target, it.packet[44])
    };
    sent.iter().map(one).collect()
}

#[test]
fn an_unknown_address_is_answered_for_once_its_container_has_answered() {
    let (mut proxy, now) = proxy(place());
    let target = addr("2001:db8::c003");
    assert_eq!(proxy.received(UPLINK, ROUTER, &solicits("2001:db8::c003"), now), []);
    let asked = proxy.ask(now, |_| true);
    let group = solicited_node(target);
    assert_eq!(seen(&asked), [(BRIDGE, multicast_mac(group), group, target, 0)]);
    let answers = proxy.received(BRIDGE, CONTAINER, &says("2001:db8::c003"), now);
    let all = (UPLINK, multicast_mac(ALL_NODES), ALL_NODES, target, 0x80);
    let routers = (UPLINK, multicast_mac(ALL_ROUTERS), ALL_ROUTERS, target, 0x80);
    let answer = (UPLINK, ROUTER, addr("2001:db8::1"), target, 0xc0);
    assert_eq!(seen(&answers), [all, routers, answer]);
    assert_eq!(
        seen(&proxy.received(UPLINK, ROUTER, &solicits("2001:db8::c003"), now)),
        [answer],
        "it is known now"
    );
    assert_eq!(proxy.counts().all().answers(), 2);
    assert_eq!(proxy.counts().all().unanswered[&Unanswered::Unknown], 1);
}

#[test]
fn nothing_but_containers_is_answered_for() {
    let (mut proxy, now) = proxy(place());
    for target in ["2001:db8::c008", "2001:db8::c000", "2001:db8::1", "2001:db8:1::c003", "fe80::7"] {
        assert_eq!(proxy.received(UPLINK, ROUTER, &solicits(target), now), [], "{target}");
    }
    assert_eq!(
        (proxy.ask(now, |_| true), proxy.counts().all().unanswered[&Unanswered::Elsewhere]),
        (vec![], 5)
    );
    assert_eq!(proxy.received(9, ROUTER, &solicits("2001:db8::c001"), now), [], "another link");
    let answer = proxy.received(UPLINK, ROUTER, &solicits("2001:db8::c001"), now);
    assert_eq!(answer.len(), 1, "the bridge's own address is in use");
}

#[test]
fn a_probe_for_duplicates_is_answered_to_all_if_the_address_is_in_use() {
    for answer in [Answer::Live, Answer::All] {
        let (mut proxy, now) = proxy(Place { answer, ..place() });
        let probe = message(Kind::Solicitation, "::", "2001:db8::c003", ROUTER);
        assert_eq!(proxy.received(UPLINK, ROUTER, &probe, now), [], "{answer:?}");
        let answers = proxy.received(BRIDGE, CONTAINER, &says("2001:db8::c003"), now);
        let target = addr("2001:db8::c003");
        let all = (UPLINK, multicast_mac(ALL_NODES), ALL_NODES, target, 0x80);
        assert_eq!(seen(&answers)[2], all);
        assert_eq!(seen(&proxy.received(UPLINK, ROUTER, &probe, now)), [all]);
        let other = message(Kind::Solicitation, "::", "2001:db8::c004", ROUTER);
        proxy.received(UPLINK, ROUTER, &other, now);
        for later in 0..20 {
            proxy.ask(now + Duration::from_millis(100 * later), |_| true);
        }
        assert_eq!(proxy.alive().count(), 2, "the bridge and one container");
    }
}

#[test]
fn settings_decide_what_and_how_is_answered() {
    let all = Place { answer: Answer::All, overrides: true, source: Source::Target, ..place() };
    let (mut proxy, now) = proxy(all);
    let answer = proxy.received(UPLINK, ROUTER, &solicits("2001:db8::c003"), now);
    assert_eq!(seen(&answer)[0].4, 0xe0);
    assert_eq!(decode(&answer[0].packet).unwrap().source, addr("2001:db8::c003"));
}

#[test]
fn what_moved_here_replaces_what_neighbours_knew() {
    let (mut proxy, now) = proxy(Place { moved: place().prefixes, ..place() });
    let sent = proxy.received(BRIDGE, CONTAINER, &says("2001:db8::c003"), now);
    assert!(seen(&sent).iter().all(|it| it.4 == 0xa0), "{sent:?}");
}

#[test]
fn an_address_is_gone_only_if_its_bridge_is_heard() {
    let mut at = place();
    let other = Bridge {
        link: BRIDGE + 1,
        prefixes: vec!["2001:db8::d000/125".parse().unwrap()],
        ..at.bridges[0].clone()
    };
    at.bridges.push(other);
    let (mut proxy, now) = proxy(at);
    proxy.adopt([addr("2001:db8::c003")], now);
    let mut after = |link: u32, from: u64| {
        for later in 0..20 {
            proxy.ask(now + Duration::from_secs(from) + Duration::from_millis(200 * later), |heard| {
                heard == link
            });
        }
        proxy.alive().filter(|alive| *alive == addr("2001:db8::c003")).count()
    };
    assert_eq!(after(BRIDGE + 1, 0), 1, "nobody would hear its answer");
    assert_eq!(after(BRIDGE, 9), 0);
}

#[test]
fn neighbours_on_a_link_without_the_prefix_are_not_answered() {
    let other = Uplink { link: UPLINK + 100, mac: [8; 6], source: addr("fe80::8"), kernel_hears: true };
    let mut at = place();
    at.uplinks.push(other);
    at.off_link = vec![(other.link, at.prefixes[0])];
    let (mut proxy, now) = proxy(at);
    let announced = proxy.received(BRIDGE, CONTAINER, &says("2001:db8::c003"), now);
    assert!(!announced.is_empty() && announced.iter().all(|sent| sent.link == UPLINK), "{announced:?}");
    assert_eq!(proxy.received(UPLINK, ROUTER, &solicits("2001:db8::c003"), now).len(), 1);
    assert_eq!(proxy.received(other.link, ROUTER, &solicits("2001:db8::c003"), now), []);
    assert_eq!(proxy.counts().links[&other.link].unanswered[&Unanswered::Elsewhere], 1);
}

#[test]
fn a_silent_source_has_its_answer_at_the_frames_sender() {
    let (mut proxy, now) = proxy(place());
    proxy.received(BRIDGE, CONTAINER, &says("2001:db8::c003"), now);
    let without = Message { mac: None, ..solicits("2001:db8::c003") };
    assert_eq!(proxy.received(UPLINK, ROUTER, &without, now)[0].to, ROUTER);
    let other = Message { mac: Some([6; 6]), ..without };
    assert_eq!(proxy.received(UPLINK, ROUTER, &other, now)[0].to, [6; 6]);
}

#[test]
fn containers_are_heard_by_whatever_they_say() {
    let (mut proxy, now) = proxy(place());
    let asks = message(Kind::Solicitation, "2001:db8::c003", "2001:db8::c001", CONTAINER);
    assert_eq!(proxy.received(BRIDGE, CONTAINER, &asks, now).len(), 2);
    assert_eq!(proxy.received(BRIDGE, CONTAINER, &asks, now), []);
    let detects = message(Kind::Solicitation, "::", "2001:db8::c004", CONTAINER);
    assert_eq!(proxy.received(BRIDGE, CONTAINER, &detects, now), []);
    assert_eq!(proxy.ask(now + Duration::from_millis(999), |_| true), []);
    assert_eq!(proxy.ask(now + Duration::from_secs(1), |_| true).len(), 1);
    for foreign in ["2001:db8::1", "2001:db8::c001", "fe80::9"] {
        assert_eq!(proxy.received(BRIDGE, CONTAINER, &says(foreign), now), [], "{foreign}");
    }
    assert_eq!(proxy.alive().count(), 2);
}

#[test]
fn a_flood_is_bounded() {
    let wide = "2001:db8:1::/64".parse().unwrap();
    let mut at = place();
    (at.prefixes, at.bridges[0].prefixes) = (vec![wide], vec![wide]);
    let (mut proxy, now) = proxy(at);
    for n in 1..50_000 {
        proxy.received(UPLINK, ROUTER, &solicits(&format!("2001:db8:1::{n:x}")), now);
    }
    assert_eq!(proxy.counts().all().unanswered[&Unanswered::Unknown], u64::from(2 * ASKS));
    let asked = proxy.ask(now, |_| true);
    assert_eq!((asked.len(), proxy.next_due()), (50, Some(now + PAUSE)));
    proxy.set_ports(1000);
    let asked = proxy.ask(now + PAUSE, |_| true);
    assert_eq!(asked.len(), 5, "each makes a thousand packets");
    proxy.adopt((1..20).map(|n| addr(&format!("2001:db8:1::ffff:{n:x}"))), now);
    let asked = proxy.ask(now + PAUSE * 2, |_| true);
    let in_use = asked.iter().filter(|it| proxy.is_alive(decode(&it.packet).unwrap().target)).count();
    assert!(in_use >= 5, "{in_use} of {}: those in use come first", asked.len());
    let other = [2, 0, 0, 0, 0, 5];
    assert_eq!(proxy.received(UPLINK, other, &solicits("2001:db8:1::fff0"), now), []);
    assert_eq!(
        proxy.counts().all().unanswered[&Unanswered::Unknown],
        u64::from(2 * ASKS) + 1,
        "another neighbour is served"
    );
}

#[test]
fn answers_are_counted_by_uplink_and_kind() {
    let (mut proxy, now) = proxy(place());
    let target = "2001:db8::c003";
    proxy.received(UPLINK, ROUTER, &message(Kind::Solicitation, "::", target, ROUTER), now);
    proxy.received(BRIDGE, CONTAINER, &says(target), now);
    proxy.received(UPLINK, ROUTER, &solicits(target), now);
    let unicast = Message { destination: addr(target), ..solicits(target) };
    proxy.received(UPLINK, ROUTER, &unicast, now);
    proxy.received(UPLINK, ROUTER, &solicits("2001:db8::d000"), now);
    let counts = &proxy.counts().links[&UPLINK];
    let answered: Vec<_> = counts.answered.iter().map(|(form, count)| (*form, *count)).collect();
    assert_eq!(answered, [(Form::Multicast, 1), (Form::Unicast, 1), (Form::Detection, 1)]);
    assert_eq!(counts.unanswered, [(Unanswered::Elsewhere, 1), (Unanswered::Unknown, 1)].into());
    assert_eq!(counts.advertised, 2, "to all nodes, and to all routers");
}

#[test]
fn it_is_known_how_an_address_was_learnt() {
    use crate::targets::Learnt;
    let (mut proxy, now) = proxy(place());
    let [heard, asked, adopted] = ["2001:db8::c002", "2001:db8::c003", "2001:db8::c004"].map(addr);
    proxy.adopt([adopted], now);
    proxy.received(BRIDGE, CONTAINER, &says("2001:db8::c002"), now);
    proxy.received(UPLINK, ROUTER, &solicits("2001:db8::c003"), now);
    proxy.ask(now, |_| true);
    proxy.received(BRIDGE, CONTAINER, &says("2001:db8::c003"), now);
    let learnt = |proxy: &Proxy, addr| proxy.in_use(addr).map(|it| it.learnt);
    assert_eq!(learnt(&proxy, heard), Some(Learnt::Heard));
    assert_eq!(learnt(&proxy, asked), Some(Learnt::Asked));
    assert_eq!(learnt(&proxy, adopted), Some(Learnt::Adopted));
    proxy.received(BRIDGE, CONTAINER, &says("2001:db8::c004"), now);
    assert_eq!(learnt(&proxy, adopted), Some(Learnt::Asked), "it was asked for, and has answered");
    assert_eq!(learnt(&proxy, addr("2001:db8::c005")), None);
}

#[test]
fn a_neighbour_that_does_not_hear_the_answers_is_known() {
    let (mut proxy, mut now) = proxy(place());
    proxy.leave_to_kernel(addr("2001:db8::c003"), true);
    proxy.received(BRIDGE, CONTAINER, &says("2001:db8::c003"), now);
    for _ in 0..8 {
        proxy.received(UPLINK, ROUTER, &solicits("2001:db8::c003"), now);
        proxy.received(UPLINK, ROUTER, &solicits("2001:db8::c005"), now);
        now += Duration::from_secs(1);
    }
    let unheeded = [(addr("2001:db8::c003"), ROUTER)].into();
    assert_eq!(proxy.unheeded(now), unheeded, "the kernel answers for one, and nobody for the other");
    let checks = Message { destination: addr("2001:db8::c003"), ..solicits("2001:db8::c003") };
    proxy.received(UPLINK, ROUTER, &checks, now);
    assert_eq!(proxy.unheeded(now), [].into(), "it knows the address");
}
