//! `sextant wait`: waits until every live agent has applied a revision.

use std::time::Duration;

use sextant_proto::Revision;
use tokio::time::Instant;

use crate::{
    answer::Waited,
    failure::Failure,
    global::Output,
    json,
    link::{Link, Waiting},
    progress::Progress,
    show::{self, Show},
    text,
};

/// How long after the time-out the controller's last message may arrive.
const LATE: Duration = Duration::from_secs(5);

/// `sextant wait`.
pub(crate) async fn wait(
    link: &mut Link,
    output: Output,
    revision: Option<u64>,
    timeout: Option<Duration>,
) -> Result<(), Failure> {
    let progress = Progress::new("waiting for a controller".into());
    let waited = follow(link, revision.map(Revision), timeout, &progress).await?;
    drop(progress);
    if waited.done {
        return show::print(output, &waited);
    }
    if output == Output::Json {
        show::print(output, &waited)?;
    }
    Err(Failure::TimedOut(text::lagging(&waited, timeout.unwrap_or_default())))
}

/// Shows the progress of a revision until all live agents have applied it, or the time is over.
pub(crate) async fn follow(
    link: &mut Link,
    revision: Option<Revision>,
    timeout: Option<Duration>,
    progress: &Progress,
) -> Result<Waited, Failure> {
    let deadline = timeout.map(|timeout| Instant::now() + timeout + LATE);
    let mut waiting = link.wait(revision, timeout).await?;
    let mut last = None;
    while let Some(waited) = next(&mut waiting, deadline).await? {
        progress.waited(&waited);
        last = Some(waited);
    }
    last.ok_or_else(|| {
        Failure::Failed("the controller reported no progress of the revision; try again".into())
    })
}

async fn next(waiting: &mut Waiting, deadline: Option<Instant>) -> Result<Option<Waited>, Failure> {
    let Some(deadline) = deadline else {
        return waiting.next().await;
    };
    let timed_out = |_| Failure::TimedOut("the controller stopped reporting progress; try again".into());
    tokio::time::timeout_at(deadline, waiting.next()).await.map_err(timed_out)?
}

impl Show for Waited {
    fn text(&self, _now_unix_ms: u64) -> String {
        if self.done { text::waited(self) } else { text::progress(self) + "\n" }
    }

    fn json(&self) -> serde_json::Value {
        json::value(json::Waited::from(self))
    }
}
