//! The client of one member, with its login. Certificates, keys and passwords are files that are replaced when they are renewed:
//! they are read again, without a restart.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use etcd_client::{Certificate, Client, ConnectOptions, Error, Identity, TlsOptions};
use sextant_daemon::OncePerMinute;
use tokio::{sync::OnceCell, time::Instant};

use super::options::{ConnectError, EtcdOptions, Login, Tls};

/// The keepalive interval of connections; etcd drops clients that use less than 5 s.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// The keepalive timeout.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// The shortest time between two looks at the files.
const LOOK: Duration = Duration::from_secs(1);

/// The client of one member. It connects on first use.
pub struct Connection {
    options: EtcdOptions,
    present: Mutex<Present>,
    lines: Mutex<OncePerMinute>,
}

struct Present {
    client: Arc<Client>,
    /// Each client has a token of its own.
    signed_in: Arc<OnceCell<()>>,
    files: Vec<Stamp>,
    looked: Instant,
}

/// What distinguishes a file from the one that replaces it.
type Stamp = Option<(u64, u64, i64, i64)>;

impl Connection {
    /// To `endpoint`.
    pub async fn new(endpoint: &str, options: &EtcdOptions) -> Result<Self, ConnectError> {
        let files = stamps(options.tls.as_ref());
        let client = Arc::new(connect(endpoint, options).await?);
        let present = Present { client, signed_in: Arc::default(), files, looked: Instant::now() };
        Ok(Self { options: options.clone(), present: Mutex::new(present), lines: Mutex::default() })
    }

    /// The present client.
    pub fn client(&self) -> Arc<Client> {
        self.present().client.clone()
    }

    /// Takes another client if the TLS files were replaced. Files that cannot be used, as of a renewal that is not complete, are
    /// tried again; the client before serves meanwhile.
    pub async fn renew(&self, endpoint: &str) {
        let Some(files) = self.replaced() else { return };
        match connect(endpoint, &self.options).await {
            Ok(client) => {
                let mut present = self.present();
                (present.client, present.files) = (Arc::new(client), files);
                present.signed_in = Arc::default();
                tracing::info!(endpoint, "TLS files for etcd were replaced; connecting with the new ones");
            }
            Err(error) => {
                let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(suppressed) = lines.admit(&error.to_string(), Instant::now()) {
                    tracing::warn!(endpoint, %error, suppressed, "replaced TLS files for etcd cannot be used; trying again");
                }
            }
        }
    }

    /// The present files, if they are not those of the client.
    fn replaced(&self) -> Option<Vec<Stamp>> {
        let tls = self.options.tls.as_ref()?;
        let mut present = self.present();
        if present.looked.elapsed() < LOOK {
            return None;
        }
        present.looked = Instant::now();
        let files = stamps(Some(tls));
        (files != present.files).then_some(files)
    }

    /// Logs in, if a login is configured and was not done yet.
    pub async fn sign_in(&self) -> Result<(), Error> {
        let Some(login) = &self.options.login else { return Ok(()) };
        let (client, signed_in) = {
            let present = self.present();
            (present.client.clone(), present.signed_in.clone())
        };
        signed_in.get_or_try_init(|| authenticate(&client, login)).await.copied()
    }

    /// Renews the login.
    pub async fn sign_in_again(&self) -> Result<(), Error> {
        match &self.options.login {
            Some(login) => authenticate(&self.client(), login).await,
            None => Ok(()),
        }
    }

    fn present(&self) -> MutexGuard<'_, Present> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn authenticate(client: &Client, login: &Login) -> Result<(), Error> {
    let credentials = (login.user.clone(), login.present_password());
    match client.clone().update_user(Some(credentials)).await {
        // As etcd's own clients do: if authentication is enabled later, calls fail and lead here again.
        Err(Error::GRpcStatus(status)) if status.message().contains("authentication is not enabled") => {
            Ok(())
        }
        answer => answer,
    }
}

async fn connect(endpoint: &str, options: &EtcdOptions) -> Result<Client, ConnectError> {
    let mut connecting = ConnectOptions::new()
        .with_connect_timeout(options.timeouts.connect)
        .with_keep_alive(KEEPALIVE, KEEPALIVE_TIMEOUT)
        .with_keep_alive_while_idle(false)
        // A partitioned member returns an error, and ends its watches.
        .with_require_leader(true)
        .with_auto_token_refresh(true);
    if let Some(tls) = &options.tls {
        connecting = connecting.with_tls(read_tls(tls)?);
    }
    let client = Client::connect([endpoint], Some(connecting)).await;
    client.map_err(|error| ConnectError::Tls(error.to_string()))
}

fn stamps(tls: Option<&Tls>) -> Vec<Stamp> {
    let files = tls.into_iter().flat_map(Tls::files);
    files
        .map(|file| fs::metadata(file).ok().map(|it| (it.ino(), it.size(), it.mtime(), it.mtime_nsec())))
        .collect()
}

impl Tls {
    fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let identity = self.identity.iter().flat_map(|(certificate, key)| [certificate, key]);
        std::iter::once(&self.ca).chain(identity)
    }
}

fn read_tls(tls: &Tls) -> Result<TlsOptions, ConnectError> {
    let ca = read_pem(&tls.ca, "CERTIFICATE")?;
    let mut options = TlsOptions::new().ca_certificate(Certificate::from_pem(ca));
    if let Some((certificate, key)) = &tls.identity {
        let (certificate, key) = (read_pem(certificate, "CERTIFICATE")?, read_pem(key, "PRIVATE KEY")?);
        options = options.identity(Identity::from_pem(certificate, key));
    }
    Ok(options)
}

/// Without this check a file without PEM blocks would be accepted as an empty set.
fn read_pem(path: &Path, label: &str) -> Result<String, ConnectError> {
    let text =
        fs::read_to_string(path).map_err(|source| ConnectError::File { path: path.to_owned(), source })?;
    if text.contains(&format!("{label}-----")) {
        return Ok(text);
    }
    Err(ConnectError::Tls(format!("no {label} in {}", path.display())))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    /// A certificate and its key, put in the place of those before at once.
    fn renew_files((certificate, key): &(PathBuf, PathBuf)) {
        let pair = KeyPair::generate().unwrap();
        let signed = CertificateParams::new(vec!["client".to_owned()]).unwrap().self_signed(&pair).unwrap();
        for (path, text) in [(certificate, signed.pem()), (key, pair.serialize_pem())] {
            let next = path.with_extension("next");
            fs::write(&next, text).unwrap();
            fs::rename(&next, path).unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn renewed_files_are_read_and_unusable_ones_are_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let (own, authority) = ((path("own.pem"), path("own.key")), (path("ca.pem"), path("ca.key")));
        renew_files(&own);
        renew_files(&authority);
        let endpoint = "https://[::1]:9";
        let tls = Some(Tls { ca: authority.0.clone(), identity: Some(own.clone()) });
        let connection =
            Connection::new(endpoint, &EtcdOptions { tls, ..EtcdOptions::new([endpoint]) }).await.unwrap();
        let is_another = async |before: &Arc<Client>| {
            tokio::time::advance(LOOK).await;
            connection.renew(endpoint).await;
            !Arc::ptr_eq(before, &connection.client())
        };
        let first = connection.client();
        assert!(!is_another(&first).await, "nothing was renewed");
        renew_files(&own);
        connection.renew(endpoint).await;
        assert!(Arc::ptr_eq(&first, &connection.client()), "not looked at with each call");
        assert!(is_another(&first).await);
        let second = connection.client();
        renew_files(&authority);
        assert!(is_another(&second).await, "of the authority too");
        let third = connection.client();
        fs::write(&own.1, "half a k").unwrap();
        assert!(!is_another(&third).await, "the one before serves meanwhile");
        renew_files(&own);
        assert!(is_another(&third).await);
    }
}
