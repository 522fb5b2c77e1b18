use super::*;

const DOWN_AFTER: Duration = Duration::from_secs(15);
const LOOKS: u32 = 60;

fn node() -> NodeName {
    "host1".parse().unwrap()
}

#[test]
fn a_silent_agent_is_lost_after_a_while_and_once() {
    let (mut book, start) = (Book::default(), Instant::now());
    let (stream, ..) = book.attach(&node(), None, start);
    book.session_put(&node(), LeaseId(1), None);
    assert!(
        book.lost(start + DOWN_AFTER * 9, DOWN_AFTER, LOOKS).is_empty(),
        "connected, however old its last frame"
    );
    book.detach(&node(), stream, start + Duration::from_secs(5));
    assert!(book.lost(start + Duration::from_secs(19), DOWN_AFTER, LOOKS).is_empty());
    assert_eq!(book.lost(start + Duration::from_secs(20), DOWN_AFTER, LOOKS), [(node(), Going::Lost)]);
    assert!(book.lost(start + Duration::from_secs(99), DOWN_AFTER, LOOKS).is_empty());
}

#[test]
fn a_stopped_agent_differs_from_a_lost_one_until_it_is_back() {
    let (mut book, start) = (Book::default(), Instant::now());
    for (back, going) in [(false, Going::Stopped), (true, Going::Lost)] {
        let (mut stream, ..) = book.attach(&node(), None, start);
        book.stops(&node(), stream);
        if back {
            stream = book.attach(&node(), None, start).0;
        }
        book.session_put(&node(), LeaseId(1), None);
        book.detach(&node(), stream, start);
        assert_eq!(book.lost(start + DOWN_AFTER, DOWN_AFTER, LOOKS), [(node(), going)]);
    }
}

#[test]
fn an_agent_that_is_back_before_its_session_was_ended_keeps_it() {
    let (mut book, start) = (Book::default(), Instant::now());
    let (stream, ..) = book.attach(&node(), None, start);
    book.session_put(&node(), LeaseId(1), None);
    book.detach(&node(), stream, start);
    assert_eq!(book.lost(start + DOWN_AFTER, DOWN_AFTER, LOOKS).len(), 1);
    assert!(!book.is_back(&node(), Some(LeaseId(1))), "nobody is there");
    let (stream, ..) = book.attach(&node(), None, start + DOWN_AFTER);
    assert!(book.is_back(&node(), Some(LeaseId(1))) && book.has_session(&node(), LeaseId(1)));
    book.detach(&node(), stream, start + DOWN_AFTER);
    assert_eq!(book.lost(start + DOWN_AFTER * 2, DOWN_AFTER, LOOKS).len(), 1, "it is ended the next time");
}

#[test]
fn an_agent_that_comes_back_in_time_keeps_its_session() {
    let (mut book, start) = (Book::default(), Instant::now());
    let (first, mut superseded, _) = book.attach(&node(), None, start);
    book.session_put(&node(), LeaseId(1), None);
    assert_eq!(superseded.try_recv(), Err(oneshot::error::TryRecvError::Empty));
    let (second, ..) = book.attach(&node(), None, start);
    assert_eq!(superseded.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    book.detach(&node(), first, start);
    assert!(book.lost(start + DOWN_AFTER, DOWN_AFTER, LOOKS).is_empty(), "the older stream's end is nothing");
    assert!(book.is_current(&node(), second) && !book.is_current(&node(), first));
    assert!(book.has_session(&node(), LeaseId(1)));
}

#[test]
fn two_agents_of_one_node_are_noticed_here_and_at_another_controller() {
    let (mut book, start) = (Book::default(), Instant::now());
    let at = |seconds| start + Duration::from_secs(seconds);
    let (mut streams, node) = (Vec::new(), node());
    for n in 0..4 {
        streams.push(book.attach(&node, None, at(n)).1);
    }
    assert_eq!(book.superseded(&node, at(4)), 3);
    book.session_put(&node, LeaseId(1), None);
    let (there, nowhere) = (HashMap::from([(node.clone(), None)]), HashMap::new());
    for (second, elsewhere) in [(5, &there), (6, &nowhere), (7, &there), (9, &there)] {
        assert!(book.seen_elsewhere(elsewhere, at(second)).is_empty(), "{second}: the index may lag");
    }
    assert_eq!(book.seen_elsewhere(&there, at(10)), std::slice::from_ref(&node));
    assert_eq!(streams[3].try_recv(), Err(oneshot::error::TryRecvError::Closed));
    assert_eq!(book.superseded(&node, at(10)), 4);
    assert_eq!(book.superseded(&node, at(306)), 1, "what is long ago is forgotten");
}

#[test]
fn supersessions_end_when_none_comes_for_much_longer_than_between_two() {
    let (mut book, start) = (Book::default(), Instant::now());
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut streams = Vec::new();
    for second in [0, 1, 21, 30] {
        streams.push(book.attach(&node(), None, at(second)));
    }
    for (second, expected) in [(30, 3), (90, 3), (91, 0)] {
        assert_eq!(book.superseded(&node(), at(second)), expected, "{second}");
    }
    streams.push(book.attach(&node(), None, at(95)));
    assert_eq!(book.superseded(&node(), at(95)), 4, "they go on");
}

#[test]
fn the_same_run_takes_its_own_place_and_another_run_is_asked_for() {
    let (mut book, now) = (Book::default(), Instant::now());
    let [one, two] = [(); 2].map(|()| Some(InstanceId::random()));
    let (first, ..) = book.attach(&node(), one, now);
    for (asking, asks) in [(one, false), (two, true), (None, false)] {
        assert_eq!(book.other_run(&node(), asking).is_some(), asks, "{asking:?}");
    }
    assert_eq!(book.other_run(&node(), two).unwrap(), Present { stream: first, instance: one.unwrap() });
    let (second, ..) = book.attach(&node(), one, now);
    assert_eq!(book.superseded(&node(), now), 0, "its own stream, anew");
    book.detach(&node(), second, now);
    assert_eq!(book.other_run(&node(), two), None, "nobody is connected");
    book.attach(&node(), None, now);
    assert_eq!(book.other_run(&node(), two), None, "an older agent does not say which it is");
    book.attach(&node(), two, now);
    assert_eq!(book.superseded(&node(), now), 1, "that of the older agent");
}

#[test]
fn a_session_names_the_run_that_it_is_of() {
    let (mut book, start) = (Book::default(), Instant::now());
    let at = |seconds| start + Duration::from_secs(seconds);
    let [one, two] = [(); 2].map(|()| Some(InstanceId::random()));
    book.attach(&node(), one, start);
    book.session_put(&node(), LeaseId(1), one);
    book.attach(&node(), two, start);
    assert!(!book.has_session(&node(), LeaseId(1)), "it must be put again");
    book.session_put(&node(), LeaseId(1), two);
    assert!(book.has_session(&node(), LeaseId(1)));
    let before = book.superseded(&node(), start);
    for (instance, superseded) in [(two, before), (one, before + 1)] {
        let there = HashMap::from([(node(), instance)]);
        assert!(book.seen_elsewhere(&there, at(1)).is_empty());
        assert_eq!(book.seen_elsewhere(&there, at(4)), [node()]);
        assert_eq!(book.superseded(&node(), at(4)), superseded, "it moved itself, or another took its place");
        book.session_put(&node(), LeaseId(1), two);
    }
}

#[test]
fn a_duplicate_is_a_finding_for_as_long_as_it_tries() {
    let (mut book, start) = (Book::default(), Instant::now());
    let at = |seconds| start + Duration::from_secs(seconds);
    book.attach(&node(), Some(InstanceId::random()), start);
    let logged: Vec<_> = (0..=12).filter_map(|n| book.refused(&node(), "h9", at(n * 5))).collect();
    assert_eq!(logged, [1, 12], "when it begins, and once a minute");
    assert_eq!(book.duplicates(at(79)), HashMap::from([(node(), "h9".to_owned())]));
    book.attach(&node(), Some(InstanceId::random()), at(79));
    assert_eq!(book.duplicates(at(79)).len(), 1, "a reconnect of the right one changes nothing");
    assert!(book.duplicates(at(80)).is_empty());
    assert_eq!(book.refused(&node(), "h9", at(200)), Some(1), "it has begun anew");
}

#[test]
fn sessions_move_to_a_new_lease() {
    let (mut book, start) = (Book::default(), Instant::now());
    book.attach(&node(), None, start);
    assert!(book.to_move(LeaseId(2)).is_empty(), "not announced: no session to move");
    book.session_put(&node(), LeaseId(1), None);
    assert_eq!(book.to_move(LeaseId(2)), [node()]);
    book.session_put(&node(), LeaseId(2), None);
    assert!(book.to_move(LeaseId(2)).is_empty());
}

#[test]
fn a_session_that_is_gone_from_the_store_for_a_while_is_missing() {
    let (mut book, start) = (Book::default(), Instant::now());
    let at = |seconds| start + Duration::from_secs(seconds);
    let (_stream, _newest, _) = book.attach(&node(), None, start);
    let (there, nowhere) = (HashSet::from([node()]), HashSet::new());
    assert!(book.missing(&nowhere, at(9)).is_empty(), "it has not been put yet");
    book.session_put(&node(), LeaseId(1), None);
    for (second, found) in [(10, &nowhere), (12, &there), (13, &nowhere), (15, &nowhere)] {
        assert!(book.missing(found, at(second)).is_empty(), "{second}: the index may lag");
    }
    assert_eq!(book.missing(&nowhere, at(16)), [node()]);
    assert!(book.missing(&nowhere, at(17)).is_empty(), "it is being put");
}

#[test]
fn a_stream_that_takes_nothing_is_lost_however_much_it_says() {
    let (mut book, now) = (Book::default(), Instant::now());
    let (_, mut lost, taker) = book.attach(&node(), None, now);
    book.session_put(&node(), LeaseId(1), None);
    let mut look = || book.lost(now, DOWN_AFTER, LOOKS);
    for _ in 0..LOOKS * 9 {
        assert!(look().is_empty(), "it has not begun");
    }
    for _ in 0..LOOKS * 9 {
        taker.polled();
        assert!(look().is_empty(), "it is polled between the looks");
    }
    for _ in 1..LOOKS {
        assert!(look().is_empty());
    }
    assert_eq!(look(), [(node(), Going::Blocked)]);
    assert!(lost.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Closed));
}
