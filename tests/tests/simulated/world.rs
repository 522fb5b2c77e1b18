//! The simulated world: processes, their network, their store, and their time.

use std::{collections::VecDeque, path::Path, time::Duration};

use anyhow::bail;
use sextant_controller::registry::{
    SharedRegistry,
    fake::{FakeStore, Link, Snapshot},
};
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    host::Host,
    log,
    network::{Network, Place},
    parts,
    process::{BEGIN, Process},
    schedule::{CONTROLLERS, HOSTS},
};

/// How much time passes in one step; less than that, no process sees of another.
const TICK: Duration = Duration::from_millis(20);
/// systemd's `RestartSec=1s`, as the units have it.
const RESTART: Duration = Duration::from_secs(1);
/// How often the store is kept a snapshot of, for restores.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(1);
/// How far back snapshots go.
const SNAPSHOTS: usize = 60;

/// A place for a controller.
pub struct Seat {
    pub process: Option<Process>,
    pub starts_at: Option<Duration>,
    pub clock_ahead: i64,
    pub line: watch::Sender<Link>,
    registry: SharedRegistry,
}

pub struct World {
    pub now: Duration,
    pub store: FakeStore,
    pub network: Network,
    pub hosts: Vec<Host>,
    pub controllers: Vec<Seat>,
    operator: Process,
    hold_down: String,
    snapshots: VecDeque<Snapshot>,
    snapshot_at: Duration,
}

impl World {
    /// A world in which all agents and controllers are about to start. State directories are in `dir`.
    pub fn new(dir: &Path, hold_down: Option<u64>) -> Self {
        let store = FakeStore::new();
        let seat = |_| {
            let (registry, line) = store.client();
            Seat { process: None, starts_at: Some(Duration::ZERO), clock_ahead: 0, line, registry }
        };
        Self {
            now: Duration::ZERO,
            network: Network::new(),
            hosts: (0..HOSTS)
                .map(|host| Host::new(host, HOSTS, dir.join(format!("h{}", host + 1))))
                .collect(),
            controllers: (0..CONTROLLERS).map(seat).collect(),
            operator: Process::start(
                "operator",
                Duration::ZERO,
                0,
                std::future::pending::<Result<(), String>>(),
            ),
            hold_down: hold_down.map_or("never".into(), |seconds| seconds.to_string()),
            snapshots: VecDeque::new(),
            snapshot_at: Duration::ZERO,
            store,
        }
    }

    /// Lets everything run for a moment.
    ///
    /// # Errors
    /// If a process panicked.
    pub fn step(&mut self) -> anyhow::Result<()> {
        self.start_what_is_due();
        for seat in &mut self.controllers {
            if let Some(process) = &mut seat.process {
                process.run(self.now, TICK);
            }
        }
        for host in &mut self.hosts {
            if let Some(process) = &mut host.agent {
                process.run(self.now, TICK);
            }
        }
        self.operator.run(self.now, TICK);
        self.store.elapse(TICK);
        self.now += TICK;
        if self.now >= self.snapshot_at {
            self.snapshot_at += SNAPSHOT_EVERY;
            self.snapshots.push_front(self.store.snapshot());
            self.snapshots.truncate(SNAPSHOTS);
        }
        self.bury()
    }

    /// The time by a clock that is right, in milliseconds since 1970.
    pub fn unix_ms(&self) -> u64 {
        let now = Duration::from_secs(BEGIN) + self.now;
        u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
    }

    /// Snapshots of before now are of no use.
    pub fn forget_snapshots(&mut self) {
        self.snapshots.clear();
        self.snapshot_at = self.now;
    }

    /// The store as it was so many seconds ago, or at the oldest that is known.
    pub fn snapshot(&self, seconds_ago: u64) -> Snapshot {
        let index = usize::try_from(seconds_ago).unwrap_or(usize::MAX).min(self.snapshots.len() - 1);
        self.snapshots[index].clone()
    }

    fn start_what_is_due(&mut self) {
        for number in 0..self.controllers.len() {
            if self.controllers[number].starts_at.is_some_and(|at| at <= self.now) {
                self.start_controller(number);
            }
        }
        for number in 0..self.hosts.len() {
            if self.hosts[number].starts_at.is_some_and(|at| at <= self.now) {
                self.start_agent(number);
            }
        }
    }

    fn start_controller(&mut self, number: usize) {
        let seat = &mut self.controllers[number];
        seat.starts_at = None;
        if seat.process.is_some() {
            return;
        }
        let incoming = self.network.listen(&parts::controller_address(number), Place::Controller(number));
        let settings = parts::controller_settings(number, &self.hold_down);
        let main = parts::controller(settings, seat.registry.clone(), number, self.network.clone(), incoming);
        let name = Place::Controller(number).to_string();
        seat.process = Some(Process::start(&name, self.now, seat.clock_ahead, main));
    }

    fn start_agent(&mut self, number: usize) {
        let host = &mut self.hosts[number];
        host.starts_at = None;
        if host.agent.is_some() {
            return;
        }
        let more = host.setting.map_or(&[][..], |setting| setting.args());
        let settings = parts::agent_settings(number, CONTROLLERS, &host.state_dir, more);
        let main = parts::agent(settings, host.kernel.clone(), self.network.clone(), number);
        let name = Place::Host(number).to_string();
        host.agent = Some(Process::start(&name, self.now, host.clock_ahead, main));
    }

    /// Processes that have ended are started again, as systemd does.
    fn bury(&mut self) -> anyhow::Result<()> {
        let again = self.now + RESTART;
        let controllers = self.controllers.iter_mut().map(|seat| (&mut seat.process, &mut seat.starts_at));
        let agents = self.hosts.iter_mut().map(|host| (&mut host.agent, &mut host.starts_at));
        for (process, starts_at) in controllers.chain(agents) {
            let Some(why) = process.as_mut().and_then(Process::ended) else { continue };
            log::note(self.now, &format!("a process has ended: {why}"));
            (*process, *starts_at) = (None, Some(again));
            if why.contains("panic") {
                bail!("a process panicked: {why}");
            }
        }
        Ok(())
    }

    /// Starts an operator's command.
    pub fn ask<T: Send + 'static>(
        &self,
        command: impl Future<Output = Result<T, String>> + Send + 'static,
    ) -> JoinHandle<Result<T, String>> {
        self.operator.spawn(command)
    }

    /// What the operator was answered, once that is there.
    pub fn answer<T>(&self, asked: &mut JoinHandle<Result<T, String>>) -> Option<Result<T, String>> {
        self.operator.take(asked)
    }

    /// Whether this controller works: it runs, and the store is in reach.
    pub fn works(&self, number: usize) -> bool {
        let seat = &self.controllers[number];
        let runs = seat.process.as_ref().is_some_and(|process| !process.is_frozen());
        runs && *seat.line.borrow() == Link::Up
    }

    /// Whether a controller runs, and does not get on.
    pub fn has_frozen_controller(&self) -> bool {
        self.controllers.iter().any(|seat| seat.process.as_ref().is_some_and(|process| process.is_frozen()))
    }

    /// Whether this host's agent runs, and reaches a controller that works.
    pub fn is_live(&self, host: usize) -> bool {
        let runs = self.hosts[host].agent.as_ref().is_some_and(|process| !process.is_frozen());
        let reaches = |number| self.network.connects(Place::Host(host), Place::Controller(number));
        runs && (0..self.controllers.len()).any(|number| self.works(number) && reaches(number))
    }

    /// Whether this host's agent runs, and reaches a controller that may end claims; `None` if there is no such controller.
    pub fn is_heard(&self, host: usize) -> Option<bool> {
        let may_end: Vec<_> = (0..self.controllers.len()).filter(|number| self.may_end(*number)).collect();
        let runs = self.hosts[host].agent.as_ref().is_some_and(|process| !process.is_frozen());
        let reaches = |number: &usize| self.network.connects(Place::Host(host), Place::Controller(*number));
        (!may_end.is_empty()).then(|| runs && may_end.iter().any(reaches))
    }

    /// Whether what this controller decides gets into the store, though it may not learn of it.
    fn may_end(&self, number: usize) -> bool {
        let seat = &self.controllers[number];
        let runs = seat.process.as_ref().is_some_and(|process| !process.is_frozen());
        runs && matches!(*seat.line.borrow(), Link::Up | Link::AnswersLost)
    }
}
