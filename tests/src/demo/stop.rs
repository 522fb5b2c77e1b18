//! Ctrl-C (and SIGTERM): takes the lab down, says so, and ends the process.
//!
//! One thread waits for the signals. The processes of the lab get a Ctrl-C too, so that the demo's next step may fail before
//! the thread has run: whoever is about to report a failure gives way to it first.

use std::{
    process,
    sync::{Condvar, Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::Context;
use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
};

/// How long a failure waits for the signal that may have caused it.
const GRACE: Duration = Duration::from_millis(300);
/// What a shell says of a process that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

static STOPPED: Mutex<bool> = Mutex::new(false);
static STOPPING: Condvar = Condvar::new();

/// From now on a signal takes this lab down.
///
/// # Errors
/// If signals cannot be waited for.
pub(super) fn on_signal(lab: &str) -> anyhow::Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_io().build()?;
    let _inside = runtime.enter();
    let mut interrupted = signal(SignalKind::interrupt()).context("SIGINT")?;
    let mut terminated = signal(SignalKind::terminate()).context("SIGTERM")?;
    drop(_inside);
    let lab = lab.to_owned();
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupted.recv() => {}
                _ = terminated.recv() => {}
            }
        });
        end(&lab);
    });
    Ok(())
}

/// Never returns if a signal has come; the thread ends the process then.
pub(super) fn give_way() {
    let stopped = STOPPED.lock().unwrap_or_else(PoisonError::into_inner);
    let (stopped, _) = STOPPING
        .wait_timeout_while(stopped, GRACE, |stopped| !*stopped)
        .unwrap_or_else(PoisonError::into_inner);
    if *stopped {
        drop(stopped);
        loop {
            thread::park();
        }
    }
}

fn end(lab: &str) {
    *STOPPED.lock().unwrap_or_else(PoisonError::into_inner) = true;
    STOPPING.notify_all();
    eprintln!("\nStopped: taking everything down.");
    if let Err(error) = crate::remove(lab) {
        eprintln!("{error:#}");
    }
    process::exit(INTERRUPTED);
}
