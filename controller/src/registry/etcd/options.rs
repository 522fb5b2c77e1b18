//! Options to reach an etcd cluster.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    time::Duration,
};

use tonic::transport::Uri;

/// Options to reach an etcd cluster.
#[derive(Debug, Clone)]
pub struct EtcdOptions {
    /// The members' client URLs, `http://…` or `https://…`, all of one kind.
    pub endpoints: Vec<String>,
    /// Needed if the cluster has authentication enabled.
    pub login: Option<Login>,
    /// Needed for `https://`.
    pub tls: Option<Tls>,
    /// Timeouts.
    pub timeouts: Timeouts,
    /// Whether to begin with a random member, so that controllers spread over the members; else with the first one.
    pub spread: bool,
}

/// A user of etcd.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// Its name.
    pub user: String,
    /// Its password; never printed.
    pub password: String,
    /// The file that the password was read from. It is read again with each login: a password may be changed.
    pub file: Option<PathBuf>,
}

impl Login {
    /// The login with the password in `file`, without the end of its line.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn from_file(user: String, file: PathBuf) -> io::Result<Self> {
        Ok(Self { user, password: read_password(&file)?, file: Some(file) })
    }

    /// The password in the file, or the earlier one if the file cannot be read.
    pub(super) fn present_password(&self) -> String {
        let read = self.file.as_deref().and_then(|file| read_password(file).ok());
        read.filter(|password| !password.is_empty()).unwrap_or_else(|| self.password.clone())
    }
}

fn read_password(file: &Path) -> io::Result<String> {
    Ok(std::fs::read_to_string(file)?.trim_end_matches(['\r', '\n']).to_owned())
}

/// Files in PEM form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The CA certificates of the members.
    pub ca: PathBuf,
    /// The client certificate and its key, if the members require one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Timeouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection to one member.
    pub connect: Duration,
    /// For one member's answer to a read.
    pub read: Duration,
    /// For one member's answer to a write; must allow for an election.
    pub write: Duration,
    /// For one call over all members, including retries.
    pub patience: Duration,
    /// The silence after which an idle watch probes the store.
    pub idle: Duration,
    /// The longest time that a watch may be unproven before it ends.
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

    /// Validates the options without contacting the cluster.
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
        return Err(bad("it contains a user name or password"));
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

/// The URL without credentials.
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

/// Invalid options.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No endpoint.
    #[error("no etcd endpoint; give at least one URL: --store etcd:http://HOST:2379")]
    NoEndpoint,
    /// An endpoint is not a member's URL.
    #[error("etcd endpoint {url:?}: {why}; give URLs like http://HOST:2379")]
    Endpoint {
        /// The endpoint.
        url: String,
        /// The problem.
        why: String,
    },
    /// A TLS file cannot be read.
    #[error("{} for TLS with etcd cannot be read: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The TLS files are invalid.
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
            ("http://root:secret@host:2379", false, "it contains a user name"),
        ] {
            let error = refused(url, tls).unwrap_or_default();
            assert!(error.contains(why), "{url}: {error:?}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_changed_password_is_read_again() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "one\n").unwrap();
        let login = Login::from_file("sextant".to_owned(), file.path().to_owned()).unwrap();
        assert_eq!(login.present_password(), "one");
        std::fs::write(&file, "two\n").unwrap();
        assert_eq!(login.present_password(), "two");
        std::fs::write(&file, "").unwrap();
        assert_eq!(login.present_password(), "one", "a file that is being written");
        drop(file);
        assert_eq!(login.present_password(), "one");
    }

    #[test]
    fn a_password_is_never_printed() {
        let mut options = EtcdOptions::new(["http://host:2379"]);
        let login = Login { user: "sextant".to_owned(), password: "secret".to_owned(), file: None };
        options.login = Some(login);
        let printed = format!("{options:?}");
        assert!(printed.contains("sextant") && !printed.contains("secret"), "{printed}");
    }
}
