//! What a TokenReview (authentication.k8s.io/v1) asks, and what its answer proves. Pure.

use std::{fmt, str::FromStr};

use serde::Deserialize;
use serde_json::json;
use sextant_proto::{NodeName, quoted};

/// Where the API server puts the name of the node that a token's pod is bound to (Kubernetes 1.30 and later).
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";

/// A service account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAccount {
    namespace: String,
    name: String,
}

/// A text that names no service account.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("give it NAMESPACE/NAME, e.g. sextant/sextant-agent")]
pub struct NoServiceAccount;

impl FromStr for ServiceAccount {
    type Err = NoServiceAccount;

    fn from_str(text: &str) -> Result<Self, NoServiceAccount> {
        let is_name = |part: &str| {
            let is_of_name =
                |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-' || it == b'.';
            !part.is_empty() && part.len() <= 253 && part.bytes().all(is_of_name)
        };
        let (namespace, name) = text.split_once('/').ok_or(NoServiceAccount)?;
        if !is_name(namespace) || !is_name(name) {
            return Err(NoServiceAccount);
        }
        Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
    }
}

/// As the API server names its user.
impl fmt::Display for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "system:serviceaccount:{}:{}", self.namespace, self.name)
    }
}

/// Why a token proves no node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The API server does not know it.
    #[error("the service-account token is not valid: {0}")]
    Token(String),
    /// It is for others.
    #[error("the service-account token is not for audience {0}; project it with this audience")]
    Audience(String),
    /// It is of another account.
    #[error("the service-account token is of {found}, and not of {wanted}")]
    Account {
        /// Its user.
        found: String,
        /// The account of the settings.
        wanted: ServiceAccount,
    },
    /// It names no node.
    #[error(
        "the service-account token is bound to no node: project it into a pod of the agent; the API server names the node from \
         Kubernetes 1.30 on"
    )]
    NoNode,
    /// It is of a pod on another node.
    #[error(
        "the service-account token is of a pod on node {found}, and this is node {node}; set --node to the name in Kubernetes"
    )]
    Node {
        /// The node of the token.
        found: String,
        /// The node that joins.
        node: NodeName,
    },
}

#[derive(Debug, Default, Deserialize)]
struct Review {
    #[serde(default)]
    status: ReviewStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ReviewStatus {
    authenticated: bool,
    user: User,
    audiences: Vec<String>,
    error: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct User {
    username: String,
    extra: std::collections::BTreeMap<String, Vec<String>>,
}

/// The body of the request.
pub(super) fn request(token: &str, audience: &str) -> Vec<u8> {
    let body = json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": { "token": token, "audiences": [audience] },
    });
    body.to_string().into_bytes()
}

/// Whether the answer proves that the token is of the agent on `node`; an error in it if it is no answer.
pub(super) fn judge(
    answer: &[u8],
    node: &NodeName,
    audience: &str,
    account: &ServiceAccount,
) -> Result<Result<(), Refused>, serde_json::Error> {
    let Review { status } = serde_json::from_slice(answer)?;
    Ok(proves(&status, node, audience, account))
}

fn proves(
    status: &ReviewStatus,
    node: &NodeName,
    audience: &str,
    account: &ServiceAccount,
) -> Result<(), Refused> {
    if !status.authenticated || !status.error.is_empty() {
        let why =
            if status.error.is_empty() { "the API server does not authenticate it" } else { &status.error };
        return Err(Refused::Token(quoted(why)));
    }
    // An API server that does not know of audiences names none.
    if !status.audiences.iter().any(|it| it == audience) {
        return Err(Refused::Audience(audience.to_owned()));
    }
    if status.user.username != account.to_string() {
        let (found, wanted) = (quoted(&status.user.username), account.clone());
        return Err(Refused::Account { found, wanted });
    }
    match status.user.extra.get(NODE_NAME).map(Vec::as_slice) {
        Some([found]) if found == node.as_str() => Ok(()),
        Some([found]) => Err(Refused::Node { found: quoted(found), node: node.clone() }),
        _ => Err(Refused::NoNode),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn account() -> ServiceAccount {
        "sextant/sextant-agent".parse().unwrap()
    }

    fn answer() -> Value {
        json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "status": {
                "authenticated": true,
                "user": {
                    "username": "system:serviceaccount:sextant:sextant-agent",
                    "uid": "1", "groups": ["system:serviceaccounts"],
                    "extra": { NODE_NAME: ["h1"], "authentication.kubernetes.io/pod-name": ["agent-x"] },
                },
                "audiences": ["sextant"],
            },
        })
    }

    fn judged(change: impl Fn(&mut Value)) -> Result<(), Refused> {
        let mut answer = answer();
        change(&mut answer["status"]);
        judge(answer.to_string().as_bytes(), &"h1".parse().unwrap(), "sextant", &account()).unwrap()
    }

    #[test]
    fn a_token_of_the_agent_on_the_node_is_taken_and_no_other() {
        assert_eq!(judged(|_| {}), Ok(()));
        type Change = fn(&mut Value);
        let refused: [(Change, &str); 10] = [
            (|it| it["authenticated"] = false.into(), "does not authenticate it"),
            (|it| it["error"] = "token has expired".into(), "token has expired"),
            (|it| it["audiences"] = json!(["https://kubernetes.default.svc"]), "not for audience sextant"),
            (|it| it["audiences"] = json!([]), "not for audience sextant"),
            (
                |it| it["user"]["username"] = "system:serviceaccount:sextant:default".into(),
                "and not of system:",
            ),
            (
                |it| it["user"]["username"] = "system:serviceaccount:evil:sextant-agent".into(),
                "and not of system:",
            ),
            (|it| it["user"]["username"] = "sextant-agent".into(), "and not of system:"),
            (|it| it["user"]["extra"][NODE_NAME] = json!(["h2"]), "on node h2, and this is node h1"),
            (|it| it["user"]["extra"][NODE_NAME] = json!(["h2", "h1"]), "bound to no node"),
            (|it| it["user"]["extra"] = json!({}), "bound to no node"),
        ];
        for (change, why) in refused {
            let error = judged(change).unwrap_err().to_string();
            assert!(error.contains(why), "{why}: {error}");
        }
        assert!(judged(|it| *it = json!({})).is_err());
        assert!(judge(b"nothing", &"h1".parse().unwrap(), "sextant", &account()).is_err());
    }

    #[test]
    fn the_request_names_token_and_audience() {
        let body: Value = serde_json::from_slice(&request("a.b\"c", "sextant")).unwrap();
        assert_eq!((&body["kind"], &body["spec"]["token"]), (&"TokenReview".into(), &"a.b\"c".into()));
        assert_eq!(body["spec"]["audiences"], json!(["sextant"]));
    }

    #[test]
    fn a_service_account_has_a_namespace() {
        assert_eq!(account().to_string(), "system:serviceaccount:sextant:sextant-agent");
        for text in ["", "agent", "/agent", "a/", "a/b:c", "a/b/c", "A/b"] {
            assert!(text.parse::<ServiceAccount>().is_err(), "{text:?}");
        }
    }
}
