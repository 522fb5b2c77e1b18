use super::*;

const IDLE: Duration = Duration::from_secs(60);
const HERE: IpAddr = IpAddr::V6(std::net::Ipv6Addr::LOCALHOST);

#[tokio::test(start_paused = true)]
async fn one_address_and_one_member_have_a_part_of_the_places_only() {
    let (mut book, now) = (Book::default(), Instant::now());
    let there: IpAddr = "2001:db8::1".parse().unwrap();
    let open: Vec<_> = (0..7).map(|_| book.add(now, there)).collect();
    assert_eq!(book.verdict_on(there, 7, now), Verdict::Refuse);
    assert_eq!(book.verdict_on(there, 7, now + GRACE), Verdict::Replace(open[0].0), "its own silent one");
    assert_eq!([book.verdict_on(there, 8, now), book.verdict_on(HERE, 7, now)], [Verdict::Admit; 2]);
    let within: Vec<bool> = open.iter().map(|(id, ..)| book.identify(*id, "node h1".into(), 3)).collect();
    assert_eq!(within, [true, true, true, false, false, false, false]);
    assert!(book.identify(open[4].0, "node h2".into(), 3));
    book.open.remove(&open[0].0);
    assert!(book.identify(open[5].0, "node h1".into(), 3), "one of its connections is closed");
    let shares = |most| {
        Connections::new(10_000, Some(most), IDLE, &Limits::default(), RefusedCalls::default())
            .shared
            .of_address
    };
    assert_eq!((shares(2400), shares(8)), (2100, 7), "agents behind one address leave an eighth");
}

#[test]
fn descriptors_are_reserved_for_others() {
    let most = |descriptors, most| {
        Connections::new(descriptors, most, IDLE, &Limits::default(), RefusedCalls::default()).counts().most
    };
    assert_eq!(most(1024, None), 928);
    assert_eq!(most(1024, Some(100)), 100);
    assert_eq!(most(1024, Some(2000)), 928);
    assert_eq!(most(64, None), 32);
}

#[tokio::test(start_paused = true)]
async fn the_last_places_are_for_this_host_and_silent_connections_are_replaced() {
    let (mut book, now) = (Book::default(), Instant::now());
    let mut open = Vec::new();
    for _ in 0..6 {
        assert_eq!(book.verdict(false, 8, 2, now), Verdict::Admit);
        open.push(book.add(Instant::now(), HERE));
    }
    let calls = |number: usize| open[number].1.begin();
    let _kept: Vec<_> = (1..6).map(calls).collect();
    assert_eq!(book.verdict(false, 8, 2, now), Verdict::Refuse, "it has time for its first call");
    let now = now + GRACE;
    assert_eq!(book.verdict(false, 8, 2, now), Verdict::Replace(open[0].0), "the silent one");
    drop(calls(0));
    assert_eq!(book.verdict(false, 8, 2, now), Verdict::Refuse);
    assert_eq!(book.verdict(true, 8, 2, now), Verdict::Admit, "an operator on this host");
    let (closing, _, closed) = &mut open[3];
    book.close(*closing);
    assert!(closed.try_recv().is_ok());
    assert_eq!(book.verdict(false, 8, 2, now), Verdict::Admit, "it is being closed");
}

#[tokio::test(start_paused = true)]
async fn unused_connections_are_closed() {
    let (mut book, now) = (Book::default(), Instant::now());
    let mut add = || book.add(now, HERE);
    let ((_, streams, _kept), (_, _, mut silent), (_, calls, mut idle)) = (add(), add(), add());
    let stream = streams.begin();
    let (first, second) = (calls.begin(), calls.begin());
    let mut close = |after: Duration| {
        let Closed { silent, idle } = book.close_unused(now + after, IDLE);
        (silent, idle)
    };
    assert_eq!(close(SILENT / 2), (0, 0));
    assert_eq!(close(SILENT), (1, 0));
    assert!(silent.try_recv().is_ok());
    tokio::time::advance(IDLE).await;
    drop(first);
    assert_eq!(close(3 * IDLE), (0, 0), "a call is still in progress on each");
    drop(second);
    assert_eq!(close(IDLE + IDLE / 2), (0, 0));
    assert_eq!(close(2 * IDLE), (0, 1));
    assert!(idle.try_recv().is_ok());
    assert_eq!(close(9 * IDLE), (0, 0), "once; the stream stays");
    drop(stream);
    assert_eq!(close(9 * IDLE), (0, 1));
}
