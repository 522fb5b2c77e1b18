//! The names that exist, for completions. The controllers and certificates are those of the environment: a half-written command line
//! does not tell them.

use std::{thread, time::Duration};

use clap::Parser;
use clap_complete::engine::CompletionCandidate;

use crate::{failure::Failure, global::Global, link::Link};

/// How long a completion waits for a controller: a person waits at the prompt.
const PATIENCE: Duration = Duration::from_secs(1);

/// The flags of every command, from the environment.
#[derive(Parser)]
struct Environment {
    #[command(flatten)]
    global: Global,
}

/// The names of the nodes.
pub(crate) fn nodes() -> Vec<CompletionCandidate> {
    ask(async |link| Ok(link.nodes().await?.items.into_iter().map(|node| node.name().to_string()).collect()))
}

/// The names of the pools.
pub(crate) fn pools() -> Vec<CompletionCandidate> {
    ask(async |link| {
        Ok(link.pools().await?.items.into_iter().map(|used| used.pool.name.to_string()).collect())
    })
}

/// What a controller answers; nothing if none answers in time.
fn ask(
    question: impl AsyncFn(&mut Link) -> Result<Vec<String>, Failure> + Send + 'static,
) -> Vec<CompletionCandidate> {
    // A thread of its own, since the program's is in its runtime.
    let asked = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
        let mut link = Environment::try_parse_from([""]).ok()?.global.link().ok()?;
        runtime.block_on(async { tokio::time::timeout(PATIENCE, question(&mut link)).await }).ok()?.ok()
    });
    asked.join().ok().flatten().unwrap_or_default().into_iter().map(CompletionCandidate::new).collect()
}
