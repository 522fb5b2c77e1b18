//! Kubernetes vouches for hosts: an agent shows the projected token of its service account in the place of a join token, and the API
//! server says of which node's pod it is (TokenReview).
//!
//! Each review is a request of its own: they are rare. No task, no state but the number of reviews in progress, which is limited: anybody
//! may ask for one.

mod review;

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{Method, Request, StatusCode, Uri, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use sextant_identity::{files, https};
use sextant_proto::{NodeName, quoted};
use tokio::sync::Semaphore;

pub use review::{NoServiceAccount, Refused, ServiceAccount};

/// How long a review may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The most octets of an answer.
const MOST_OCTETS: usize = 64 << 10;
/// The most reviews in progress.
const MOST_REVIEWS: usize = 16;
const PATH: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

/// How the API server is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// `https://HOST:PORT`.
    pub api_server: Uri,
    /// The certificates of its authority.
    pub ca_file: PathBuf,
    /// The controller's own token; read anew for each review, since it is renewed.
    pub token_file: PathBuf,
    /// The audience that the agents' tokens are projected for.
    pub audience: String,
    /// The agents' account.
    pub account: ServiceAccount,
}

/// Why a token proves no node.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// It does not.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The API server did not say.
    #[error("the API server of Kubernetes at {server} was not asked: {why}")]
    Unavailable {
        /// Its URL.
        server: String,
        /// Why.
        why: String,
    },
}

/// Reviews tokens, shared.
#[derive(Debug, Clone)]
pub struct Reviews {
    access: Arc<Access>,
    places: Arc<Semaphore>,
}

impl Reviews {
    /// By this API server.
    pub fn new(access: Access) -> Self {
        Self { access: Arc::new(access), places: Arc::new(Semaphore::new(MOST_REVIEWS)) }
    }

    /// Checks that `token` is of the agent on `node`.
    ///
    /// # Errors
    /// If it is not, or the API server does not say.
    pub async fn review(&self, token: &str, node: &NodeName) -> Result<(), ReviewError> {
        let Access { audience, account, .. } = &*self.access;
        let Ok(_place) = self.places.try_acquire() else {
            return Err(self.unavailable(format!("{MOST_REVIEWS} reviews are in progress; try again")));
        };
        let asked = tokio::time::timeout(TIMEOUT, self.ask(review::request(token, audience)));
        let answer = match asked.await {
            Ok(answer) => answer.map_err(|why| self.unavailable(why))?,
            Err(_) => return Err(self.unavailable(format!("no answer within {TIMEOUT:?}"))),
        };
        let judged = review::judge(&answer, node, audience, account);
        Ok(judged.map_err(|error| self.unavailable(format!("the answer cannot be read: {error}")))??)
    }

    async fn ask(&self, body: Vec<u8>) -> Result<Bytes, String> {
        let Access { api_server, ca_file, token_file, .. } = &*self.access;
        let roots = files::read_certificates(ca_file).map_err(|error| error.to_string())?;
        let own = std::fs::read_to_string(token_file).map_err(|error| format!("{token_file:?}: {error}"))?;
        let connection = https::connect(&roots, api_server).await.map_err(|error| error.to_string())?;
        let (mut sender, driver) =
            http1::handshake(TokioIo::new(connection)).await.map_err(|error| error.to_string())?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(PATH)
            .header(header::HOST, api_server.authority().map_or("", |it| it.as_str()))
            .header(header::AUTHORIZATION, bearer(own.trim(), token_file)?)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| error.to_string())?;
        let answered = async {
            let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MOST_OCTETS).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    return format!("the answer has more than {MOST_OCTETS} octets");
                }
                error.to_string()
            })?;
            explained(status, body.to_bytes())
        };
        // The connection lives as long as the answer: nothing is left behind. It may end when the answer is here, and not read yet.
        let mut answered = std::pin::pin!(answered);
        tokio::select! {
            answer = &mut answered => answer,
            _ended = driver => answered.await,
        }
    }

    fn unavailable(&self, why: String) -> ReviewError {
        ReviewError::Unavailable { server: self.access.api_server.to_string(), why }
    }
}

/// The controller's own token as a header, which is shown nowhere.
fn bearer(token: &str, file: &std::path::Path) -> Result<header::HeaderValue, String> {
    let value = header::HeaderValue::from_str(&format!("Bearer {token}"));
    let mut value = value.map_err(|_| format!("{file:?} has no token"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn explained(status: StatusCode, body: Bytes) -> Result<Bytes, String> {
    match status {
        StatusCode::OK | StatusCode::CREATED => Ok(body),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(format!(
            "it answers {status} to the controller; bind the role system:auth-delegator to its service account"
        )),
        _ => {
            let text: String = String::from_utf8_lossy(&body).chars().take(200).collect();
            Err(format!("it answers {status}: {}", quoted(&text)))
        }
    }
}
