//! Asking neighbours, over a link whose other end is in another network namespace.

use std::{
    net::Ipv6Addr,
    sync::mpsc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use nix::{
    sched::{CloneFlags, unshare},
    unistd::gettid,
};
use sextant_agent::kernel::{Kernel, KernelError, NeighbourState, NetlinkKernel};

use crate::namespace::{ip, with_uplink};

/// The other end of the uplink: a thread with a network namespace of its own, in which it runs `ip -6` as it is told.
struct FarEnd {
    told: Option<mpsc::Sender<String>>,
    done: mpsc::Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

impl FarEnd {
    /// Moves `far0` to a namespace of its own, where it has 2001:db8::2/64.
    fn new() -> Self {
        let ((told, hear), (tell, done)) = (mpsc::channel::<String>(), mpsc::channel());
        let (tell_thread, thread_id) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            tell_thread.send(gettid()).unwrap();
            for command in hear {
                ip(&command);
                tell.send(()).unwrap();
            }
        });
        ip(&format!("link set far0 netns {}", thread_id.recv().unwrap()));
        let far = Self { told: Some(told), done, thread: Some(thread) };
        far.ip("link set far0 up");
        far.ip("addr add 2001:db8::2/64 dev far0 nodad");
        far
    }

    fn ip(&self, command: &str) {
        self.told.as_ref().unwrap().send(command.to_owned()).unwrap();
        self.done.recv().expect("the command was done");
    }
}

impl Drop for FarEnd {
    fn drop(&mut self) {
        self.told = None;
        let _told_by_itself = self.thread.take().unwrap().join();
    }
}

fn peer() -> Ipv6Addr {
    "2001:db8::2".parse().unwrap()
}

async fn state(kernel: &NetlinkKernel, link: u32, addr: Ipv6Addr) -> Option<NeighbourState> {
    let all = kernel.neighbours(link).await.unwrap();
    all.iter().find(|neighbour| neighbour.addr == addr).map(|neighbour| neighbour.state)
}

/// Waits until the neighbour is in this state; how long that took.
async fn becomes(kernel: &NetlinkKernel, link: u32, addr: Ipv6Addr, expected: NeighbourState) -> Duration {
    let started = Instant::now();
    loop {
        let now = state(kernel, link, addr).await;
        if now == Some(expected) {
            return started.elapsed();
        }
        assert!(started.elapsed() < Duration::from_secs(10), "{addr} is {now:?}, not {expected:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn one_that_is_there_answers_at_once_with_and_without_an_entry() {
    with_uplink(async |kernel, up0| {
        let _far = FarEnd::new();
        assert_eq!(state(&kernel, up0, peer()).await, None);
        kernel.ask(up0, peer()).await.unwrap();
        // The link has just come up: the first solicitation may be lost.
        becomes(&kernel, up0, peer(), NeighbourState::Reachable).await;
        ip("neigh flush dev up0");
        for _ in ["without an entry", "with one"] {
            kernel.ask(up0, peer()).await.unwrap();
            let took = becomes(&kernel, up0, peer(), NeighbourState::Reachable).await;
            assert!(took < Duration::from_millis(900), "{took:?}");
        }
        ip("neigh change 2001:db8::2 dev up0 nud stale");
        assert_eq!(state(&kernel, up0, peer()).await, Some(NeighbourState::Stale));
        kernel.ask(up0, peer()).await.unwrap();
        becomes(&kernel, up0, peer(), NeighbourState::Reachable).await;
    });
}

#[test]
fn one_that_is_gone_fails_and_answers_again_when_it_is_back() {
    with_uplink(async |kernel, up0| {
        let far = FarEnd::new();
        kernel.ask(up0, peer()).await.unwrap();
        becomes(&kernel, up0, peer(), NeighbourState::Reachable).await;
        far.ip("addr del 2001:db8::2/64 dev far0");
        for (round, had_an_address) in [true, false].into_iter().enumerate() {
            kernel.ask(up0, peer()).await.unwrap();
            assert_eq!(
                state(&kernel, up0, peer()).await,
                Some(NeighbourState::Asking),
                "as soon as it is asked, so that no older failure is taken for its answer; round {round}"
            );
            let took = becomes(&kernel, up0, peer(), NeighbourState::Failed).await;
            eprintln!("round {round}, probing {had_an_address}: failed after {took:?}");
            assert!((1..6).contains(&took.as_secs()), "{took:?}");
        }
        far.ip("addr add 2001:db8::2/64 dev far0 nodad");
        kernel.ask(up0, peer()).await.unwrap();
        becomes(&kernel, up0, peer(), NeighbourState::Reachable).await;
    });
}

#[test]
fn what_was_learnt_of_a_neighbour_is_not_overwritten_by_asking() {
    with_uplink(async |kernel, up0| {
        let far = FarEnd::new();
        kernel.ask(up0, peer()).await.unwrap();
        becomes(&kernel, up0, peer(), NeighbourState::Reachable).await;
        let before = ip("neigh show 2001:db8::2 dev up0");
        kernel.ask(up0, peer()).await.unwrap();
        becomes(&kernel, up0, peer(), NeighbourState::Reachable).await;
        assert_eq!(ip("neigh show 2001:db8::2 dev up0"), before);
        drop(far);
    });
}

#[test]
fn entries_of_others_are_told_apart() {
    with_uplink(async |kernel, up0| {
        ip("neigh add 2001:db8::7 dev up0 lladdr 02:00:00:00:00:07 nud permanent");
        ip("link add other0 type veth peer name other1");
        ip("link set other0 up");
        ip("neigh add 2001:db8::8 dev other0 lladdr 02:00:00:00:00:08 nud permanent");
        let neighbours = kernel.neighbours(up0).await.unwrap();
        let fixed: Vec<_> =
            neighbours.iter().filter(|neighbour| neighbour.state == NeighbourState::Fixed).collect();
        assert!(fixed.iter().any(|neighbour| neighbour.addr.to_string() == "2001:db8::7"), "{neighbours:?}");
        assert!(neighbours.iter().all(|neighbour| neighbour.link == up0), "{neighbours:?}");
        let missing = kernel.ask(4_000_000, peer()).await.unwrap_err();
        assert!(matches!(missing, KernelError::Refused { .. }), "{missing}");
    });
}
