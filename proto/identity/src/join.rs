//! The handshake of a host that knows nothing of the cluster but the hashes of its roots, by a join token or a file.

use std::sync::Arc;

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    version::TLS13,
};

use crate::{
    client::{ControllerVerifier, refused},
    live::ALPN,
    token::Fingerprint,
};

/// The side of a client that trusts controllers of the cluster with one of these roots, which are those of `known_by`.
pub(crate) fn config(roots: Vec<Fingerprint>, known_by: &'static str) -> Result<ClientConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(RootVerifier { roots, known_by, provider: provider.clone() });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// Trusts a certificate of a controller whose chain ends in a root of these hashes. The controller shows the root with its chain.
#[derive(Debug)]
struct RootVerifier {
    roots: Vec<Fingerprint>,
    known_by: &'static str,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for RootVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let is_known = |it: &&CertificateDer<'_>| self.roots.contains(&Fingerprint::of(it));
        let root = intermediates.iter().find(is_known).ok_or_else(|| {
            let it = self.known_by;
            refused(format!(
                "its chain does not end in the root of the {it}: the {it} is of another cluster, or was changed; nothing was sent"
            ))
        })?;
        let mut roots = RootCertStore::empty();
        roots.add(root.clone().into_owned())?;
        let verifier = ControllerVerifier::new(Arc::new(roots), None, &self.provider);
        verifier.verify_server_cert(end_entity, intermediates, name, ocsp, now)
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
        verify_tls13_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
