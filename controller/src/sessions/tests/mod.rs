mod many_agents;
mod slow_store;

use sextant_proto::PoolName;

use super::*;
use crate::registry::fake::{FakeStore, Link};

const DOWN_AFTER: Duration = Duration::from_secs(3);

fn node() -> NodeName {
    "h1".parse().unwrap()
}

fn keys() -> Keys {
    Keys::new(&"default".parse::<PoolName>().unwrap())
}

async fn controller(store: &FakeStore, id: &str) -> Sessions {
    linked_controller(store, id).await.0
}

/// A controller, and its link to the store.
async fn linked_controller(store: &FakeStore, id: &str) -> (Sessions, watch::Sender<Link>) {
    let me = Identity { id: id.into(), address: String::new(), replaces: Replaces::None, tls: TlsMode::Off };
    let (client, link) = store.client();
    let sessions = Sessions::new(client, keys(), me, DOWN_AFTER, Heartbeat::unwatched());
    sessions.keep_lease().await.unwrap();
    (sessions, link)
}

/// An agent of [`node`] that connects here.
async fn connect(sessions: &Sessions) -> Attachment {
    let attachment = sessions.attach(&node(), None, None).unwrap();
    attachment.put_session().await.unwrap();
    attachment
}

/// At which controller the node's session stands.
fn at(store: &FakeStore) -> Option<String> {
    let entries = store.snapshot().within(&KeyRange::key(&keys().session(&node())));
    entries.first().map(|entry| SessionRecord::decode(&entry.value).unwrap().controller)
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_was_frozen_leaves_the_sessions_of_agents_that_moved() {
    let store = FakeStore::new();
    let (frozen, other) = (controller(&store, "c1").await, controller(&store, "c2").await);
    let old = connect(&frozen).await;
    // Its agents go elsewhere while it is frozen, and its lease ends.
    store.elapse(2 * DOWN_AFTER);
    other.keep_lease().await.unwrap();
    let _new = connect(&other).await;
    assert_eq!(at(&store).as_deref(), Some("c2"));
    frozen.keep_lease().await.unwrap();
    assert_eq!(at(&store).as_deref(), Some("c2"), "the stream is open still, as far as it knows");
    drop(old);
    tokio::time::advance(2 * DOWN_AFTER).await;
    frozen.end_lost(&mut Outage::default()).await;
    assert_eq!(at(&store).as_deref(), Some("c2"));
}

#[tokio::test(start_paused = true)]
async fn a_controller_puts_its_sessions_again_after_its_lease_has_ended() {
    let store = FakeStore::new();
    let sessions = controller(&store, "c1").await;
    let _agent = connect(&sessions).await;
    store.elapse(2 * DOWN_AFTER);
    assert_eq!(at(&store), None);
    sessions.keep_lease().await.unwrap();
    assert_eq!(at(&store).as_deref(), Some("c1"));
}

#[tokio::test(start_paused = true)]
async fn a_lost_agents_session_is_ended_once_the_store_answers_again() {
    let store = FakeStore::new();
    let (sessions, link) = linked_controller(&store, "c1").await;
    drop(connect(&sessions).await);
    tokio::time::advance(DOWN_AFTER).await;
    let mut outage = Outage::default();
    for (now, there) in [(Link::Down, true), (Link::ReadOnly, true), (Link::Up, true)] {
        link.send_replace(now);
        sessions.end_lost(&mut outage).await;
        assert_eq!(at(&store).is_some(), there, "{now:?}");
    }
    // Its agent has had the time to return with the store, and has not.
    tokio::time::advance(Duration::from_secs(15)).await;
    sessions.end_lost(&mut outage).await;
    assert_eq!(at(&store), None);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_is_back_keeps_its_session_if_the_end_of_its_lost_one_is_retried() {
    let store = FakeStore::new();
    let (sessions, link) = linked_controller(&store, "c1").await;
    drop(connect(&sessions).await);
    tokio::time::advance(DOWN_AFTER).await;
    let mut outage = Outage::default();
    link.send_replace(Link::Down);
    sessions.end_lost(&mut outage).await;
    link.send_replace(Link::Up);
    let _back = connect(&sessions).await;
    tokio::time::advance(Duration::from_secs(1)).await;
    sessions.end_lost(&mut outage).await;
    assert_eq!(at(&store).as_deref(), Some("c1"));
}
