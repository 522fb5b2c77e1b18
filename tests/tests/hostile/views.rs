//! The guards of a stream: whether the view that it sends is called current, and which agents lose it.

use sextant_proto::v1::{Drained, Hello, agent_message::Message, controller_message as from};
use sextant_tests::{
    ControllerOptions, Etcd, SECONDS,
    cluster::{Cluster, GUIDE},
    poll,
};

use crate::{announcements, node::HostileNode};

/// A controller on an etcd of one member; a lost lease is noticed after a second.
fn on_etcd(test: &str) -> (Cluster, Etcd) {
    let mut cluster = Cluster::without_agents(test, 1, GUIDE);
    cluster.controller = None;
    let etcd = cluster.lab.etcd(1, &[]).unwrap();
    let args = ["--down-after", "1"].map(str::to_owned).to_vec();
    cluster.start_controller(ControllerOptions {
        store: Some(etcd.store()),
        args,
        ..ControllerOptions::default()
    });
    cluster.add_pool();
    (cluster, etcd)
}

/// Whether the snapshot after this hello is called current.
fn current(node: &HostileNode, hello: Hello) -> anyhow::Result<bool> {
    let mut stream = node.open(hello)?;
    let begin = stream.expect(|message| matches!(message, from::Message::SnapshotBegin(_)))?;
    let from::Message::SnapshotBegin(begin) = begin else { unreachable!("{begin:?}") };
    Ok(begin.linearizable)
}

#[test]
fn i6_a_view_is_current_only_if_the_store_has_answered_since_the_hello() {
    let (cluster, etcd) = on_etcd("view of frozen store");
    let node = HostileNode::new(cluster.controller.as_ref().unwrap(), "n1");
    assert!(current(&node, node.hello()).unwrap());
    etcd.member(0).freeze().unwrap();
    assert!(!current(&node, node.hello()).unwrap(), "the store has not answered");
    etcd.member(0).thaw().unwrap();
    poll("the view is current again", 20 * SECONDS, || {
        anyhow::ensure!(current(&node, node.hello())?, "not current");
        anyhow::Ok(())
    });
}

/// It may be the store that has lost the newer history.
#[test]
fn i6_a_view_is_not_current_for_a_node_that_knows_a_later_revision() {
    let cluster = Cluster::without_agents("view of later revision", 1, GUIDE);
    let node = HostileNode::new(cluster.controller.as_ref().unwrap(), "n1");
    let epoch = node.claim.epoch.clone().unwrap();
    let knows = |revision| Hello { incarnation: epoch.incarnation.clone(), revision, ..node.hello() };
    assert!(current(&node, node.hello()).unwrap());
    assert!(!current(&node, knows(epoch.revision + 1_000_000)).unwrap());
}

#[test]
fn i6_keepalives_report_a_store_that_does_not_answer() {
    let (cluster, etcd) = on_etcd("keepalives of frozen store");
    let node = HostileNode::new(cluster.controller.as_ref().unwrap(), "n1");
    let mut stream = node.open(node.hello()).unwrap();
    stream.keep_alive();
    let mut reported = |stale: bool| {
        poll(&format!("a keepalive with stale: {stale}"), 20 * SECONDS, || {
            let heard = stream.hear()?;
            let is_it =
                matches!(&heard, Some(from::Message::Keepalive(keepalive)) if keepalive.stale == stale);
            anyhow::ensure!(is_it, "{heard:?}");
            anyhow::Ok(())
        });
    };
    reported(false);
    etcd.member(0).freeze().unwrap();
    reported(true);
    etcd.member(0).thaw().unwrap();
    reported(false);
}

/// By the reason the agent removes its routes; after another error it would try again for ever.
#[test]
fn i3_the_stream_of_a_node_that_holds_nothing_any_more_ends_with_the_reason() {
    let cluster = Cluster::without_agents("view fenced", 1, GUIDE);
    let controller = cluster.controller.as_ref().unwrap();
    type Says = fn(&HostileNode) -> Message;
    let says: [(&str, Says); 2] = [
        ("n1", |node| Message::Announce(announcements::of(&node.claim, &["2001:db8::66"]))),
        ("n2", |_| Message::Drained(Drained::default())),
    ];
    for (name, message) in says {
        let node = HostileNode::new(controller, name);
        let mut stream = node.open(node.hello()).unwrap();
        stream.expect(|message| matches!(message, from::Message::SnapshotBegin(_))).unwrap();
        cluster.sextant(&["node", "forget", name, "--force"]);
        stream.say(message(&node));
        let fenced = stream.expect(|message| matches!(message, from::Message::Fenced(_))).unwrap();
        let from::Message::Fenced(fenced) = fenced else { unreachable!("{fenced:?}") };
        assert!(fenced.reason.contains(name), "{fenced:?}");
        assert_eq!(fenced.epoch, node.claim.epoch, "of which claim");
        assert_eq!(stream.hear().unwrap(), None, "nothing follows");
    }
}

#[test]
fn a_revoked_node_opens_no_stream() {
    let cluster = Cluster::without_agents("view revoked", 1, GUIDE);
    let node = HostileNode::new(cluster.controller.as_ref().unwrap(), "n1");
    cluster.sextant(&["node", "revoke", "n1"]);
    let refused = node.open(node.hello()).err().expect("it is revoked");
    assert_eq!(refused.code(), tonic::Code::PermissionDenied, "{refused}");
    assert!(refused.message().contains("node n1 is revoked"), "{refused}");
    cluster.sextant(&["node", "revoke", "n1", "--undo"]);
    assert!(current(&node, node.hello()).unwrap());
}
