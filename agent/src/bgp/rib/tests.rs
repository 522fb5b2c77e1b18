//! The RIB's task in paused time.

use std::net::Ipv6Addr;

use sextant_proto::Prefix;
use tokio::{task::JoinHandle, time::advance};

use super::*;
use crate::routes::{Hop, ReceivedPath};

const METRIC: u32 = 1024;

fn prefixes(numbers: impl IntoIterator<Item = u16>) -> Vec<Prefix> {
    numbers.into_iter().map(|n| format!("2001:db8:{n:x}::/48").parse().unwrap()).collect()
}

fn path(hop: u16) -> ReceivedPath {
    let hop = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, hop);
    ReceivedPath {
        hop: Hop { global: Some(hop), link_local: None, router: hop, interface: None },
        local_pref: 100,
        as_path_len: 2,
        origin: 0,
        external: true,
        neighbour_as: 65000,
        med: 0,
    }
}

fn announces(numbers: impl IntoIterator<Item = u16>, hop: u16) -> RouteUpdate {
    RouteUpdate { announced: Some((prefixes(numbers), path(hop))), ..RouteUpdate::default() }
}

struct Bed {
    routers: Vec<AdjRibIn>,
    imports: watch::Receiver<Arc<Imports>>,
    task: JoinHandle<Infallible>,
}

impl Bed {
    fn start(limits: &[usize]) -> Self {
        let (sender, imports) = watch::channel(Arc::new(Imports::none_yet(METRIC, limits.len())));
        let (task, routers) = RibTask::new(METRIC, limits, sender);
        Self { routers, imports, task: tokio::spawn(task.run()) }
    }

    fn published(&mut self) -> bool {
        let changed = self.imports.has_changed().unwrap();
        self.imports.mark_unchanged();
        changed
    }

    fn routes(&self) -> Vec<Prefix> {
        self.imports.borrow().routes.keys().copied().collect()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Lets the RIB's task run for this long.
async fn pass(time: Duration) {
    tokio::task::yield_now().await;
    advance(time).await;
    for _ in 0..4 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_burst_is_published_once_it_is_over() {
    let mut bed = Bed::start(&[100]);
    bed.routers[0].up().await;
    for n in 0..5 {
        bed.routers[0].update(announces([n], 1)).await.unwrap();
        pass(QUIET / 2).await;
        assert!(!bed.published(), "{n}");
    }
    pass(QUIET).await;
    assert!(bed.published());
    assert_eq!(bed.routes(), prefixes(0..5));
}

#[tokio::test(start_paused = true)]
async fn a_burst_that_does_not_end_is_published_in_parts() {
    let mut bed = Bed::start(&[1000]);
    bed.routers[0].up().await;
    let parts = PATIENCE.as_millis() / (QUIET / 2).as_millis();
    let mut published = 0;
    for n in 0..2 * u16::try_from(parts).unwrap() {
        bed.routers[0].update(announces([n], 1)).await.unwrap();
        pass(QUIET / 2).await;
        published += u32::from(bed.published());
    }
    assert!((1..=2).contains(&published), "{published}");
}

#[tokio::test(start_paused = true)]
async fn the_limit_is_exact_and_counts_what_was_withdrawn() {
    let bed = Bed::start(&[3]);
    let router = &bed.routers[0];
    router.up().await;
    let accepted = router.update(announces(0..3, 1)).await.unwrap();
    assert_eq!(accepted, Accepted { prefixes: 3, limit: Ok(()) });
    let withdraws = RouteUpdate { withdrawn: prefixes([0]), ..announces([3], 1) };
    assert_eq!(router.update(withdraws).await.unwrap(), Accepted { prefixes: 3, limit: Ok(()) });
    assert_eq!(router.update(announces([4], 1)).await.unwrap().limit, Err(TooMany));
}

/// The task is not polled until it is awaited: the inbox fills.
#[tokio::test(start_paused = true)]
async fn a_full_inbox_delays_a_neighbour_and_loses_nothing() {
    let count = u16::try_from(INBOX).unwrap() * 3;
    let (sender, mut imports) = watch::channel(Arc::new(Imports::none_yet(METRIC, 1)));
    let (task, routers) = RibTask::new(METRIC, &[usize::from(count)], sender);
    let router = routers[0].clone();
    router.up().await;
    let sending = tokio::spawn(async move {
        let updates = (0..count).map(|n| router.update(announces([n], 1)));
        futures::future::join_all(updates).await
    });
    pass(PATIENCE).await;
    assert!(!sending.is_finished(), "nobody takes the changes");
    let task = tokio::spawn(task.run());
    let accepted = sending.await.unwrap();
    assert!(accepted.iter().all(|it| it.is_some_and(|it| it.limit.is_ok())));
    pass(PATIENCE).await;
    assert_eq!(imports.borrow_and_update().routes.len(), usize::from(count));
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_session_leaves_its_routes_to_another_router() {
    let mut bed = Bed::start(&[10, 10]);
    for (n, router) in bed.routers.iter().enumerate() {
        router.up().await;
        router.update(announces([7], u16::try_from(n).unwrap() + 1)).await.unwrap();
    }
    pass(PATIENCE).await;
    assert!(bed.published());
    bed.routers[0].down().await;
    pass(PATIENCE).await;
    assert!(bed.published());
    let imports = bed.imports.borrow().clone();
    assert_eq!(imports.routes.values().map(|it| it.as_ref().clone()).collect::<Vec<_>>(), [path(2)]);
}

#[tokio::test(start_paused = true)]
async fn an_end_of_a_neighbour_that_waits_for_an_answer_does_not_stop_the_task() {
    let mut bed = Bed::start(&[10]);
    bed.routers[0].up().await;
    let mut update = Box::pin(bed.routers[0].update(announces([1], 1)));
    assert!(futures::poll!(&mut update).is_pending());
    drop(update);
    pass(PATIENCE).await;
    assert!(bed.published());
    assert_eq!(bed.routers[0].update(announces([2], 1)).await.unwrap().prefixes, 2);
}
