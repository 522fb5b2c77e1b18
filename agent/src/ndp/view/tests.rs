use std::time::Duration;

use sextant_ndp::proxy::{Bridge, Counts, Unanswered, Uplink};
use sextant_proto::Uplink as Announced;

use super::*;

fn addr(n: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0xc000, n)
}

fn uplink(link: u32, interface: &str) -> LocalUplink {
    let uplink = Announced { interface: interface.into(), addresses: Vec::new() };
    LocalUplink { link, works: true, uplink, link_local: None, on_link: Arc::default() }
}

/// The bridge has ::1, the engine's container ::2, another one ::3; the kernel answers for the first two.
fn view() -> View {
    let prefix = "2001:db8::c000:0/125".parse().unwrap();
    let now = Instant::now() + Duration::from_secs(100);
    let since = now - Duration::from_secs(60);
    let seat = Some((7, [2, 0, 0, 0, 0, 9]));
    let in_use = |learnt| Some(InUse { learnt, since, seat });
    let place = Place {
        prefixes: vec![prefix],
        uplinks: vec![Uplink { link: 2, mac: [2, 0, 0, 0, 0, 2], source: addr(0), kernel_hears: true }],
        bridges: vec![Bridge {
            link: 7,
            mac: [2; 6],
            source: addr(1),
            prefixes: vec![prefix],
            own: vec![addr(1)],
        }],
        answers: true,
        ..Place::default()
    };
    let mut counts = LinkCounts::default();
    counts.answered.insert(Form::Unicast, 4);
    counts.unanswered.insert(Unanswered::Limit, 5);
    let settings =
        NdpSettings { mode: NdpMode::Prefix, answer: Answer::Live, overrides: false, source: Source::Target };
    View {
        standing: Standing {
            settings,
            withdrawn: false,
            place,
            kernel: [addr(1), addr(2)].into_iter().collect(),
            entries: [(2, 2)].into(),
            uplinks: vec![uplink(2, "eth0")],
            trouble: None,
            others: BTreeMap::new(),
        },
        details: Details {
            in_use: vec![
                (addr(1), None),
                (addr(2), in_use(targets::Learnt::Asked)),
                (addr(3), in_use(targets::Learnt::Heard)),
            ],
            counts: Counts { links: [(2, counts)].into() },
            groups: [(2, 3)].into(),
            heard: [2, 7].into(),
        },
        names: [(addr(2), "web".to_owned())].into(),
        now,
        now_unix_ms: 1_000_000,
    }
}

#[test]
fn counts_come_without_addresses_and_addresses_when_they_are_asked_for() {
    let view = view();
    let report = view.report(Wanted::Counts);
    assert_eq!((report.mode.as_str(), report.source.as_str(), report.in_use), ("prefix", "target", 3));
    let expected = NdpUplink {
        interface: "eth0".into(),
        mac: Some([2, 0, 0, 0, 0, 2]),
        up: true,
        heard: true,
        entries: 2,
        groups: 3,
        unicast: 4,
        refused: vec![("limit".into(), 5)],
        ..NdpUplink::default()
    };
    assert_eq!((report.uplinks, report.addresses), (vec![expected], vec![]));
    let known: Vec<_> =
        view.report(Wanted::All).addresses.iter().map(|it| (it.learnt.unwrap(), it.by)).collect();
    let expected =
        [(Learnt::Bridge, By::Kernel), (Learnt::Engine, By::Kernel), (Learnt::Neighbour, By::Agent)];
    assert_eq!(known, expected);
    let web = view.address(addr(2));
    assert_eq!((web.container.as_deref(), web.since_unix_ms), (Some("web"), 940_000));
}

#[test]
fn the_list_is_cut_off() {
    let mut view = view();
    let many = (0..u16::MAX).map(|n| (addr(n), None));
    view.details.in_use = many.take(MOST_NDP_ADDRESSES + 5).collect();
    let report = view.report(Wanted::All);
    assert_eq!((report.addresses.len(), report.more), (MOST_NDP_ADDRESSES, 5));
    assert_eq!(report.in_use as usize, MOST_NDP_ADDRESSES + 5);
}

#[test]
fn it_is_said_why_nobody_answers() {
    let why = |n: u16, change: &dyn Fn(&mut View)| {
        let mut view = view();
        change(&mut view);
        let it = view.address(addr(n));
        (it.by, it.why)
    };
    let nobody = |why: &str| (By::Nobody, why.to_owned());
    assert_eq!(why(2, &|_| {}), (By::Kernel, String::new()));
    assert_eq!(why(3, &|_| {}), (By::Agent, String::new()));
    assert_eq!(why(5, &|_| {}), nobody("not in use here: no container has it"));
    assert_eq!(why(9, &|_| {}), nobody("it is in no container prefix of this host"));
    assert!(why(0, &|_| {}).1.starts_with("it is the first address of a container prefix"));
    let all = |view: &mut View| view.standing.settings.answer = Answer::All;
    assert_eq!(why(5, &all), (By::Agent, String::new()));
    let down = |view: &mut View| view.standing.uplinks[0].works = false;
    assert_eq!(why(2, &down), nobody("eth0 is down"));
    let drained = |view: &mut View| view.standing.withdrawn = true;
    assert_eq!(why(2, &drained), nobody("the host is drained"));
    assert_eq!(why(9, &drained), nobody("it is in no container prefix of this host"));
    let one_down =
        |view: &mut View| view.standing.uplinks.push(LocalUplink { works: false, ..uplink(3, "eth1") });
    assert_eq!(why(2, &one_down), (By::Kernel, "eth1 is down".to_owned()));
    let other = |view: &mut View| {
        view.standing.others.insert(addr(2), [2, 0, 0, 0, 0, 8]);
    };
    let too = "the host with MAC address 02:00:00:00:00:08 advertises it too";
    assert_eq!(why(2, &other), (By::Kernel, too.to_owned()));
    assert_eq!(why(3, &other), (By::Agent, String::new()));
    let both = |view: &mut View| {
        one_down(view);
        other(view);
    };
    assert_eq!(why(2, &both).1, format!("eth1 is down; {too}"));
    let deaf = |view: &mut View| view.standing.trouble = Some("cannot be heard".into());
    assert_eq!(why(3, &deaf), nobody("cannot be heard"));
    assert_eq!(why(2, &deaf), (By::Kernel, String::new()), "the kernel hears for itself");
    let by_address = |view: &mut View| view.standing.settings.mode = NdpMode::Address;
    assert!(why(3, &by_address).1.starts_with("the kernel has no proxy entry"));
}
