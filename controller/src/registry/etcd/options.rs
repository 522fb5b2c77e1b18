//! What an etcd cluster is reached by.

use std::{fmt, io, path::PathBuf, time::Duration};

use tonic::transport::Uri;

/// How to reach an etcd cluster. [`EtcdOptions::new`] has sane limits.
#[derive(Debug, Clone)]
pub struct EtcdOptions {
    /// The members' client URLs, `http://…` or `https://…`, all of one kind.
    pub endpoints: Vec<String>,
    /// Who to be, where the cluster has authentication on.
    pub login: Option<Login>,
    /// Needed for `https://`.
    pub tls: Option<Tls>,
    /// How long to wait for what.
    pub timeouts: Timeouts,
    /// Whether to begin with any of the members, so that not all controllers sit on one; else with the first one.
    pub spread: bool,
}

/// A user of etcd.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// Its name.
    pub user: String,
    /// Its password; never printed.
    pub password: String,
}

/// Files in PEM form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The certificates that the members' are signed by.
    pub ca: PathBuf,
    /// Our own certificate and its key, where the members ask for one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Limits of waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection to one member.
    pub connect: Duration,
    /// For one member's answer to a read.
    pub read: Duration,
    /// For one member's answer to a write; an election has to fit in.
    pub write: Duration,
    /// For one call over all members, while there is hope.
    pub patience: Duration,
    /// After how long an idle watch asks how far the store is.
    pub idle: Duration,
    /// For how long a watch may fail to show that it is current before it is given up.
    pub stale: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(1),
            read: Duration::from_secs(3),
            write: Duration::from_secs(5),
            patience: Duration::from_secs(8),
            idle: Duration::from_millis(300),
            stale: Duration::from_secs(5),
        }
    }
}

impl EtcdOptions {
    /// The cluster at `endpoints`, without login or TLS.
    pub fn new(endpoints: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            login: None,
            tls: None,
            timeouts: Timeouts::default(),
            spread: true,
        }
    }

    /// Finds what cannot work whatever the cluster does.
    pub(super) fn check(&self) -> Result<(), ConnectError> {
        if self.endpoints.is_empty() {
            return Err(ConnectError::NoEndpoint);
        }
        self.endpoints.iter().try_for_each(|url| check_endpoint(url, self.tls.is_some()))
    }
}

fn check_endpoint(url: &str, tls: bool) -> Result<(), ConnectError> {
    let bad = |why: &str| ConnectError::Endpoint { url: without_login(url), why: why.to_owned() };
    let uri: Uri = url.parse().map_err(|error| bad(&format!("{error}")))?;
    let authority = uri.authority().ok_or_else(|| bad("it has no host"))?;
    if authority.as_str().contains('@') {
        return Err(bad("name and password do not belong into it"));
    }
    if !matches!(uri.path(), "" | "/") {
        return Err(bad("it has a path"));
    }
    match (uri.scheme_str(), tls) {
        (Some("http"), false) | (Some("https"), true) => Ok(()),
        (Some("https"), false) => Err(bad("https needs the file of the cluster's CA")),
        (Some("http"), true) => Err(bad("with TLS files it must begin with https://")),
        _ => Err(bad("it must begin with http:// or https://")),
    }
}

/// What of `url` may be shown.
fn without_login(url: &str) -> String {
    let (before, after) = url.split_once("://").unwrap_or(("", url));
    let host = after.rsplit_once('@').map_or(after, |(_, host)| host);
    if before.is_empty() { host.to_owned() } else { format!("{before}://{host}") }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Why there can be no client of the cluster, however long one waits.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No endpoint is named.
    #[error("no etcd endpoint is named; give at least one URL: --store etcd:http://HOST:2379")]
    NoEndpoint,
    /// An endpoint is not a member's URL.
    #[error("etcd endpoint {url:?}: {why}; give URLs like http://HOST:2379")]
    Endpoint {
        /// The endpoint.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// A TLS file cannot be read.
    #[error("{} for TLS with etcd cannot be read: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The TLS files are not what they should be.
    #[error("TLS with etcd cannot be set up: {0}; check that the files are PEM certificates and their key")]
    Tls(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(url: &str, tls: bool) -> Option<String> {
        check_endpoint(url, tls).err().map(|error| error.to_string())
    }

    #[test]
    fn endpoints_are_urls_of_one_kind() {
        for (url, tls) in [
            ("http://127.0.0.1:2379", false),
            ("http://[::1]:2379/", false),
            ("https://etcd.example:2379", true),
        ] {
            assert_eq!(refused(url, tls), None, "{url}");
        }
        for (url, tls, why) in [
            ("127.0.0.1:2379", false, "it must begin with"),
            ("ftp://host:1", false, "it must begin with"),
            ("https://host:2379", false, "needs the file of the cluster's CA"),
            ("http://host:2379", true, "must begin with https"),
            ("http://host:2379/v3", false, "it has a path"),
            ("http://root:secret@host:2379", false, "do not belong into it"),
        ] {
            let told = refused(url, tls).unwrap_or_default();
            assert!(told.contains(why), "{url}: {told:?}");
            assert!(!told.contains("secret"), "{told}");
        }
    }

    #[test]
    fn a_password_is_never_printed() {
        let mut options = EtcdOptions::new(["http://host:2379"]);
        options.login = Some(Login { user: "sextant".to_owned(), password: "secret".to_owned() });
        let printed = format!("{options:?}");
        assert!(printed.contains("sextant") && !printed.contains("secret"), "{printed}");
    }
}
