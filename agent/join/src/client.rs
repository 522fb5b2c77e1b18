//! The calls to controllers.

use std::time::Duration;

use sextant_identity::{ControllerUrl, Dial};
use sextant_proto::{
    NodeName,
    v1::{self, agent_service_client::AgentServiceClient, enroll_request::Proof},
};
use tonic::{Code, Status, transport::Channel};

use crate::{
    credential::Credential,
    directory::{Directory, DirectoryError, Wish},
    key::NodeKey,
};

/// The time-out of a connection, and of a call.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// No controller answers; another attempt may succeed.
    #[error("controller {controller}: {why}")]
    Unavailable {
        /// Its URL.
        controller: String,
        /// Why.
        why: String,
    },
    /// The controller refuses, with its reason.
    #[error("controller {controller}: {why}")]
    Refused {
        /// Its URL.
        controller: String,
        /// Why.
        why: String,
    },
    /// The files.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
}

/// Gets the first certificate of `node` for a join token or the like, from the first controller that answers. Nothing is sent to one
/// whose chain does not end in a root that it is for.
///
/// # Errors
/// If no controller gives one.
pub async fn enroll(
    directory: &Directory,
    controllers: &[ControllerUrl],
    node: &NodeName,
    credential: &Credential,
) -> Result<(), JoinError> {
    let key = directory.key()?;
    let dial = credential
        .dial()
        .map_err(|error| JoinError::Unavailable { controller: "all".into(), why: error.to_string() })?;
    let request = v1::EnrollRequest {
        node: node.to_string(),
        request: request(&key)?.into(),
        proof: Some(credential.proof()),
    };
    let call = |mut client: Client| {
        let request = request.clone();
        async move { client.enroll(request).await }
    };
    let v1::EnrollResponse { certificate, pool, host_len } = first(controllers, &dial, call).await?;
    let v1::NodeCertificate { chain, roots } = certificate.unwrap_or_default();
    directory.keep(node, &key, &chain, &roots, credential.roots())?;
    Ok(directory.keep_wish(&Wish { pool, host_len })?)
}

/// Replaces the certificate, over connections that show it.
///
/// # Errors
/// If no controller gives another one.
pub async fn renew(
    directory: &Directory,
    controllers: &[ControllerUrl],
    node: &NodeName,
    dial: &dyn Dial,
) -> Result<(), JoinError> {
    let key = directory.key()?;
    let request = v1::RenewRequest { request: request(&key)?.into() };
    let call = |mut client: Client| {
        let request = request.clone();
        async move { client.renew(request).await }
    };
    let v1::RenewResponse { certificate } = first(controllers, dial, call).await?;
    let v1::NodeCertificate { chain, roots } = certificate.unwrap_or_default();
    Ok(directory.keep(node, &key, &chain, &roots, &[])?)
}

/// Replaces a certificate that has ended: over connections that show none, with the former one in the request.
///
/// # Errors
/// If no controller gives another one.
pub async fn return_with(
    directory: &Directory,
    controllers: &[ControllerUrl],
    node: &NodeName,
    anonymous: &dyn Dial,
) -> Result<(), JoinError> {
    let key = directory.key()?;
    let chain = directory.chain()?.into_iter().map(Into::into).collect();
    let request = v1::EnrollRequest {
        node: node.to_string(),
        request: request(&key)?.into(),
        proof: Some(Proof::Former(v1::FormerCertificate { chain })),
    };
    let call = |mut client: Client| {
        let request = request.clone();
        async move { client.enroll(request).await }
    };
    let v1::EnrollResponse { certificate, .. } = first(controllers, anonymous, call).await?;
    let v1::NodeCertificate { chain, roots } = certificate.unwrap_or_default();
    Ok(directory.keep(node, &key, &chain, &roots, &[])?)
}

type Client = AgentServiceClient<Channel>;

/// The answer of the first controller that answers; if none does, the reason of one that refuses, or else of the last one.
async fn first<T, F>(
    controllers: &[ControllerUrl],
    dial: &dyn Dial,
    call: impl Fn(Client) -> F,
) -> Result<T, JoinError>
where
    F: Future<Output = Result<tonic::Response<T>, Status>>,
{
    let mut failed = None;
    for url in controllers {
        let (controller, limit) = (url.to_string(), TIMEOUT);
        let asked = tokio::time::timeout(limit, async {
            let endpoint = Channel::builder(url.uri().clone()).connect_timeout(TIMEOUT).tcp_nodelay(true);
            let channel = dial.dial(endpoint).await.map_err(|error| (root_cause(&error), false))?;
            call(Client::new(channel)).await.map_err(|status| reason(&status))
        });
        let (why, refused) = match asked.await {
            Ok(Ok(answer)) => return Ok(answer.into_inner()),
            Ok(Err(failure)) => failure,
            Err(_) => (format!("no answer for {limit:?}"), false),
        };
        failed = match failed {
            Some(JoinError::Refused { .. }) if !refused => failed,
            _ if refused => Some(JoinError::Refused { controller, why }),
            _ => Some(JoinError::Unavailable { controller, why }),
        };
    }
    Err(failed
        .unwrap_or_else(|| JoinError::Unavailable { controller: "none".into(), why: "none is set".into() }))
}

/// Why a call failed, and whether the controller refused it.
fn reason(status: &Status) -> (String, bool) {
    let transport = std::error::Error::source(status).is_some();
    let refused = !transport && !matches!(status.code(), Code::Unavailable | Code::Cancelled | Code::Unknown);
    let why = if transport { root_cause(status) } else { status.message().to_owned() };
    (why, refused)
}

/// The innermost reason; the outer ones are only "transport error".
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

fn request(key: &NodeKey) -> Result<Vec<u8>, DirectoryError> {
    key.request().map_err(DirectoryError::Answer)
}
