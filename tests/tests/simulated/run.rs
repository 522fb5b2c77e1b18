//! Runs one schedule, and checks the invariants during and after it.

use std::{path::Path, time::Duration};

use anyhow::{Context, bail, ensure};
use sextant_cli::status_text;
use sextant_proto::v1;
use tokio::task::JoinHandle;

use crate::{
    invariants::Watch,
    log, parts,
    schedule::{CONTROLLERS, Event, Fault, Schedule},
    world::World,
};

/// Within this time everything is whole at the beginning.
const START: Duration = Duration::from_secs(60);
/// Within this time a recovery window has closed that was opened by the last fault's end.
const WINDOW: Duration = Duration::from_secs(parts::RECOVERY_WINDOW.as_secs() + 15);
/// Within this time after all faults and recovery windows, the cluster is healthy again without help.
const WELL: Duration = Duration::from_secs(30);
/// For how long it then stays so.
const STAYS: Duration = Duration::from_secs(8);
/// How often the health is checked.
const LOOK: Duration = Duration::from_millis(500);

type Asked<T> = JoinHandle<Result<T, String>>;

/// A schedule that runs.
pub struct Run {
    world: World,
    watch: Watch,
    /// The host, whether only its claim in the second pool ends, and the answer.
    forgets: Vec<(usize, bool, Asked<v1::ForgetNodeResponse>)>,
    /// What was asked because an agent is silent, and which.
    status: Option<(usize, Asked<v1::StatusResponse>)>,
}

impl Run {
    /// Runs a schedule to its end.
    ///
    /// # Errors
    /// What did not hold.
    pub fn whole(schedule: &Schedule, dir: &Path) -> anyhow::Result<()> {
        let world = World::new(dir, schedule.hold_down);
        let watch = Watch::new(schedule.hold_down);
        let mut run = Self { world, watch, forgets: Vec::new(), status: None };
        run.start().context("at the beginning")?;
        run.go_wrong(schedule)?;
        log::note(run.world.now, "the last fault has ended");
        run.until("recovery windows are closed", WINDOW, |run| match run.watch.is_recovering(&run.world) {
            true => Err("the store still recovers".into()),
            false => Ok(()),
        })?;
        run.until("the cluster is healthy", WELL, Self::wrong)?;
        run.watch.claims_are_held(&run.world)?;
        let until = run.world.now + STAYS;
        while run.world.now < until {
            run.step()?;
        }
        run.until("all stays well", LOOK, Self::wrong)
    }

    fn start(&mut self) -> anyhow::Result<()> {
        for (name, prefix) in [("main", "2001:db8:8000::/40"), ("ula", "fd00:0:5e00::/40")] {
            let pool = v1::Pool {
                name: name.into(),
                prefix: Some(prefix.parse::<sextant_proto::Prefix>()?.into()),
                host_len: 64,
                container_len: 64,
                ..v1::Pool::default()
            };
            self.until("the pool is added", START, |run| {
                let request = v1::AddPoolRequest { pool: Some(pool.clone()) };
                let added = run.command(0, async move |mut admin| admin.add_pool(request).await)?;
                match added {
                    Err(error) if !error.contains("already") => Err(error),
                    _ => Ok(()),
                }
            })?;
        }
        // A store without the pools is no earlier state of this one.
        self.world.forget_snapshots();
        self.until("the cluster is healthy", START, Self::wrong)?;
        self.until("the store no longer recovers", START, |run| match run.watch.is_recovering(&run.world) {
            true => Err("it still does".into()),
            false => Ok(()),
        })?;
        self.watch.all_hold(&mut self.world)
    }

    fn go_wrong(&mut self, schedule: &Schedule) -> anyhow::Result<()> {
        let whole = self.world.now;
        let mut begun = vec![false; schedule.events.len()];
        let mut ended = begun.clone();
        while self.world.now < whole + schedule.end() {
            for (index, event) in schedule.events.iter().enumerate() {
                if !begun[index] && self.world.now >= whole + event.from {
                    begun[index] = true;
                    log::note(self.world.now, &format!("begins: {:?}", event.fault));
                    self.begin(event);
                }
                if begun[index] && !ended[index] && self.world.now >= whole + event.until {
                    ended[index] = true;
                    log::note(self.world.now, &format!("ends: {:?}", event.fault));
                    self.world.end(event);
                }
            }
            self.step()?;
        }
        for (index, event) in schedule.events.iter().enumerate().filter(|(index, _)| !ended[*index]) {
            log::note(self.world.now, &format!("ends: {:?} ({index})", event.fault));
            self.world.end(event);
        }
        Ok(())
    }

    fn begin(&mut self, event: &Event) {
        if let Fault::Forget { host, force, only_ula } = event.fault {
            // Whoever works takes it; the answer may be lost.
            let number = (0..CONTROLLERS).find(|number| self.world.works(*number)).unwrap_or_default();
            let (name, pool) =
                (format!("h{}", host + 1), if only_ula { "ula".into() } else { String::new() });
            let request = v1::ForgetNodeRequest { name, force, pool, ..Default::default() };
            let network = self.world.network.clone();
            let forget =
                parts::command(network, number, async move |mut admin| admin.forget_node(request).await);
            self.forgets.push((host, only_ula, self.world.ask(forget)));
        }
        self.watch.begins(&mut self.world, event);
        self.world.begin(event);
    }

    /// A moment passes, and what must always hold is looked at.
    fn step(&mut self) -> anyhow::Result<()> {
        self.world.step()?;
        let world = &mut self.world;
        for (host, only_ula, mut asked) in std::mem::take(&mut self.forgets) {
            match world.answer(&mut asked) {
                None => self.forgets.push((host, only_ula, asked)),
                Some(answer) => {
                    log::note(world.now, &format!("forget h{}: {answer:?}", host + 1));
                    // Without an answer it may have been done.
                    let refused =
                        answer.is_err_and(|error| error.contains("status: 'The system is not in a state"));
                    match only_ula {
                        _ if refused => {}
                        true => self.watch.ula_ends(world, host),
                        false => self.watch.ends(world, host),
                    }
                }
            }
        }
        self.watch.look(world)?;
        self.ask_about_silence()
    }

    /// While an agent is silent, status names it.
    fn ask_about_silence(&mut self) -> anyhow::Result<()> {
        if let Some((host, asked)) = &mut self.status
            && let Some(answer) = self.world.answer(asked)
        {
            let host = *host;
            self.status = None;
            if let (Ok(answer), true) = (answer, self.watch.is_silent(&self.world, host)) {
                let text = status_text(answer, self.world.unix_ms())?;
                ensure!(
                    !text.starts_with("All is well: "),
                    "h{} is silent, and status says:\n{text}",
                    host + 1
                );
            }
        }
        if self.status.is_none()
            && let Some((host, number)) = self.watch.silence(&self.world)
        {
            let network = self.world.network.clone();
            let ask = async move |mut admin: Admin| admin.status(v1::StatusRequest {}).await;
            self.status = Some((host, self.world.ask(parts::command(network, number, ask))));
        }
        Ok(())
    }

    /// What is wrong with the world, by its kernels and by each controller.
    fn wrong(&mut self) -> Result<(), String> {
        self.watch.mesh(&self.world)?;
        for number in 0..CONTROLLERS {
            let answer =
                self.command(number, async |mut admin| admin.status(v1::StatusRequest {}).await)??;
            let joining = answer
                .nodes
                .iter()
                .filter(|node| node.peer.as_ref().is_none_or(|peer| peer.state() != v1::NodeState::Ready));
            let joining: Vec<_> =
                joining.filter_map(|node| node.peer.as_ref()).map(|peer| peer.name.clone()).collect();
            let text = status_text(answer, self.world.unix_ms()).map_err(|error| error.to_string())?;
            if !joining.is_empty() || !text.starts_with("All is well: ") {
                return Err(format!("not ready by c{}: {joining:?}; its status:\n{text}", number + 1));
            }
        }
        Ok(())
    }

    /// Has an operator ask, and waits for the answer.
    fn command<T: Send + 'static, F>(
        &mut self,
        number: usize,
        call: impl FnOnce(Admin) -> F + Send + 'static,
    ) -> Result<Result<T, String>, String>
    where
        F: Future<Output = Result<tonic::Response<T>, tonic::Status>> + Send + 'static,
    {
        let mut asked = self.world.ask(parts::command(self.world.network.clone(), number, call));
        loop {
            if let Some(answer) = self.world.answer(&mut asked) {
                return Ok(answer);
            }
            self.step().map_err(|error| format!("{VIOLATED}{error:#}"))?;
        }
    }

    /// Lets time pass until something holds.
    fn until(
        &mut self,
        what: &str,
        deadline: Duration,
        holds: impl Fn(&mut Self) -> Result<(), String>,
    ) -> anyhow::Result<()> {
        let begun = self.world.now;
        loop {
            let state = match holds(self) {
                Ok(()) => return Ok(()),
                Err(state) => state,
            };
            if let Some(violated) = state.strip_prefix(VIOLATED) {
                bail!("{violated}");
            }
            ensure!(self.world.now < begun + deadline, "not within {deadline:?}: {what}: {state}");
            let until = self.world.now + LOOK;
            while self.world.now < until {
                self.step()?;
            }
        }
    }
}

type Admin = v1::admin_service_client::AdminServiceClient<tonic::transport::Channel>;

/// Begins the text of what was violated while something was waited for.
const VIOLATED: &str = "violated: ";
