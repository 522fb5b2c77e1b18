//! Ctrl-C and SIGTERM: remove the lab and end the process.
//!
//! One thread waits for the signals. The lab's processes get a Ctrl-C too, so the demo's next step may fail before that
//! thread has run. So a failure is reported only after [`wait_for_signal`].

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

/// How long a failure waits for a signal that may have caused it.
const GRACE: Duration = Duration::from_millis(300);
/// A shell's exit code for a process that Ctrl-C ended: 128 + SIGINT.
const INTERRUPTED: i32 = 130;

static STOPPED: Mutex<bool> = Mutex::new(false);
static STOPPING: Condvar = Condvar::new();

/// From now on a signal removes this lab.
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

/// Returns after [`GRACE`] unless a signal arrives; then the signal's thread ends the process.
pub(super) fn wait_for_signal() {
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
    eprintln!("\nInterrupted: removing the demo's network namespaces, processes and files.");
    if let Err(error) = crate::remove(lab) {
        eprintln!("{error:#}");
    }
    process::exit(INTERRUPTED);
}
