//! The faults of a simulated world and their times: random, from a seed.

use std::{fmt, time::Duration};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use sextant_controller::registry::fake::Link;

/// How many hosts there are.
pub const HOSTS: usize = 4;
/// How many controllers there are.
pub const CONTROLLERS: usize = 2;

/// How faults last: shorter than a session, longer than it, than hold-down, than the recovery window.
const SPANS: [(u64, u64); 5] =
    [(300, 2000), (4000, 7000), (9000, 12_000), (16_000, 22_000), (26_000, 36_000)];

/// One thing that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    FreezeAgent(usize),
    FreezeController(usize),
    /// The agent is frozen, and its host does not answer its neighbours.
    LoseHost(usize),
    /// No packet between a host and any controller.
    CutHost(usize),
    /// None from the host to the controllers, or none back.
    CutOneWay {
        host: usize,
        towards: bool,
    },
    /// None between this host and this controller.
    CutPair(usize, usize),
    /// A controller's line to the store.
    StoreLine(usize, Link),
    /// All controllers' lines to the store.
    Store(Link),
    /// The process is killed, and starts again at the end.
    KillAgent(usize),
    KillController(usize),
    /// The agent runs with another setting until the end.
    Settings(usize, Setting),
    /// The store is emptied; with controllers stopped until the end, or running.
    Wipe {
        stopped: bool,
    },
    /// The store is set back by so many seconds.
    Restore {
        stopped: bool,
        back: u64,
    },
    /// `sextant node forget`, at once.
    Forget {
        host: usize,
        force: bool,
        /// Only its claim in the second pool ends.
        only_ula: bool,
    },
    /// A process's wall clock is ahead by so many seconds until the end.
    ControllerClock(usize, i64),
    AgentClock(usize, i64),
}

/// A setting of an agent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Setting {
    Bridge,
    Pool,
    /// The second pool is not named, while the host may hold a prefix of it.
    OnePool,
    HostLen,
}

impl Setting {
    pub fn args(self) -> &'static [&'static str] {
        match self {
            Self::Bridge => &["--bridge", "brd"],
            Self::Pool => &["--pool", "nosuch"],
            Self::OnePool => &["--pool", "main"],
            Self::HostLen => &["--host-len", "60"],
        }
    }
}

/// A fault, from when until when, in time since the world was whole.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Event {
    pub from: Duration,
    pub until: Duration,
    pub fault: Fault,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, until) = (self.from.as_secs_f64(), self.until.as_secs_f64());
        write!(f, "{from:6.1} s to {until:6.1} s: {:?}", self.fault)
    }
}

/// All that is drawn from a seed.
#[derive(Debug, Clone)]
pub struct Schedule {
    pub seed: u64,
    /// `--hold-down` of all controllers.
    pub hold_down: Option<u64>,
    pub events: Vec<Event>,
}

impl Schedule {
    pub fn draw(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let hold_down = random.random_bool(0.4).then_some(12);
        let count = random.random_range(2..=7);
        let mut events: Vec<_> = (0..count).map(|_| event(&mut random)).collect();
        events.sort_by_key(|event| event.from);
        Self { seed, hold_down, events }
    }

    /// When the last fault has ended.
    pub fn end(&self) -> Duration {
        self.events.iter().map(|event| event.until).max().unwrap_or_default()
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hold_down = self.hold_down.map_or("never".into(), |seconds| format!("{seconds} s"));
        writeln!(f, "seed {}, hold-down {hold_down}", self.seed)?;
        self.events.iter().enumerate().try_for_each(|(index, event)| writeln!(f, "  {index}: {event}"))
    }
}

fn event(random: &mut StdRng) -> Event {
    let from = Duration::from_millis(random.random_range(0..45_000));
    let span = SPANS.choose(random).expect("there are spans");
    let span = Duration::from_millis(random.random_range(span.0..span.1));
    Event { from, until: from + span, fault: fault(random) }
}

fn fault(random: &mut StdRng) -> Fault {
    let (host, controller) = (random.random_range(0..HOSTS), random.random_range(0..CONTROLLERS));
    let line = *[Link::Down, Link::ReadOnly, Link::AnswersLost].choose(random).expect("there are lines");
    let settings = [Setting::Bridge, Setting::Pool, Setting::OnePool, Setting::HostLen];
    let setting = *settings.choose(random).expect("there are some");
    let clock = *[-86_400, -60, 60, 86_400, 63_072_000].choose(random).expect("there are some");
    let stopped = random.random_bool(0.5);
    match random.random_range(0..24) {
        22.. => Fault::Forget { host, force: true, only_ula: true },
        20.. => Fault::LoseHost(host),
        0..3 => Fault::FreezeAgent(host),
        3..5 => Fault::FreezeController(controller),
        5 => Fault::CutHost(host),
        6 => Fault::CutOneWay { host, towards: stopped },
        7 => Fault::CutPair(host, controller),
        8 => Fault::StoreLine(controller, line),
        9 => Fault::Store(line),
        10 => Fault::KillAgent(host),
        11 => Fault::KillController(controller),
        12 => Fault::Settings(host, setting),
        13 => Fault::Wipe { stopped },
        14 => Fault::Restore { stopped, back: random.random_range(1..40) },
        15 | 16 => Fault::Forget { host, force: true, only_ula: false },
        17 => Fault::Forget { host, force: false, only_ula: false },
        18 => Fault::ControllerClock(controller, clock),
        _ => Fault::AgentClock(host, clock),
    }
}
