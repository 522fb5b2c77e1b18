//! The client's side: connections to controllers, whose certificates name controllers of the cluster.

use std::sync::Arc;

use hyper_util::rt::TokioIo;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        ResolvesClientCert,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
    sign::CertifiedKey,
};
use sextant_proto::PoolName;
use tokio::{io::AsyncBufReadExt, net::TcpStream};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{
    codegen::{Service, http::Uri},
    transport::{Channel, Endpoint},
};

use crate::{
    Dial, Dialling, Fingerprint, certificate::holder, dialled::Dialled, identity::Subject, join,
    live::Credentials,
};

/// Trusts a certificate of a controller of the cluster, whatever address it is reached at.
#[derive(Debug)]
pub(crate) struct ControllerVerifier {
    roots: Arc<RootCertStore>,
    /// `None`: whichever the roots certify.
    cluster: Option<PoolName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ControllerVerifier {
    pub(crate) fn new(
        roots: Arc<RootCertStore>,
        cluster: Option<PoolName>,
        provider: &CryptoProvider,
    ) -> Self {
        Self { roots, cluster, algorithms: provider.signature_verification_algorithms }
    }
}

/// An error in words, which rustls passes on.
pub(crate) fn refused(why: String) -> Error {
    let why: Box<dyn std::error::Error + Send + Sync> = why.into();
    Error::InvalidCertificate(CertificateError::Other(rustls::OtherError(Arc::from(why))))
}

impl ServerCertVerifier for ControllerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        let shown = holder(end_entity).map_err(|error| refused(error.to_string()))?.identity;
        let is_meant = self.cluster.as_ref().is_none_or(|cluster| shown.cluster == *cluster);
        match (&shown.subject, &self.cluster) {
            (Subject::Controller(_), _) if is_meant => Ok(ServerCertVerified::assertion()),
            (_, Some(cluster)) => {
                Err(refused(format!("it is of {shown}, and no controller of cluster {cluster}")))
            }
            (_, None) => Err(refused(format!("it is of {shown}, and of no controller"))),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Connections over TLS.
#[derive(Debug, Clone)]
pub struct TlsDial {
    trust: Trust,
    or_plain_text: bool,
}

/// Who is trusted, and whether an own certificate is shown.
#[derive(Debug, Clone)]
enum Trust {
    /// Controllers of the cluster, to which the own certificate is shown.
    Member(Arc<Credentials>),
    /// The same, to which none is shown.
    Anonymous(Arc<Credentials>),
    /// Controllers of the cluster with this root, to which none is shown.
    Root(Arc<ClientConfig>),
}

impl Trust {
    fn config(&self) -> Arc<ClientConfig> {
        match self {
            Self::Member(credentials) => credentials.used().client,
            Self::Anonymous(credentials) => {
                let mut config = ClientConfig::clone(&credentials.used().client);
                config.client_auth_cert_resolver = Arc::new(NoCertificate);
                Arc::new(config)
            }
            Self::Root(config) => config.clone(),
        }
    }
}

/// Shows no certificate.
#[derive(Debug)]
struct NoCertificate;

impl ResolvesClientCert for NoCertificate {
    fn resolve(&self, _issuers: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

type Connecting = std::pin::Pin<Box<dyn Future<Output = std::io::Result<TokioIo<Dialled>>> + Send>>;

impl TlsDial {
    /// With these credentials.
    pub fn new(credentials: Arc<Credentials>) -> Self {
        Self::trusting(Trust::Member(credentials))
    }

    fn trusting(trust: Trust) -> Self {
        Self { trust, or_plain_text: false }
    }

    /// As [`TlsDial::new`], and over plain text to a server that does not speak TLS: while a cluster moves to TLS.
    pub fn or_plain_text(credentials: Arc<Credentials>) -> Self {
        Self { or_plain_text: true, ..Self::new(credentials) }
    }

    /// To the controllers that these credentials trust, without showing a certificate.
    pub fn anonymous(credentials: Arc<Credentials>) -> Self {
        Self::trusting(Trust::Anonymous(credentials))
    }

    /// To the controllers of the cluster with this root, without a certificate: for a host that has none yet.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub fn by_root(root: Fingerprint) -> Result<Self, Error> {
        Ok(Self::trusting(Trust::Root(Arc::new(join::config(vec![root], "token")?))))
    }

    /// The same by the roots of a file.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub fn by_roots(roots: &[Fingerprint]) -> Result<Self, Error> {
        Ok(Self::trusting(Trust::Root(Arc::new(join::config(roots.to_vec(), "file")?))))
    }

    fn connector(
        &self,
    ) -> impl Service<Uri, Response = TokioIo<Dialled>, Error = std::io::Error, Future = Connecting> + Send + use<>
    {
        let Self { trust, or_plain_text } = self.clone();
        tower::service_fn(move |uri: Uri| -> Connecting {
            Box::pin(connect_either(trust.config(), uri, or_plain_text))
        })
    }
}

async fn connect_either(
    config: Arc<ClientConfig>,
    uri: Uri,
    or_plain_text: bool,
) -> std::io::Result<TokioIo<Dialled>> {
    let why = match connect(config, &uri).await {
        Ok(stream) => return Ok(TokioIo::new(Dialled::Tls(Box::new(stream)))),
        Err(why) => why,
    };
    let is_alert = why.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    let speaks_tls = matches!(is_alert, Some(Error::AlertReceived(_) | Error::InvalidCertificate(_)));
    let authority = uri.authority().map(ToString::to_string).filter(|_| or_plain_text && !speaks_tls);
    let Some(authority) = authority else { return Err(why) };
    let stream = TcpStream::connect(authority).await?;
    stream.set_nodelay(true)?;
    Ok(TokioIo::new(Dialled::Plain(stream)))
}

async fn connect(config: Arc<ClientConfig>, uri: &Uri) -> std::io::Result<TlsStream<TcpStream>> {
    let other = |why: &str| std::io::Error::new(std::io::ErrorKind::InvalidInput, format!("{uri}: {why}"));
    let host = uri.host().ok_or_else(|| other("no host"))?.trim_matches(['[', ']']).to_owned();
    let port = uri.port_u16().ok_or_else(|| other("no port"))?;
    let name = ServerName::try_from(host.clone()).map_err(|_| other("no name or address"))?;
    let stream = TcpStream::connect((host.as_str(), port)).await?;
    stream.set_nodelay(true)?;
    let connector = TlsConnector::from(config);
    let mut stream = connector.connect(name, stream).await?;
    // A server judges the client's certificate after the client's handshake has ended (RFC 8446 §4.4.2.4): its first frame, which an
    // HTTP/2 server sends unasked (RFC 9113 §3.4), or its alert says how.
    match stream.fill_buf().await {
        Ok([]) => Err(std::io::ErrorKind::UnexpectedEof.into()),
        Ok(_) => Ok(stream),
        Err(error) => Err(judged(error)),
    }
}

/// The error of a handshake, with the fix if the controller does not accept the certificate.
fn judged(error: std::io::Error) -> std::io::Error {
    let alert = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    let Some(Error::AlertReceived(alert)) = alert else { return error };
    std::io::Error::other(format!(
        "the controller does not accept this program's certificate ({alert:?}); use one that has not ended, of an authority \
         that the controller trusts"
    ))
}

impl Dial for TlsDial {
    fn dial(&self, endpoint: Endpoint) -> Dialling {
        let connector = self.connector();
        Box::pin(async move { endpoint.connect_with_connector(connector).await })
    }

    fn dial_lazily(&self, endpoint: Endpoint) -> Channel {
        endpoint.connect_with_connector_lazy(self.connector())
    }
}
