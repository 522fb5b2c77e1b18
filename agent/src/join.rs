//! `sextant-agent join`, and the same at the first start with `join-token-file`: the certificate of this node for a join token.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use sextant_daemon::systemd;
use sextant_identity::{Credentials, JoinToken};
use sextant_join::{Directory, JoinError, enroll};
use sextant_streams::Printer;

use crate::settings::{Settings, Tls};

/// How long to wait before the next attempt at the first start.
const RETRY: Duration = Duration::from_secs(5);
/// By how much each attempt extends systemd's start time-out.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// The most octets that are read for a token.
const MOST: u64 = 4096;

/// Gets the certificate for the token in `token_file`, or else on standard input.
///
/// # Errors
/// If there is no token, or no certificate for it.
pub async fn run(settings: &Settings, token_file: Option<&Path>) -> anyhow::Result<()> {
    let Some(Tls::Joined { state_dir, .. }) = &settings.tls else {
        anyhow::bail!("join needs controllers at https://HOST:PORT, and no --tls-cert");
    };
    let token = match token_file {
        Some(path) => read_token(path)?,
        None => {
            let mut text = String::new();
            std::io::stdin().take(MOST).read_to_string(&mut text).context("standard input")?;
            text.parse::<JoinToken>().context("standard input")?
        }
    };
    let directory = Directory::of(state_dir);
    enroll(&directory, &settings.controllers, &settings.node, &token).await?;
    let credentials = Credentials::open(directory.paths(), None)?;
    let mut out = Printer::stdout();
    let (node, cluster) = (&settings.node, credentials.cluster());
    out.line(format_args!(
        "node {node} has joined cluster {cluster}; its key and certificate are in {}",
        directory.paths().certificate.parent().unwrap_or(state_dir).display()
    ));
    out.finish().context("standard output")
}

/// The directory of this node's certificate. A host that has none joins with the token in `token_file`; it waits for a controller.
///
/// # Errors
/// If there is no token, or it is refused.
pub(crate) async fn joined(
    settings: &Settings,
    state_dir: &Path,
    token_file: Option<&PathBuf>,
) -> anyhow::Result<Directory> {
    let directory = Directory::of(state_dir);
    if directory.has_joined() {
        return Ok(directory);
    }
    let path = token_file.with_context(|| {
        format!(
            "this node has no certificate for {}; join with a token (sextant token create --node {} | sextant-agent join), or set \
             --join-token-file, or --tls-ca, --tls-cert and --tls-key",
            settings.controllers[0], settings.node
        )
    })?;
    let mut logged = false;
    loop {
        let token = read_token(path)?;
        match enroll(&directory, &settings.controllers, &settings.node, &token).await {
            Ok(()) => {
                tracing::info!(node = %settings.node, token = %token.id, "joined: certificate received for the join token");
                return Ok(directory);
            }
            Err(error @ JoinError::Unavailable { .. }) => {
                if !std::mem::replace(&mut logged, true) {
                    tracing::warn!(%error, "cannot join yet; retrying");
                }
                systemd::notify_status(&format!("waiting to join: {error}"));
                systemd::notify_starting(START_TIMEOUT);
                tokio::time::sleep(RETRY).await;
            }
            Err(error) => return Err(error).context("cannot join"),
        }
    }
}

fn read_token(path: &Path) -> anyhow::Result<JoinToken> {
    let named = || format!("join token {}", path.display());
    fs::read_to_string(path).with_context(named)?.parse().with_context(named)
}
