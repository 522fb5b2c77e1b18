//! A connection over TLS to a server of another system, which is known by its name and an authority of its own.

use std::{io, sync::Arc};

use rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tonic::codegen::http::Uri;

/// Connects to the server of this URL, by HTTP/1.1; its certificate is for the URL's host, by one of `roots`, in DER.
///
/// # Errors
/// If it does not answer, or its certificate is not accepted.
pub async fn connect(
    roots: &[Vec<u8>],
    url: &Uri,
) -> io::Result<impl AsyncRead + AsyncWrite + Unpin + Send + 'static + use<>> {
    let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("{url}: {why}"));
    let host = url.host().ok_or_else(|| invalid("no host"))?.trim_matches(['[', ']']).to_owned();
    let port = url.port_u16().unwrap_or(443);
    let name = ServerName::try_from(host.clone()).map_err(|_| invalid("no name or address"))?;
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone().into()).map_err(|error| invalid(&error.to_string()))?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(store)
        .with_no_client_auth();
    let stream = TcpStream::connect((host.as_str(), port)).await?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}
