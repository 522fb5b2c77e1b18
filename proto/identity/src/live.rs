//! The present credentials: read again when their files change.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use rustls::{
    ClientConfig, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime},
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
    version::TLS13,
};
use sextant_proto::PoolName;

use crate::{
    certificate::{CertificateError, Holder, chain_holder},
    client::ControllerVerifier,
    files::{FileError, Material, Source, Stamp},
    identity::Subject,
};

/// What the gRPC of both sides speaks.
pub(crate) const ALPN: &[u8] = b"h2";

/// The credentials of this process. Each handshake uses the files as they are then; files that cannot be used change nothing.
#[derive(Debug)]
pub struct Credentials {
    source: Box<dyn Source>,
    cluster: PoolName,
    present: Mutex<Present>,
}

#[derive(Debug)]
struct Present {
    stamp: Stamp,
    used: Used,
    /// Of files that could not be used: each state of them is logged once.
    refused: Option<Stamp>,
}

/// The configurations of handshakes, and the holder of the certificate.
#[derive(Debug, Clone)]
pub(crate) struct Used {
    pub(crate) server: Arc<ServerConfig>,
    pub(crate) client: Arc<ClientConfig>,
    pub(crate) holder: Arc<Holder>,
    clients: Arc<dyn ClientCertVerifier>,
}

/// Why a certificate of another is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum Unverified {
    /// It is of another authority, or not valid then.
    #[error("the certificate is not valid: {0}")]
    Chain(#[from] rustls::Error),
    /// It is of nobody.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// There is none.
    #[error("there is no certificate")]
    None,
}

/// Why there are no credentials.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The certificate is of another cluster.
    #[error(
        "{path:?} is of cluster \"{found}\" ({subject}), and this is \"{cluster}\"; use a certificate of this cluster, \
         or set `cluster`"
    )]
    OtherCluster {
        /// The certificate's file.
        path: std::path::PathBuf,
        /// Its cluster.
        found: PoolName,
        /// Its holder.
        subject: Subject,
        /// The cluster that is set.
        cluster: PoolName,
    },
    /// Certificate and key do not fit.
    #[error("{path:?}: {source}; certificate and key must be of one pair")]
    Pair {
        /// The certificate's file.
        path: std::path::PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
    /// The authorities cannot be used.
    #[error("{path:?}: {why}")]
    Authorities {
        /// The certificate's file.
        path: std::path::PathBuf,
        /// What is wrong.
        why: String,
    },
}

impl Credentials {
    /// The credentials of this source, such as files, of a member of `cluster`; without one, of the cluster that the certificate names.
    ///
    /// # Errors
    /// If a file cannot be used, or the certificate is of another cluster.
    pub fn open(source: impl Source, cluster: Option<PoolName>) -> Result<Self, CredentialsError> {
        let stamp = source.stamp();
        let used = read(&source, cluster.as_ref())?;
        let cluster = used.holder.identity.cluster.clone();
        let source = Box::new(source);
        Ok(Self { source, cluster, present: Mutex::new(Present { stamp, used, refused: None }) })
    }

    /// The holder of the certificate that is used now.
    pub fn holder(&self) -> Arc<Holder> {
        self.used().holder
    }

    /// The holder of a client's certificate, which is followed by its intermediates, all in DER. It may have ended: it counts as it
    /// was in its last second.
    ///
    /// # Errors
    /// If it was not valid then.
    pub fn verify_former(&self, chain: &[Vec<u8>], now: SystemTime) -> Result<Holder, Unverified> {
        let (own, intermediates) = chain.split_first().ok_or(Unverified::None)?;
        let holder = chain_holder(chain)?;
        let at = now.min(holder.ends - Duration::from_secs(1));
        let at = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let intermediates: Vec<_> =
            intermediates.iter().map(|it| CertificateDer::from(it.as_slice())).collect();
        let clients = self.used().clients;
        clients.verify_client_cert(&own.as_slice().into(), &intermediates, UnixTime::since_unix_epoch(at))?;
        Ok(holder)
    }

    /// The cluster.
    pub fn cluster(&self) -> &PoolName {
        &self.cluster
    }

    /// What the next handshake uses. Certificate and key are written one after the other: until both fit, the former ones are used.
    pub(crate) fn used(&self) -> Used {
        let mut present = self.present();
        let stamp = self.source.stamp();
        if stamp != present.stamp && present.refused.as_ref() != Some(&stamp) {
            match read(self.source.as_ref(), Some(&self.cluster)) {
                Ok(used) => {
                    tracing::info!(ends = ?used.holder.ends, serial = used.holder.serial, "certificate read again");
                    (present.stamp, present.used) = (stamp, used);
                }
                Err(error) => {
                    tracing::warn!(%error, "changed certificate not used; the former one stays");
                    present.refused = Some(stamp);
                }
            }
        }
        present.used.clone()
    }

    fn present(&self) -> MutexGuard<'_, Present> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(source: &dyn Source, cluster: Option<&PoolName>) -> Result<Used, CredentialsError> {
    let Material { roots, chain, key, holder } = source.read()?;
    let path = source.certificate();
    if let Some(cluster) = cluster.filter(|cluster| holder.identity.cluster != **cluster) {
        let (found, subject) = (holder.identity.cluster, holder.identity.subject);
        let (path, cluster) = (path.to_owned(), cluster.clone());
        return Err(CredentialsError::OtherCluster { path, found, subject, cluster });
    }
    let pair = |source| CredentialsError::Pair { path: path.to_owned(), source };
    let provider = Arc::new(ring::default_provider());
    let roots = Arc::new(roots);
    let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|error| CredentialsError::Authorities { path: path.to_owned(), why: error.to_string() })?;
    let server = server(&provider, clients.clone(), &chain, key.clone_key(), path)?;
    let verifier = Arc::new(ControllerVerifier::new(roots, Some(holder.identity.cluster.clone()), &provider));
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(pair)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(chain, key);
    let mut client = client.map_err(pair)?;
    client.alpn_protocols = vec![ALPN.to_vec()];
    client.resumption = rustls::client::Resumption::disabled();
    Ok(Used { server: Arc::new(server), client: Arc::new(client), holder: Arc::new(holder), clients })
}

/// The server's side. Who shows no certificate may ask for its health, and nothing else. Sessions are not resumed: each connection
/// shows a certificate that is valid now.
fn server(
    provider: &Arc<CryptoProvider>,
    clients: Arc<dyn ClientCertVerifier>,
    chain: &[CertificateDer<'static>],
    key: PrivateKeyDer<'static>,
    path: &Path,
) -> Result<ServerConfig, CredentialsError> {
    let pair = |source| CredentialsError::Pair { path: path.to_owned(), source };
    let config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])
        .map_err(pair)?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain.to_vec(), key);
    let mut config = config.map_err(pair)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}
