//! Streams in another node's name, and without end.

use std::time::Instant;

use sextant_proto::{
    Incarnation,
    v1::{Epoch, Hello, Keepalive, agent_message::Message, controller_message as from},
};
use sextant_tests::{
    ControllerOptions, SECONDS,
    cluster::{Cluster, GUIDE},
    poll,
};

use crate::node::HostileNode;

#[test]
fn i14_nobody_takes_the_stream_of_another_node() {
    let cluster = Cluster::start("hostile hello", 2, GUIDE);
    let controller = cluster.controller.as_ref().unwrap();
    let evil = HostileNode::new(controller, "evil");
    let (own, victim) = (evil.hello(), cluster.node("h1"));
    let (revision, incarnation) = epoch_of(&victim);
    let epoch = Epoch { incarnation: incarnation.into(), revision };
    evil.open(own.clone()).unwrap().expect(|message| matches!(message, from::Message::Welcome(_))).unwrap();
    let claims = [
        (
            "another node's name and epoch, its own id",
            Hello { node: "h1".into(), epoch: Some(epoch), ..own.clone() },
        ),
        ("another node's name, its own epoch", Hello { node: "h1".into(), ..own.clone() }),
        ("a name that is not taken", Hello { node: "h77".into(), ..own.clone() }),
        (
            "its own name, another id",
            Hello { node_id: sextant_proto::NodeId::random().into(), ..own.clone() },
        ),
        (
            "its own name, an epoch that never was",
            Hello {
                epoch: own.epoch.clone().map(|epoch| Epoch { revision: epoch.revision + 1, ..epoch }),
                ..own.clone()
            },
        ),
    ];
    for (what, hello) in claims {
        let refused =
            match evil.open(hello).map(|mut stream| (stream.hear().unwrap(), stream.hear().unwrap())) {
                Ok((first, then)) => matches!(first, Some(from::Message::Fenced(_))) && then.is_none(),
                // What the store does not know may be of a later state of it; what it knows as another node's is a copy.
                Err(status) => {
                    matches!(status.code(), tonic::Code::Unavailable | tonic::Code::AlreadyExists)
                }
            };
        assert!(refused, "{what}");
        assert_eq!(cluster.node("h1")["connected"], true, "{what}");
    }
    let log = cluster.agents[0].process.log();
    assert!(!log.contains("superseded") && !log.contains("duplicate-agent"), "{log}");
}

#[test]
fn a_second_hello_on_one_stream_ends_it() {
    let cluster = Cluster::start("hostile hellos", 1, GUIDE);
    let evil = HostileNode::new(cluster.controller.as_ref().unwrap(), "evil");
    let mut stream = evil.open(evil.hello()).unwrap();
    stream.expect(|message| matches!(message, from::Message::SnapshotBegin(_))).unwrap();
    stream.say(Message::Hello(evil.hello()));
    let status = stream.expect(|_| false).unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status}");
    assert!(status.message().contains("a second hello on one stream"), "{status}");
}

/// Nobody keeps a stream open for nothing.
#[test]
fn a_stream_without_a_hello_ends_within_the_idle_timeout() {
    let mut cluster = Cluster::without_agents("hostile silence", 1, GUIDE);
    cluster.controller = None;
    let args = ["--idle-timeout", "2"].map(str::to_owned).to_vec();
    cluster.start_controller(ControllerOptions { args, ..ControllerOptions::default() });
    let evil = HostileNode::new(cluster.controller.as_ref().unwrap(), "evil");
    let (began, refused) = (Instant::now(), evil.open_with(None).err().expect("no hello"));
    assert_eq!(refused.code(), tonic::Code::DeadlineExceeded, "{refused}");
    assert!(refused.message().contains("no hello received within 2s"), "{refused}");
    assert!(began.elapsed() >= 2 * SECONDS, "{refused}");
    let other = evil.open_with(Some(Message::Keepalive(Keepalive::default()))).err().expect("no hello");
    assert_eq!(other.code(), tonic::Code::InvalidArgument, "{other}");
}

/// The agent hears the reason before its session ends.
#[test]
fn a_stream_on_which_nothing_is_said_ends_before_its_agent_counts_as_lost() {
    let cluster = Cluster::with_short_down_after("hostile mute", 1, GUIDE);
    let evil = HostileNode::new(cluster.controller.as_ref().unwrap(), "evil");
    let mut stream = evil.open(evil.hello()).unwrap();
    let status = stream.expect(|_| false).unwrap_err();
    assert_eq!(status.code(), tonic::Code::DeadlineExceeded, "{status}");
    assert!(status.message().contains("no message from the agent"), "{status}");
}

/// Revisions of another store cannot be compared.
#[test]
fn i6_deltas_continue_from_a_revision_of_the_same_store_alone() {
    let cluster = Cluster::with_short_down_after("hostile resumption", 1, GUIDE);
    let evil = HostileNode::new(cluster.controller.as_ref().unwrap(), "evil");
    let hello = evil.hello();
    let mut first = evil.open(hello.clone()).unwrap();
    let begin = first.expect(|message| matches!(message, from::Message::SnapshotBegin(_))).unwrap();
    let from::Message::SnapshotBegin(begin) = begin else { unreachable!("{begin:?}") };
    drop(first);
    let other = Incarnation::random().into();
    for (incarnation, revision, resumes) in [
        (begin.incarnation.clone(), begin.revision, true),
        (begin.incarnation.clone(), 0, false),
        (other, begin.revision, false),
        (Default::default(), begin.revision, false),
    ] {
        let mut stream = evil.open(Hello { incarnation, revision, ..hello.clone() }).unwrap();
        let says_more = |message: &from::Message| {
            matches!(
                message,
                from::Message::SnapshotBegin(_) | from::Message::Delta(_) | from::Message::Keepalive(_)
            )
        };
        let more = stream.expect(says_more).unwrap();
        let resumed = !matches!(more, from::Message::SnapshotBegin(_));
        assert_eq!(resumed, resumes, "revision {revision}: {more:?}");
    }
}

/// Of two streams of one run, the newer one counts.
#[test]
fn a_superseded_stream_ends_and_changes_nothing() {
    let cluster = Cluster::start("hostile twice", 1, GUIDE);
    let evil = HostileNode::new(cluster.controller.as_ref().unwrap(), "evil");
    let hello = evil.hello();
    let mut first = evil.open(hello.clone()).unwrap();
    first.expect(|message| matches!(message, from::Message::SnapshotBegin(_))).unwrap();
    let mut second = evil.open(hello).unwrap();
    second.expect(|message| matches!(message, from::Message::SnapshotBegin(_))).unwrap();
    first.say(Message::Announce(crate::announcements::of(&evil.claim, &["2001:db8::66"])));
    let status = first.expect(|_| false).unwrap_err();
    assert_eq!(status.code(), tonic::Code::Aborted, "{status}");
    second.say(Message::Announce(crate::announcements::of(&evil.claim, &["2001:db8::77"])));
    poll("what the newer one says counts", 5 * SECONDS, || {
        let node = cluster.node("evil");
        anyhow::ensure!(node["next_hops"][0] == "2001:db8::77", "{node}");
        Ok(())
    });
}

/// Revision and incarnation of a node's claim.
fn epoch_of(node: &serde_json::Value) -> (u64, Vec<u8>) {
    let epoch = &node["epoch"];
    let incarnation = epoch["incarnation"].as_str().unwrap();
    let octet = |at: usize| u8::from_str_radix(&incarnation[at..at + 2], 16).unwrap();
    (epoch["revision"].as_u64().unwrap(), (0..incarnation.len()).step_by(2).map(octet).collect())
}

/// Flow control blocks the stream of a client that reads nothing, whatever it sends; it must not count as alive for ever.
#[test]
fn an_agent_that_speaks_and_reads_nothing_is_lost_after_down_after() {
    let cluster = Cluster::with_short_down_after("hostile reader", 1, GUIDE);
    let controller = cluster.controller.as_ref().unwrap();
    let evil = HostileNode::with_window(controller, "evil", Some(256));
    let announce = crate::announcements::of(&evil.claim, &["2001:db8::66"]);
    let hello = evil.hello();
    let mut stream = evil.open(hello).unwrap();
    stream.expect(|message| matches!(message, from::Message::SnapshotBegin(_))).unwrap();
    stream.say(Message::Announce(announce));
    stream.keep_alive();
    poll("it is connected", 5 * SECONDS, || {
        let node = cluster.node("evil");
        anyhow::ensure!(node["connected"] == true, "{node}");
        Ok(())
    });
    // While it reads, it stays so for several times down-after.
    let began = Instant::now();
    while began.elapsed() < 3 * SECONDS {
        assert!(stream.hear().unwrap().is_some());
    }
    assert_eq!(cluster.node("evil")["connected"], true);
    // From now on nobody reads.
    poll("it is lost", 20 * SECONDS, || {
        let node = cluster.node("evil");
        anyhow::ensure!(node["connected"] == false, "{node}");
        Ok(())
    });
    drop(stream);
}
