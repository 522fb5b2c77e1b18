//! The begin and the end of each fault.

use sextant_agent::kernel::NeighbourState;
use sextant_controller::registry::fake::Link;

use crate::{
    host::{Host, address},
    network::Place,
    process::Process,
    schedule::{Event, Fault},
    world::World,
};

impl World {
    /// Begins a fault. A `forget` is the caller's, who knows the operator.
    pub fn begin(&mut self, event: &Event) {
        match event.fault {
            Fault::FreezeAgent(host) => freeze(&mut self.hosts[host].agent),
            Fault::FreezeController(number) => freeze(&mut self.controllers[number].process),
            Fault::LoseHost(host) => {
                freeze(&mut self.hosts[host].agent);
                self.answer_as(host, NeighbourState::Failed);
            }
            Fault::KillAgent(host) => stop_agent(&mut self.hosts[host]),
            Fault::KillController(number) => self.stop_controller(number),
            Fault::CutHost(host) => self.each_path(host, |world, there, back| {
                world.network.block(there.0, there.1);
                world.network.block(back.0, back.1);
            }),
            Fault::CutOneWay { host, towards } => self.each_path(host, |world, there, back| {
                let (from, to) = if towards { there } else { back };
                world.network.block(from, to);
            }),
            Fault::CutPair(host, number) => {
                self.network.block(Place::Host(host), Place::Controller(number));
                self.network.block(Place::Controller(number), Place::Host(host));
            }
            Fault::StoreLine(number, line) => {
                self.controllers[number].line.send_replace(line);
            }
            Fault::Store(line) => self.set_lines(line),
            Fault::Settings(host, setting) => {
                stop_agent(&mut self.hosts[host]);
                self.hosts[host].setting = Some(setting);
                self.hosts[host].starts_at = Some(self.now);
            }
            Fault::Wipe { stopped } => {
                self.stop_controllers_if(stopped);
                self.store.wipe();
            }
            Fault::Restore { stopped, back } => {
                self.stop_controllers_if(stopped);
                let snapshot = self.snapshot(back);
                self.store.restore(&snapshot);
            }
            Fault::ControllerClock(number, ahead) => self.set_controller_clock(number, ahead),
            Fault::AgentClock(host, ahead) => set_agent_clock(&mut self.hosts[host], ahead),
            Fault::Forget { .. } => {}
        }
    }

    /// Ends a fault.
    pub fn end(&mut self, event: &Event) {
        let now = self.now;
        match event.fault {
            Fault::FreezeAgent(host) => thaw(&mut self.hosts[host].agent, now),
            Fault::FreezeController(number) => thaw(&mut self.controllers[number].process, now),
            Fault::LoseHost(host) => {
                self.answer_as(host, NeighbourState::Reachable);
                thaw(&mut self.hosts[host].agent, now);
            }
            Fault::KillAgent(host) => self.hosts[host].starts_at = Some(now),
            Fault::KillController(number) => self.controllers[number].starts_at = Some(now),
            Fault::CutHost(host) | Fault::CutOneWay { host, .. } => {
                self.each_path(host, |world, there, back| {
                    world.network.open(there.0, there.1);
                    world.network.open(back.0, back.1);
                });
            }
            Fault::CutPair(host, number) => {
                self.network.open(Place::Host(host), Place::Controller(number));
                self.network.open(Place::Controller(number), Place::Host(host));
            }
            Fault::StoreLine(number, _) => {
                self.controllers[number].line.send_replace(Link::Up);
            }
            Fault::Store(_) => self.set_lines(Link::Up),
            Fault::Settings(host, _) => {
                stop_agent(&mut self.hosts[host]);
                self.hosts[host].setting = None;
                self.hosts[host].starts_at = Some(now);
            }
            Fault::Wipe { stopped } | Fault::Restore { stopped, .. } if stopped => {
                for seat in self.controllers.iter_mut().filter(|seat| seat.process.is_none()) {
                    seat.starts_at = Some(now);
                }
            }
            Fault::ControllerClock(number, _) => self.set_controller_clock(number, 0),
            Fault::AgentClock(host, _) => set_agent_clock(&mut self.hosts[host], 0),
            Fault::Wipe { .. } | Fault::Restore { .. } | Fault::Forget { .. } => {}
        }
    }

    /// How all others find the host when they ask it.
    fn answer_as(&self, host: usize, state: NeighbourState) {
        for peer in self.hosts.iter().enumerate().filter(|(peer, _)| *peer != host).map(|(_, peer)| peer) {
            peer.kernel.set_probe_result(crate::host::UPLINK, address(host), state);
        }
    }

    fn each_path(&self, host: usize, each: impl Fn(&Self, (Place, Place), (Place, Place))) {
        for number in 0..self.controllers.len() {
            let (host, controller) = (Place::Host(host), Place::Controller(number));
            each(self, (host, controller), (controller, host));
        }
    }

    fn set_lines(&self, line: Link) {
        for seat in &self.controllers {
            seat.line.send_replace(line);
        }
    }

    fn stop_controllers_if(&mut self, stopped: bool) {
        if stopped {
            (0..self.controllers.len()).for_each(|number| self.stop_controller(number));
        }
    }

    fn stop_controller(&mut self, number: usize) {
        let seat = &mut self.controllers[number];
        (seat.process, seat.starts_at) = (None, None);
    }

    fn set_controller_clock(&mut self, number: usize, ahead: i64) {
        let seat = &mut self.controllers[number];
        seat.clock_ahead = ahead;
        if let Some(process) = &mut seat.process {
            process.set_clock_ahead(ahead);
        }
    }
}

fn freeze(process: &mut Option<Process>) {
    if let Some(process) = process {
        process.freeze();
    }
}

fn thaw(process: &mut Option<Process>, now: std::time::Duration) {
    if let Some(process) = process {
        process.thaw(now);
    }
}

fn stop_agent(host: &mut Host) {
    (host.agent, host.starts_at) = (None, None);
}

fn set_agent_clock(host: &mut Host, ahead: i64) {
    host.clock_ahead = ahead;
    if let Some(process) = &mut host.agent {
        process.set_clock_ahead(ahead);
    }
}
