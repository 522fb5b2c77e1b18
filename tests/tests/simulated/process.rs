//! A simulated process, with its own runtime and clock. It runs only while the world gives it time.
//!
//! A frozen process is one that is given none (SIGSTOP): its timers are overdue when it goes on, and what was sent to it
//! waits. A killed one is dropped with all its tasks and connections, as the kernel does it.

use std::{fmt::Display, time::Duration};

use tokio::{
    runtime::{Builder, Runtime},
    task::JoinHandle,
};

use crate::{determinism, log};

/// When the simulated world begins, in seconds since 1970.
pub const BEGIN: u64 = 1_800_000_000;

pub struct Process {
    name: String,
    runtime: Runtime,
    main: Option<JoinHandle<Result<(), String>>>,
    frozen: bool,
    /// How much time has passed while it was frozen.
    behind: Duration,
    /// How far its wall clock is ahead, in seconds.
    clock_ahead: i64,
}

impl Process {
    /// Starts a process at `now`, in time since the beginning of the world.
    pub fn start<E: Display>(
        name: &str,
        now: Duration,
        clock_ahead: i64,
        main: impl Future<Output = Result<(), E>> + Send + 'static,
    ) -> Self {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.expect("a runtime without I/O needs nothing");
        let process = Self {
            name: name.to_owned(),
            main: Some(runtime.spawn(async move { main.await.map_err(|error| format!("{error:#}")) })),
            runtime,
            frozen: false,
            behind: Duration::ZERO,
            clock_ahead,
        };
        process.on_stage(now);
        process
    }

    /// Lets it run for `tick`, from `now` on.
    pub fn run(&mut self, now: Duration, tick: Duration) {
        if self.frozen {
            self.behind += tick;
            return;
        }
        self.on_stage(now);
        self.runtime.block_on(async { tokio::time::sleep(tick).await });
    }

    pub fn freeze(&mut self) {
        self.frozen = true;
    }

    /// Goes on, late.
    pub fn thaw(&mut self, now: Duration) {
        if !std::mem::take(&mut self.frozen) {
            return;
        }
        self.on_stage(now);
        let behind = std::mem::take(&mut self.behind);
        self.runtime.block_on(async { tokio::time::advance(behind).await });
    }

    pub fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// Steps its wall clock to so many seconds ahead.
    pub fn set_clock_ahead(&mut self, seconds: i64) {
        self.clock_ahead = seconds;
    }

    /// Why it has ended, if it has.
    pub fn ended(&mut self) -> Option<String> {
        let main = self.main.take_if(|main| main.is_finished())?;
        Some(match self.runtime.block_on(main) {
            Ok(Ok(())) => "without an error".to_owned(),
            Ok(Err(error)) => error,
            Err(panic) => format!("panic: {panic}"),
        })
    }

    /// Starts something in it.
    pub fn spawn<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.runtime.spawn(task)
    }

    /// The result of what was started by [`Process::spawn`], once it is there.
    pub fn take<T>(&self, task: &mut JoinHandle<T>) -> Option<T> {
        task.is_finished().then(|| self.runtime.block_on(task).expect("what was started does not panic"))
    }

    /// What happens next on this thread is this process's doing.
    fn on_stage(&self, now: Duration) {
        let wall = i64::try_from(BEGIN + now.as_secs()).expect("in range") + self.clock_ahead;
        let wall = Duration::new(u64::try_from(wall).expect("not before 1970"), now.subsec_nanos());
        determinism::set_wall_clock(wall);
        log::on_stage(&self.name, now);
    }
}
