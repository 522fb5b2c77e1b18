//! Probes of neighbours; the other end of the link is in another network namespace.

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

/// The other end of the uplink: a thread in its own network namespace, which runs `ip -6` commands.
struct FarEnd {
    commands: Option<mpsc::Sender<String>>,
    done: mpsc::Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

impl FarEnd {
    /// Moves `far0` to a namespace of its own, where it has 2001:db8::2/64.
    fn new() -> Self {
        let ((commands, received), (done_tx, done)) = (mpsc::channel::<String>(), mpsc::channel());
        let (thread_id_tx, thread_id) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            thread_id_tx.send(gettid()).unwrap();
            for command in received {
                ip(&command);
                done_tx.send(()).unwrap();
            }
        });
        ip(&format!("link set far0 netns {}", thread_id.recv().unwrap()));
        let far = Self { commands: Some(commands), done, thread: Some(thread) };
        far.ip("link set far0 up");
        far.ip("addr add 2001:db8::2/64 dev far0 nodad");
        far
    }

    fn ip(&self, command: &str) {
        self.commands.as_ref().unwrap().send(command.to_owned()).unwrap();
        self.done.recv().expect("the command was done");
    }
}

impl Drop for FarEnd {
    fn drop(&mut self) {
        self.commands = None;
        let _panic_has_its_own_message = self.thread.take().unwrap().join();
    }
}

fn peer() -> Ipv6Addr {
    "2001:db8::2".parse().unwrap()
}

async fn state(kernel: &NetlinkKernel, link: u32, addr: Ipv6Addr) -> Option<NeighbourState> {
    let all = kernel.neighbours(link).await.unwrap();
    all.iter().find(|neighbour| neighbour.addr == addr).map(|neighbour| neighbour.state)
}

/// Waits until the neighbour is in this state; returns the time.
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

/// The table is the machine's: other tests change it meanwhile.
#[test]
fn the_table_and_an_unanswered_entry_are_read() {
    with_uplink(async |kernel, up0| {
        let _far = FarEnd::new();
        let table = kernel.neighbour_table().unwrap().unwrap();
        assert!(table.soft_limit > 0 && table.soft_limit <= table.limit, "{table:?}");
        let unused = "2001:db8::77".parse().unwrap();
        kernel.probe_neighbour(up0, unused).await.unwrap();
        let all = kernel.all_neighbours().await.unwrap();
        let unanswered: Vec<_> = all.iter().filter(|it| it.is_unanswered()).collect();
        assert!(matches!(&unanswered[..], [it] if (it.link, it.addr) == (up0, unused)), "{all:?}");
        assert!(kernel.neighbour_table().unwrap().unwrap().entries >= 1);
        becomes(&kernel, up0, unused, NeighbourState::Failed).await;
        let failed = kernel.neighbour_table().unwrap().unwrap().failed;
        assert!(failed > table.failed, "{failed}, before {table:?}");
    });
}

#[test]
fn a_reachable_neighbour_answers_at_once_with_and_without_an_entry() {
    with_uplink(async |kernel, up0| {
        let _far = FarEnd::new();
        assert_eq!(state(&kernel, up0, peer()).await, None);
        kernel.probe_neighbour(up0, peer()).await.unwrap();
        // The link has just come up: the first solicitation may be lost.
        becomes(&kernel, up0, peer(), NeighbourState::Reachable).await;
        ip("neigh flush dev up0");
        for _ in ["without an entry", "with one"] {
            kernel.probe_neighbour(up0, peer()).await.unwrap();
            let took = becomes(&kernel, up0, peer(), NeighbourState::Reachable).await;
            assert!(took < Duration::from_millis(900), "{took:?}");
        }
        ip("neigh change 2001:db8::2 dev up0 nud stale");
        assert_eq!(state(&kernel, up0, peer()).await, Some(NeighbourState::Stale));
        kernel.probe_neighbour(up0, peer()).await.unwrap();
        becomes(&kernel, up0, peer(), NeighbourState::Reachable).await;
    });
}

#[test]
fn a_missing_neighbour_fails_and_answers_again_when_it_is_back() {
    with_uplink(async |kernel, up0| {
        let far = FarEnd::new();
        kernel.probe_neighbour(up0, peer()).await.unwrap();
        becomes(&kernel, up0, peer(), NeighbourState::Reachable).await;
        far.ip("addr del 2001:db8::2/64 dev far0");
        for (round, had_an_address) in [true, false].into_iter().enumerate() {
            kernel.probe_neighbour(up0, peer()).await.unwrap();
            assert_eq!(
                state(&kernel, up0, peer()).await,
                Some(NeighbourState::Probing),
                "set by the probe, so that an older failure is not mistaken for its result; round {round}"
            );
            let took = becomes(&kernel, up0, peer(), NeighbourState::Failed).await;
            eprintln!("round {round}, probing {had_an_address}: failed after {took:?}");
            assert!((1..6).contains(&took.as_secs()), "{took:?}");
        }
        far.ip("addr add 2001:db8::2/64 dev far0 nodad");
        kernel.probe_neighbour(up0, peer()).await.unwrap();
        becomes(&kernel, up0, peer(), NeighbourState::Reachable).await;
    });
}

#[test]
fn a_probe_does_not_overwrite_the_entry() {
    with_uplink(async |kernel, up0| {
        let far = FarEnd::new();
        kernel.probe_neighbour(up0, peer()).await.unwrap();
        becomes(&kernel, up0, peer(), NeighbourState::Reachable).await;
        let before = ip("neigh show 2001:db8::2 dev up0");
        kernel.probe_neighbour(up0, peer()).await.unwrap();
        becomes(&kernel, up0, peer(), NeighbourState::Reachable).await;
        assert_eq!(ip("neigh show 2001:db8::2 dev up0"), before);
        drop(far);
    });
}

#[test]
fn static_entries_and_other_links_are_distinguished() {
    with_uplink(async |kernel, up0| {
        ip("neigh add 2001:db8::7 dev up0 lladdr 02:00:00:00:00:07 nud permanent");
        ip("link add other0 type veth peer name other1");
        ip("link set other0 up");
        ip("neigh add 2001:db8::8 dev other0 lladdr 02:00:00:00:00:08 nud permanent");
        let neighbours = kernel.neighbours(up0).await.unwrap();
        let is_permanent = |addr: &str| {
            let mut permanent = neighbours.iter().filter(|it| it.state == NeighbourState::Permanent);
            permanent.any(|neighbour| neighbour.addr.to_string() == addr)
        };
        assert!(is_permanent("2001:db8::7"), "{neighbours:?}");
        assert!(neighbours.iter().all(|neighbour| neighbour.link == up0), "{neighbours:?}");
        let missing = kernel.probe_neighbour(4_000_000, peer()).await.unwrap_err();
        assert!(matches!(missing, KernelError::Refused { .. }), "{missing}");
    });
}
