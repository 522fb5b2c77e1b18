//! Essential tasks: if one ends, the process ends (DESIGN I12).

use std::{future::Future, time::Duration};

use nix::sys::signal::Signal;
use tokio::{
    signal::unix::{self, SignalKind, signal},
    task::JoinSet,
};

/// The shortest time between two log lines of an ignored signal.
const SIGNAL_QUIET: Duration = Duration::from_secs(60);

/// An essential task that ended.
#[derive(Debug, thiserror::Error)]
#[error("essential task \"{name}\" ended: {reason}")]
pub struct TaskEnded {
    name: &'static str,
    reason: String,
}

/// The essential tasks of a daemon.
#[derive(Debug, Default)]
pub struct Essential {
    tasks: JoinSet<TaskEnded>,
}

impl Essential {
    /// Starts a task. If it returns, the process ends.
    pub fn spawn<F, E>(&mut self, name: &'static str, task: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: std::fmt::Display,
    {
        self.tasks.spawn(async move {
            let reason = match task.await {
                Ok(()) => "it returned without an error".to_owned(),
                Err(error) => error.to_string(),
            };
            TaskEnded { name, reason }
        });
    }

    /// Waits until `stop` is ready (`Ok`) or a task has ended; then aborts all other tasks.
    ///
    /// # Errors
    /// The task that ended.
    pub async fn until(mut self, stop: impl Future<Output = ()>) -> Result<(), TaskEnded> {
        tokio::select! {
            () = stop => Ok(()),
            Some(ended) = self.tasks.join_next() => Err(match ended {
                Ok(ended) => ended,
                Err(panic) => TaskEnded { name: "unnamed", reason: panic.to_string() },
            }),
        }
    }
}

/// An error and its causes in one line; a cause that the text already contains is omitted.
pub fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let why = error.to_string();
        if !text.contains(&why) {
            text = format!("{text}: {why}");
        }
        cause = error.source();
    }
    text
}

/// Signals that would end the process by default, though nobody means that: a closed terminal, or tools that ask daemons to read
/// their settings or to open their logs again.
const IGNORED: [Signal; 3] = [Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2];

/// Ready at SIGTERM or SIGINT. From now on SIGHUP, SIGUSR1 and SIGUSR2 are only logged.
///
/// # Errors
/// If it cannot listen for signals.
pub fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    for ignored in IGNORED {
        tokio::spawn(ignore(ignored.as_str(), signal(SignalKind::from_raw(ignored as i32))?));
    }
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    })
}

/// Logs each of these signals, at most once in [`SIGNAL_QUIET`].
async fn ignore(name: &'static str, mut signals: unix::Signal) {
    while signals.recv().await.is_some() {
        tracing::info!(signal = name, "signal ignored; restart the service to apply changed settings");
        tokio::time::sleep(SIGNAL_QUIET).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_task_to_end_is_named() {
        let mut tasks = Essential::default();
        tasks.spawn("forever", std::future::pending::<Result<(), String>>());
        tasks.spawn("brief", async { Err("the disk is full") });
        let ended = tasks.until(std::future::pending()).await.unwrap_err();
        assert_eq!(ended.to_string(), "essential task \"brief\" ended: the disk is full");
    }
}
