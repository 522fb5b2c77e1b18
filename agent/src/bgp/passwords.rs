//! The passwords of neighbours, which are read again while the agent runs.

use std::{future::pending, time::Duration};

use tokio::time::{Instant, sleep_until};

use crate::{
    problems::Finding,
    settings::{NeighbourSettings, Password},
};

/// How often the files are read.
const EVERY: Duration = Duration::from_secs(5);

/// The passwords, and the errors of their files.
pub(super) struct Passwords {
    /// With the names of their neighbours.
    all: Vec<(String, Password)>,
    findings: Vec<Finding>,
    again_at: Instant,
}

impl Passwords {
    /// Those of these neighbours, which have just been read.
    pub(super) fn of(neighbours: &[NeighbourSettings]) -> Self {
        let named = |it: &NeighbourSettings| Some((it.name(), it.password.clone()?));
        let all = neighbours.iter().filter_map(named).collect();
        Self { all, findings: Vec::new(), again_at: Instant::now() + EVERY }
    }

    /// Waits until they are to be read again. Cancel safe.
    pub(super) async fn due(&self) {
        if self.all.is_empty() {
            pending::<()>().await;
        }
        sleep_until(self.again_at).await;
    }

    /// Reads them again. Returns whether any is another one now.
    pub(super) fn read_again(&mut self) -> bool {
        self.again_at = Instant::now() + EVERY;
        self.findings.clear();
        let mut changed = false;
        for (neighbour, password) in &self.all {
            match password.read_again() {
                Ok(false) => {}
                Ok(true) => {
                    tracing::info!(neighbour, "password of a BGP neighbour changed");
                    changed = true;
                }
                Err(error) => self.findings.push(finding(neighbour, &error.to_string())),
            }
        }
        changed
    }

    /// The files that cannot be read.
    pub(super) fn findings(&self) -> impl Iterator<Item = Finding> {
        self.findings.iter().cloned()
    }
}

fn finding(neighbour: &str, error: &str) -> Finding {
    Finding::new(
        "bgp-password",
        format!("{error}; the session with {neighbour} keeps the password that was read before"),
        "write the password to that file again; sextant-agent does not start without it",
    )
}
