//! `sextant-agent join`, and the same at the first start with `join-token-file`: the certificate of this node for a join token.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use sextant_daemon::systemd;
use sextant_identity::{Credentials, Fingerprint, JoinToken, files};
use sextant_join::{Credential, Directory, Hidden, JoinError, enroll};
use sextant_streams::Printer;

use crate::settings::{JoinFiles, Settings, Tls};

/// How long to wait before the next attempt at the first start.
const RETRY: Duration = Duration::from_secs(5);
/// By how much each attempt extends systemd's start time-out.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// The most octets that are read for a token.
const MOST: u64 = 16 << 10;

/// Gets the certificate for the token in `token_file`, or else on standard input.
///
/// # Errors
/// If there is no token, or no certificate for it.
pub async fn run(settings: &Settings, token_file: Option<&Path>) -> anyhow::Result<()> {
    let Some(Tls::Joined { state_dir, files }) = &settings.tls else {
        anyhow::bail!("join needs controllers at https://HOST:PORT, and no --tls-cert");
    };
    let token = match token_file {
        Some(path) => files.of(path.to_owned()).credential()?,
        None => {
            let mut text = String::new();
            std::io::stdin().take(MOST).read_to_string(&mut text).context("standard input")?;
            files.parse(&text).context("standard input")?
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
    files: &JoinFiles,
) -> anyhow::Result<Directory> {
    let directory = Directory::of(state_dir);
    if directory.has_joined() {
        return Ok(directory);
    }
    files.token.as_ref().with_context(|| {
        format!(
            "this node has no certificate for {}; join with a token (sextant token create --node {} | sextant-agent join), or set \
             --join-token-file, or --tls-ca, --tls-cert and --tls-key",
            settings.controllers[0], settings.node
        )
    })?;
    let mut logged = false;
    loop {
        // Read anew each time: Kubernetes replaces the token of a service account before it ends.
        let credential = files.credential()?;
        match enroll(&directory, &settings.controllers, &settings.node, &credential).await {
            Ok(()) => {
                tracing::info!(node = %settings.node, by = kind(&credential), "joined: certificate received");
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

fn kind(credential: &Credential) -> String {
    match credential {
        Credential::Token(token) => format!("join token {}", token.id),
        Credential::ServiceAccount { .. } => "service-account token".to_owned(),
    }
}

impl JoinFiles {
    /// The same with this token.
    fn of(&self, token: PathBuf) -> Self {
        Self { token: Some(token), ca: self.ca.clone() }
    }

    /// What the host shows.
    fn credential(&self) -> anyhow::Result<Credential> {
        let path = self.token.as_deref().unwrap_or(Path::new(""));
        let named = || format!("join token {}", path.display());
        self.parse(&fs::read_to_string(path).with_context(named)?).with_context(named)
    }

    /// With the roots of a file the text is a token of a service account, which does not name the cluster; otherwise a join token.
    fn parse(&self, text: &str) -> anyhow::Result<Credential> {
        let Some(ca) = &self.ca else {
            let parsed = text.parse::<JoinToken>();
            return Ok(Credential::Token(
                parsed.context("a token of a service account needs --join-ca-file")?,
            ));
        };
        let roots = files::read_certificates(ca)?.iter().map(|root| Fingerprint::of(root)).collect();
        anyhow::ensure!(!text.trim().is_empty(), "the file is empty");
        Ok(Credential::ServiceAccount { token: Hidden(text.trim().to_owned()), roots })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_of_a_service_account_needs_the_roots_of_the_cluster() {
        let files = JoinFiles { token: Some("/t".into()), ca: None };
        let error = format!("{:#}", files.parse("eyJhbGciOi.J9.x").unwrap_err());
        assert!(
            error.starts_with("a token of a service account needs --join-ca-file: this is no join token"),
            "{error}"
        );
        assert!(!error.contains("eyJ"), "{error}");
        let missing = JoinFiles { ca: Some("/no/such/file".into()), ..files };
        assert!(format!("{:#}", missing.parse("eyJhbGciOi.J9.x").unwrap_err()).contains("/no/such/file"));
    }
}
