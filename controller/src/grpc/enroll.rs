//! Certificates of nodes: the first one for a join token, and later ones for the former.

use std::time::SystemTime;

use sextant_authority::{Authority, CertifyError, Granted, Request};
use sextant_identity::{Credentials, Secret, Subject, certificate, token::sha256};
use sextant_proto::{
    NodeName,
    convert::{self, MessageError},
    v1::{self, enroll_request::Proof},
};
use tonic::Status;

use super::{Services, principal::Principal, status::malformed};
use crate::{
    audit::Actor,
    records::unix_ms,
    tokens::{Host, Wish},
};

/// The most octets of a request or a certificate, and the most certificates of a chain.
const MOST_OCTETS: usize = 16 << 10;
const MOST_CERTIFICATES: usize = 4;

/// The cluster's authority, which this controller may not have.
pub(super) fn authority(services: &Services) -> Result<&Authority, Status> {
    services.authority.as_ref().ok_or_else(|| {
        Status::failed_precondition(
            "this controller has no authority of the cluster's own; make it: sextant-controller pki init, and set `pki` in \
             controller.toml",
        )
    })
}

/// The first certificate of a node, or another one for an ended one.
pub(super) async fn enroll(
    services: &Services,
    credentials: Option<&Credentials>,
    request: v1::EnrollRequest,
    by: &Actor,
) -> Result<v1::EnrollResponse, Status> {
    let authority = authority(services)?;
    let node: NodeName = convert::parse("node", &request.node).map_err(malformed)?;
    services.denials.check(&node, None)?;
    let signed = signed_request(&request.request)?;
    match request.proof {
        Some(Proof::Token(proof)) => {
            let host = host(&node, &proof, &signed).map_err(malformed)?;
            // Nothing is signed for who has no token, and none is spent for a certificate that cannot be made.
            services.tokens.check(&host, unix_ms()).await?;
            let granted = certify(authority, &node, &signed)?;
            let wish = services.tokens.spend(&host, &by.naming(&node), unix_ms()).await?;
            tracing::info!(%node, token = %host.token, "node joined: certificate issued for a join token");
            Ok(response(granted, wish))
        }
        Some(Proof::ServiceAccount(proof)) => {
            of_account(services, &node, &proof.token).await?;
            let granted = certify(authority, &node, &signed)?;
            services.tokens.joined(&node, sha256(&signed.public_key()), by).await?;
            tracing::info!(%node, "node joined: certificate issued for a service-account token");
            Ok(response(granted, Wish::default()))
        }
        Some(Proof::Former(former)) => {
            let credentials = credentials.ok_or_else(|| Status::failed_precondition("no TLS"))?;
            of_former(services, credentials, &node, &former.chain, &signed)?;
            services.tokens.may_renew(&node, sha256(&signed.public_key())).await?;
            let granted = certify(authority, &node, &signed)?;
            tracing::info!(%node, "certificate renewed for one that had ended");
            Ok(response(granted, Wish::default()))
        }
        None => Err(malformed(MessageError::new("proof", "is missing"))),
    }
}

/// Another certificate in the place of the one that the caller has shown.
pub(super) async fn renew(
    services: &Services,
    caller: &Principal,
    request: &v1::RenewRequest,
) -> Result<v1::RenewResponse, Status> {
    let authority = authority(services)?;
    let Principal::Member(holder) = caller else {
        return Err(Status::unauthenticated("no certificate was shown"));
    };
    let Subject::Node(node) = &holder.identity.subject else {
        return Err(Status::permission_denied(format!("{caller} is no node")));
    };
    let signed = signed_request(&request.request)?;
    services.tokens.may_renew(node, sha256(&signed.public_key())).await?;
    let granted = certify(authority, node, &signed)?;
    tracing::debug!(%node, "certificate renewed");
    Ok(v1::RenewResponse { certificate: Some(message(granted)) })
}

/// Checks the former certificate: it is of this node and of the request's key, it was valid until its end, and the node's claim
/// stands. A node that was forgotten needs a join token.
fn of_former(
    services: &Services,
    credentials: &Credentials,
    node: &NodeName,
    chain: &[bytes::Bytes],
    signed: &Request,
) -> Result<(), Status> {
    if chain.len() > MOST_CERTIFICATES || chain.iter().any(|it| it.len() > MOST_OCTETS) {
        return Err(malformed(MessageError::new("chain", "has too many certificates, or too long ones")));
    }
    let chain: Vec<Vec<u8>> = chain.iter().map(|it| it.to_vec()).collect();
    let refused =
        |why: String| Status::permission_denied(format!("the former certificate is refused: {why}"));
    let holder =
        credentials.verify_former(&chain, SystemTime::now()).map_err(|error| refused(error.to_string()))?;
    services.denials.check_holder(&holder)?;
    let is_its = holder.identity.cluster == *credentials.cluster()
        && holder.identity.subject == Subject::Node(node.clone());
    if !is_its {
        return Err(refused(format!("it is of {}, and not of node {node}", holder.identity)));
    }
    if certificate::public_key(&chain[0]).map_err(|error| refused(error.to_string()))? != signed.public_key()
    {
        return Err(refused("the request is signed by another key".to_owned()));
    }
    if !services.index.read(|state| state.nodes().contains_key(node)) {
        return Err(refused(format!(
            "it has ended, and node {node} has no claim; join again: sextant token create --node {node}"
        )));
    }
    Ok(())
}

/// Checks the token of a service account: the API server of Kubernetes says that it is of the agent on this node.
async fn of_account(services: &Services, node: &NodeName, token: &str) -> Result<(), Status> {
    let reviews = services.reviews.as_ref().ok_or_else(|| {
        Status::failed_precondition(
            "this controller takes no service-account tokens; set [kubernetes] in controller.toml, or join with: sextant token create",
        )
    })?;
    if token.len() > MOST_OCTETS {
        return Err(malformed(MessageError::new("token", "is too long")));
    }
    Ok(reviews.review(token, node).await?)
}

fn signed_request(der: &[u8]) -> Result<Request, Status> {
    if der.len() > MOST_OCTETS {
        return Err(malformed(MessageError::new("request", "is too long")));
    }
    Request::from_der(der).map_err(|error| malformed(MessageError::new("request", error)))
}

fn host(node: &NodeName, proof: &v1::TokenProof, signed: &Request) -> Result<Host, MessageError> {
    let secret = Secret::from_octets(&proof.secret);
    Ok(Host {
        token: convert::parse("id", &proof.id)?,
        secret: secret.ok_or_else(|| MessageError::new("secret", "has not 32 octets"))?,
        node: node.clone(),
        key_hash: sha256(&signed.public_key()),
    })
}

fn certify(authority: &Authority, node: &NodeName, signed: &Request) -> Result<Granted, Status> {
    authority.certify(node, signed, SystemTime::now()).map_err(|error| match error {
        CertifyError::Request(_) => Status::invalid_argument(error.to_string()),
        _ => Status::unavailable(error.to_string()),
    })
}

fn response(granted: Granted, wish: Wish) -> v1::EnrollResponse {
    v1::EnrollResponse {
        certificate: Some(message(granted)),
        pool: wish.pool.map(|it| it.to_string()).unwrap_or_default(),
        host_len: wish.host_len.unwrap_or(0),
    }
}

fn message(Granted { chain, roots, .. }: Granted) -> v1::NodeCertificate {
    v1::NodeCertificate { chain, roots }
}
