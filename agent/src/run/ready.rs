//! Whether the host works, for `/readyz` and systemd.

use std::time::Duration;

use sextant_daemon::systemd;
use sextant_proto::counted;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use crate::{engine::Report, problems::Found};

/// After this time, systemd is notified of readiness even if the host is not set up: a first start without a controller, or a
/// container engine that waits for the agent, must not delay the machine's boot.
const GRACE: Duration = Duration::from_secs(20);

/// Reports to `/readyz` and systemd whether the host works.
pub(super) async fn publish(
    mut report: watch::Receiver<Report>,
    mut found: watch::Receiver<Found>,
    readiness: watch::Sender<Result<(), String>>,
) -> Result<(), watch::error::RecvError> {
    let (grace_ends, mut notified) = (Instant::now() + GRACE, false);
    let mut last = String::new();
    loop {
        let (now, status) = {
            let ready = found.borrow_and_update().readiness();
            let status = status(&report.borrow_and_update(), &ready);
            (ready, status)
        };
        // A report follows each change of the cluster, and most have the same status.
        if status != last {
            systemd::notify_status(&status);
            last = status;
        }
        if !notified && (now.is_ok() || Instant::now() >= grace_ends) {
            systemd::notify_ready();
            notified = true;
        }
        let _before = readiness.send_replace(now);
        tokio::select! {
            changed = report.changed() => changed?,
            changed = found.changed() => changed?,
            () = sleep_until(grace_ends), if !notified => {}
        }
    }
}

/// For `systemctl status`.
fn status(report: &Report, ready: &Result<(), String>) -> String {
    let mut text = match (&report.announcement, ready) {
        (_, Err(problems)) => format!("waiting: {}", problems.replace('\n', "; ")),
        (Some(announcement), Ok(())) => {
            let prefixes = announcement.claims.iter().flat_map(|claim| &claim.container_prefixes);
            let prefixes: Vec<_> = prefixes.map(ToString::to_string).collect();
            format!("set up; containers have {}", prefixes.join(", "))
        }
        (None, Ok(())) => "set up; routing to the hosts".into(),
    };
    if !report.failed.is_empty() {
        text += &format!("; {} failed", counted(report.failed.len(), "route"));
    }
    if report.held > 0 {
        let routes = counted(report.held, "route");
        text += &format!("; {routes} of removed peers held by the brake until `sextant resume`");
    }
    if report.paused {
        text += "; paused";
    }
    text
}
