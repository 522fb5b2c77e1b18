mod many_agents;
mod slow_store;

use sextant_proto::PoolName;

use super::*;
use crate::registry::fake::FakeStore;

const DOWN_AFTER: Duration = Duration::from_secs(3);

fn node() -> NodeName {
    "h1".parse().unwrap()
}

fn keys() -> Keys {
    Keys::new(&"default".parse::<PoolName>().unwrap())
}

async fn controller(store: &FakeStore, id: &str) -> Sessions {
    let me = Identity { id: id.into(), address: String::new(), replaces: Replaces::None };
    let sessions = Sessions::new(store.client().0, keys(), me, DOWN_AFTER, Heartbeat::unwatched());
    sessions.keep_lease().await.unwrap();
    sessions
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
