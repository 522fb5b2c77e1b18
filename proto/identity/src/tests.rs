//! Handshakes between members, in memory, with certificates of an authority that each test makes.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, sync::Arc, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use rustls::{ClientConfig, pki_types::ServerName};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio_rustls::TlsConnector;

use crate::{Credentials, Paths, Peer, Served, certificate::Holder, live::CredentialsError};

/// An authority.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        // Certificates are found by the name of their authority.
        params.distinguished_name.push(DnType::CommonName, format!("{:x?}", &key.public_key_raw()[..8]));
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// The certificate and the key of a member. It ends `days` from now.
    fn member(&self, uri: &str, days: i64) -> (String, String) {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let (year, month, day) = (2020, 1, 1);
        params.not_before = rcgen::date_time_ymd(year, month, day);
        params.not_after = std::time::SystemTime::now()
            .checked_add(Duration::from_secs(86_400 * days.unsigned_abs()))
            .filter(|_| days > 0)
            .map_or_else(|| rcgen::date_time_ymd(2021, 1, 1), Into::into);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// The files of a member.
struct Files {
    dir: TempDir,
}

impl Files {
    fn of(authority: &Authority, uri: &str) -> Self {
        let files = Self { dir: tempfile::tempdir().unwrap() };
        files.write("ca.pem", &authority.pem);
        files.renew(authority, uri, 1);
        files
    }

    fn renew(&self, authority: &Authority, uri: &str, days: i64) {
        let (certificate, key) = authority.member(uri, days);
        self.write("cert.pem", &certificate);
        self.write("key.pem", &key);
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn paths(&self) -> Paths {
        let path = |name: &str| Path::new(self.dir.path()).join(name);
        Paths { authorities: path("ca.pem"), certificate: path("cert.pem"), key: path("key.pem") }
    }

    fn open(&self) -> Credentials {
        Credentials::open(self.paths(), Some("c1".parse().unwrap())).unwrap()
    }
}

/// What the server has seen, or the client's error and the server's.
async fn shake(client: Arc<ClientConfig>, server: &Credentials) -> Result<Option<Holder>, String> {
    let (near, far) = duplex(64 << 10);
    let mut served = Served::new(far, server, Peer::default());
    let peer = served.peer().clone();
    let name = ServerName::try_from("2001:db8::1").unwrap();
    let asking = async {
        let mut stream = TlsConnector::from(client).connect(name, near).await.map_err(|it| it.to_string())?;
        stream.write_all(b"hello").await.map_err(|it| it.to_string())?;
        // In TLS 1.3 the server judges the client's certificate after the client has finished.
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).await.map_err(|it| it.to_string())
    };
    let answering = async {
        let mut octets = [0; 5];
        served.read_exact(&mut octets).await.map_err(|it| it.to_string())?;
        served.write_all(&octets).await.map_err(|it| it.to_string())?;
        served.flush().await.map_err(|it| it.to_string())
    };
    let (asked, answered) = tokio::join!(asking, answering);
    match (asked, answered) {
        (Ok(_), Ok(())) => peer.holder().map_err(|error| error.to_string()),
        (asked, answered) => Err(format!("{asked:?}; {answered:?}")),
    }
}

/// A client that shows no certificate.
#[derive(Debug)]
struct NoCertificate;

impl rustls::client::ResolvesClientCert for NoCertificate {
    fn resolve(
        &self,
        _issuers: &[&[u8]],
        _schemes: &[rustls::SignatureScheme],
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

const NODE: &str = "spiffe://c1/node/h1";
const CONTROLLER: &str = "spiffe://c1/controller/a";

#[tokio::test]
async fn a_node_and_a_controller_know_each_other_by_their_certificates() {
    let authority = Authority::new();
    let (controller, node) = (Files::of(&authority, CONTROLLER).open(), Files::of(&authority, NODE).open());
    let seen = shake(node.used().client, &controller).await.unwrap().unwrap();
    assert_eq!(seen.identity.to_string(), NODE);
    assert_eq!(seen, *node.holder());
}

#[tokio::test]
async fn a_client_without_a_certificate_is_seen_as_nobody() {
    let authority = Authority::new();
    let (controller, node) = (Files::of(&authority, CONTROLLER).open(), Files::of(&authority, NODE).open());
    let mut nobody = ClientConfig::clone(&node.used().client);
    nobody.client_auth_cert_resolver = Arc::new(NoCertificate);
    assert_eq!(shake(Arc::new(nobody), &controller).await, Ok(None));
}

#[tokio::test]
async fn only_a_controller_of_the_cluster_is_trusted_as_a_controller() {
    let (authority, other) = (Authority::new(), Authority::new());
    let node = Files::of(&authority, NODE).open();
    for uri in ["spiffe://c1/node/h2", "spiffe://c1/admin/ann"] {
        let refused = shake(node.used().client, &Files::of(&authority, uri).open()).await.unwrap_err();
        assert!(refused.contains(&format!("it is of {uri}, and no controller of cluster c1")), "{refused}");
    }
    let elsewhere = Files::of(&authority, "spiffe://c2/controller/a");
    let elsewhere = Credentials::open(elsewhere.paths(), None).unwrap();
    let refused = shake(node.used().client, &elsewhere).await.unwrap_err();
    assert!(refused.contains("no controller of cluster c1"), "{refused}");
    let refused = shake(node.used().client, &Files::of(&other, CONTROLLER).open()).await.unwrap_err();
    assert!(refused.contains("UnknownIssuer"), "{refused}");
    let expired = Files::of(&authority, CONTROLLER);
    expired.renew(&authority, CONTROLLER, -1);
    let refused = shake(node.used().client, &expired.open()).await.unwrap_err();
    assert!(refused.contains("xpired"), "{refused}");
}

#[tokio::test]
async fn clients_of_other_authorities_and_expired_ones_are_refused() {
    let (authority, other) = (Authority::new(), Authority::new());
    let controller = Files::of(&authority, CONTROLLER);
    let foreign = Files::of(&other, NODE);
    foreign.write("ca.pem", &authority.pem);
    let refused = shake(foreign.open().used().client, &controller.open()).await.unwrap_err();
    assert!(refused.contains("UnknownIssuer"), "{refused}");
    let expired = Files::of(&authority, NODE);
    expired.renew(&authority, NODE, -1);
    let refused = shake(expired.open().used().client, &controller.open()).await.unwrap_err();
    assert!(refused.contains("xpired"), "{refused}");
}

#[tokio::test]
async fn a_renewed_certificate_is_used_at_once_and_a_half_written_one_never() {
    let authority = Authority::new();
    let files = Files::of(&authority, NODE);
    let (controller, node) = (Files::of(&authority, CONTROLLER).open(), files.open());
    let before = node.holder().serial.clone();
    let (certificate, key) = authority.member(NODE, 2);
    files.write("cert.pem", &certificate);
    let seen = shake(node.used().client, &controller).await.unwrap().unwrap();
    assert_eq!(seen.serial, before, "the key is still that of the former one");
    files.write("key.pem", &key);
    let seen = shake(node.used().client, &controller).await.unwrap().unwrap();
    assert_ne!(seen.serial, before);
    fs::remove_file(files.paths().key).unwrap();
    assert_eq!(node.holder().serial, seen.serial);
}

#[tokio::test]
async fn both_authorities_of_a_roll_over_are_trusted() {
    let (former, next) = (Authority::new(), Authority::new());
    let both = format!("{}{}", former.pem, next.pem);
    let (old, new) = (Files::of(&former, NODE), Files::of(&next, CONTROLLER));
    [&old, &new].into_iter().for_each(|files| files.write("ca.pem", &both));
    assert!(shake(old.open().used().client, &new.open()).await.unwrap().is_some());
}

#[test]
fn files_that_cannot_be_used_are_refused_with_the_reason() {
    let (authority, other) = (Authority::new(), Authority::new());
    let refused = |change: &dyn Fn(&Files)| {
        let files = Files::of(&authority, NODE);
        change(&files);
        Credentials::open(files.paths(), Some("c1".parse().unwrap())).unwrap_err().to_string()
    };
    let exposed = refused(&|files| {
        fs::set_permissions(files.paths().key, fs::Permissions::from_mode(0o644)).unwrap();
    });
    assert!(exposed.contains("chmod 600") && exposed.contains("key.pem"), "{exposed}");
    let of_group = Files::of(&authority, NODE);
    fs::set_permissions(of_group.paths().key, fs::Permissions::from_mode(0o640)).unwrap();
    of_group.open();
    let missing = refused(&|files| fs::remove_file(files.paths().certificate).unwrap());
    assert!(
        missing.contains("cert.pem")
            && missing.contains("there is no such file; install it, or set --tls-cert"),
        "{missing}"
    );
    let pair = refused(&|files| files.write("key.pem", &other.member(NODE, 1).1));
    assert!(pair.contains("must be of one pair"), "{pair}");
    for name in ["ca.pem", "cert.pem", "key.pem"] {
        let text = refused(&|files| files.write(name, "nothing"));
        assert!(text.contains(name) && text.contains("in PEM"), "{text}");
    }
    let files = Files::of(&authority, "spiffe://c2/node/h1");
    let error = Credentials::open(files.paths(), Some("c1".parse().unwrap())).unwrap_err();
    assert!(matches!(&error, CredentialsError::OtherCluster { .. }), "{error}");
}
