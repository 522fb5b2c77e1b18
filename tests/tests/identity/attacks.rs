//! Requests of certificates that somebody makes by hand: none gives more than the node of its proof.

use rcgen::{CertificateParams, DnType, KeyPair, SanType};
use sextant_identity::{Credentials, Dial, Paths, TlsDial, files};
use sextant_proto::v1::{self, agent_service_client::AgentServiceClient, enroll_request::Proof};
use sextant_tests::Lab;
use tonic::{Code, Status, transport::Channel};

use crate::{authority::Authority, own::Own};

/// A request that asks for the names of an admin, in DER.
fn request(key: &KeyPair) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::OrganizationalUnitName, "admin");
    params.subject_alt_names = vec![SanType::URI("spiffe://default/admin/root".try_into().unwrap())];
    params.serialize_request(key).unwrap().der().to_vec()
}

/// Makes a call over TLS, with the certificate of these files or without one.
fn call<T: Send, F: Future<Output = Result<tonic::Response<T>, Status>>>(
    own: &Own,
    files: &Paths,
    shows_it: bool,
    call: impl FnOnce(AgentServiceClient<Channel>) -> F + Send,
) -> Result<T, Status> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let credentials = std::sync::Arc::new(Credentials::open(files.clone(), None).unwrap());
    let dial = if shows_it { TlsDial::new(credentials) } else { TlsDial::anonymous(credentials) };
    let url = format!("http://[{}]:7300", Lab::controller_address(1));
    let answer = own.lab.switch().enter(|| {
        runtime.block_on(async {
            let channel = dial.dial(Channel::from_shared(url).unwrap()).await.unwrap();
            call(AgentServiceClient::new(channel)).await
        })
    });
    answer.unwrap().map(tonic::Response::into_inner)
}

#[test]
fn a_request_gets_a_certificate_for_the_node_of_its_proof_alone() {
    let mut own = Own::start("forged requests", 1, 86_400);
    own.join_anew(0);
    own.start_agent(0, &[]);
    own.wait_ready("h1");
    let tls = own.lab.state_dir(&own.hosts[0]).join("tls");
    let [root, certificate, key] = ["root.pem", "node.pem", "node.key"].map(|name| tls.join(name));
    let h1 = Paths { authorities: root.clone(), certificate, key };
    let pki = |name: &str| own.pki_dir(1).join(name);
    let ann = Paths { authorities: root, certificate: pki("ann.pem"), key: pki("ann.key") };
    let key_of = |files: &Paths| KeyPair::from_pem(&std::fs::read_to_string(&files.key).unwrap()).unwrap();
    let (own_key, other_key, ann_key) = (key_of(&h1), KeyPair::generate().unwrap(), key_of(&ann));
    let chain = |files: &Paths| files::read_certificates(&files.certificate).unwrap();

    let enroll = |node: &str, key: &KeyPair, chain: Vec<Vec<u8>>| {
        let chain = chain.into_iter().map(Into::into).collect();
        let proof = Some(Proof::Former(v1::FormerCertificate { chain }));
        let request = v1::EnrollRequest { node: node.to_owned(), request: request(key).into(), proof };
        call(&own, &h1, false, |mut client| async move { client.enroll(request).await })
    };
    let refused = |node: &str, key: &KeyPair, chain: Vec<Vec<u8>>, why: &str| {
        let status = enroll(node, key, chain).unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{status}");
        assert!(status.message().contains(why), "{why}: {status}");
    };
    // A certificate without its key, of another node, of a person, of another authority, and none.
    refused("h1", &other_key, chain(&h1), "the request is signed by another key");
    refused("h2", &own_key, chain(&h1), "it is of spiffe://default/node/h1, and not of node h2");
    refused("ann", &ann_key, chain(&ann), "it is of spiffe://default/admin/ann, and not of node ann");
    let foreign = Authority::new().member(&own.lab.dir().join("foreign"), "spiffe://default/node/h1", None);
    let foreign = Paths {
        authorities: h1.authorities.clone(),
        certificate: foreign.path("cert.pem"),
        key: foreign.path("key.pem"),
    };
    refused("h1", &key_of(&foreign), chain(&foreign), "UnknownIssuer");
    refused("h1", &own_key, Vec::new(), "there is no certificate");
    let many = vec![chain(&h1)[0].clone(); 5];
    assert_eq!(enroll("h1", &own_key, many).unwrap_err().code(), Code::InvalidArgument);

    // What is granted has the name of the node, whatever the request asks for.
    let granted = enroll("h1", &own_key, chain(&h1)).unwrap().certificate.unwrap();
    let named = |chain: &str| {
        let chain = files::parse_certificates(chain.as_bytes()).unwrap();
        sextant_identity::certificate::holder(&chain[0]).unwrap()
    };
    assert_eq!(named(&granted.chain).identity.to_string(), "spiffe://default/node/h1");

    let renew_for = |files: &Paths, shows_it, key: &KeyPair| {
        let request = v1::RenewRequest { request: request(key).into() };
        call(&own, files, shows_it, |mut client| async move { client.renew(request).await })
    };
    let renew = |files: &Paths, shows_it| renew_for(files, shows_it, &own_key);
    let refused = renew_for(&h1, true, &other_key).unwrap_err();
    assert!(refused.message().contains("another host has joined as node h1 since"), "{refused}");
    let granted = renew(&h1, true).unwrap().certificate.unwrap();
    assert_eq!(named(&granted.chain).identity.to_string(), "spiffe://default/node/h1");
    assert_eq!(renew(&h1, false).unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(renew(&ann, true).unwrap_err().code(), Code::PermissionDenied);
    // No proof, and no request.
    for request in [
        v1::EnrollRequest { node: "h1".into(), request: request(&own_key).into(), proof: None },
        v1::EnrollRequest { node: "h1".into(), request: vec![0; 100_000].into(), proof: None },
        v1::EnrollRequest { node: "h1".into(), ..Default::default() },
    ] {
        let status = call(&own, &h1, false, |mut client| async move { client.enroll(request).await });
        assert_eq!(status.unwrap_err().code(), Code::InvalidArgument);
    }
}
