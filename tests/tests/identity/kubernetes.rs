//! Projected tokens of service accounts in the place of join tokens, with an API server of the test's own.

use std::{
    collections::HashMap,
    fs,
    net::Ipv6Addr,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use serde_json::{Value, json};
use sextant_tests::{Joined, Namespace, SECONDS, poll};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    runtime::{Builder, Runtime},
};
use tokio_rustls::TlsAcceptor;

use crate::own::Own;

const DAY: u32 = 86_400;
const ACCOUNT: &str = "system:serviceaccount:sextant:sextant-agent";

/// How it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Right,
    Slow,
    Large,
    Failing,
}

/// The part of an API server that reviews tokens.
struct ApiServer {
    mood: Arc<Mutex<Mood>>,
    /// The controller's own tokens, as it has shown them.
    shown: Arc<Mutex<Vec<String>>>,
    _runtime: Runtime,
}

/// What the server answers for each token: its user, node, and audience.
type Tokens = HashMap<&'static str, (&'static str, &'static str, &'static str)>;

impl ApiServer {
    /// Listens at [::1]:6443 of this namespace; the certificate of its authority is written to `ca`.
    fn start(namespace: &Namespace, ca: &PathBuf, tokens: Tokens) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        fs::write(ca, params.self_signed(&key).unwrap().pem()).unwrap();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let mut own = CertificateParams::default();
        own.subject_alt_names = vec![SanType::IpAddress(Ipv6Addr::LOCALHOST.into())];
        let certificate = own.signed_by(&key, &issuer).unwrap().der().clone();
        let config =
            rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(
                    vec![certificate],
                    rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into()),
                )
                .unwrap();
        let (mood, shown) = (Arc::new(Mutex::new(Mood::Right)), Arc::<Mutex<Vec<String>>>::default());
        let (tokens, acceptor) = (Arc::new(tokens), TlsAcceptor::from(Arc::new(config)));
        let (moods, all_shown) = (mood.clone(), shown.clone());
        let serve = move || {
            // Its thread stays in the network namespace that it is created in.
            let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            let listener = runtime.block_on(TcpListener::bind("[::1]:6443")).unwrap();
            runtime.spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let (acceptor, tokens) = (acceptor.clone(), tokens.clone());
                    let (moods, shown) = (moods.clone(), all_shown.clone());
                    tokio::spawn(async move {
                        let mut stream = acceptor.accept(stream).await?;
                        let (head, body) = request(&mut stream).await?;
                        let mood = *moods.lock().unwrap();
                        let own = head.lines().find_map(|line| line.strip_prefix("authorization: Bearer "));
                        shown.lock().unwrap().push(own.unwrap_or_default().to_owned());
                        if mood == Mood::Slow {
                            tokio::time::sleep(Duration::from_secs(60)).await;
                        }
                        let is_right =
                            head.starts_with("POST /apis/authentication.k8s.io/v1/tokenreviews HTTP/1.1");
                        let (status, text) = match mood {
                            _ if !is_right => ("404 Not Found", String::new()),
                            Mood::Failing => ("500 Internal Server Error", "etcd is gone".to_owned()),
                            Mood::Large => ("201 Created", "x".repeat(1 << 20)),
                            Mood::Right | Mood::Slow => ("201 Created", review(&tokens, &body)),
                        };
                        let answer =
                            format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{text}", text.len());
                        stream.write_all(answer.as_bytes()).await?;
                        stream.shutdown().await
                    });
                }
            });
            runtime
        };
        Self { mood, shown, _runtime: namespace.enter(serve).unwrap() }
    }

    fn is(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }
}

async fn request(stream: &mut (impl AsyncReadExt + Unpin)) -> std::io::Result<(String, Vec<u8>)> {
    let mut read = Vec::new();
    loop {
        let mut octets = [0; 4096];
        let count = stream.read(&mut octets).await?;
        read.extend_from_slice(&octets[..count]);
        let Some(end) = read.windows(4).position(|it| it == b"\r\n\r\n") else {
            if count == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            continue;
        };
        let head = String::from_utf8_lossy(&read[..end]).into_owned();
        let length =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        if read.len() >= end + 4 + length.unwrap_or(0) {
            return Ok((head, read[end + 4..].to_vec()));
        }
    }
}

/// The answer to a review. As the real one, it authenticates a token only for its audience.
fn review(tokens: &Tokens, body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap();
    let asked = body["spec"]["audiences"][0].as_str().unwrap();
    let known = tokens.get(body["spec"]["token"].as_str().unwrap());
    let status = match known.filter(|(_, _, audience)| *audience == asked) {
        Some((user, node, audience)) => json!({
            "authenticated": true,
            "user": { "username": user, "extra": { "authentication.kubernetes.io/node-name": [node] } },
            "audiences": [audience],
        }),
        None => json!({ "error": "invalid bearer token" }),
    };
    json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "status": status }).to_string()
}

struct Cluster {
    own: Own,
    api: ApiServer,
    /// The controller's own token.
    token_file: PathBuf,
}

impl Cluster {
    fn start(test: &str) -> Self {
        let mut own = Own::without_controller(test, 2, DAY);
        let (ca, token_file) = (own.lab.dir().join("api.pem"), own.lab.dir().join("controller-token"));
        fs::write(&token_file, "first\n").unwrap();
        let tokens = HashMap::from([
            ("right-h1", (ACCOUNT, "h1", "sextant")),
            ("right-h2", (ACCOUNT, "h2", "sextant")),
            ("other-audience", (ACCOUNT, "h1", "https://kubernetes.default.svc")),
            ("other-account", ("system:serviceaccount:default:default", "h1", "sextant")),
        ]);
        let api = ApiServer::start(own.lab.switch(), &ca, tokens);
        own.start_controller_with(1, None, Self::flags(&ca, &token_file));
        own.sextant(&["pool", "add", "main", "2001:db8:8000::/40", "--host-len", "64"]);
        Self { own, api, token_file }
    }

    fn flags(ca: &std::path::Path, token_file: &std::path::Path) -> Vec<String> {
        let (ca, token) = (ca.display().to_string(), token_file.display().to_string());
        [
            "--kubernetes-api-server",
            "https://[::1]:6443",
            "--kubernetes-ca-file",
            &ca,
            "--kubernetes-token-file",
            &token,
        ]
        .map(str::to_owned)
        .to_vec()
    }

    /// The file with this token, for an agent.
    fn file(&self, token: &str) -> String {
        let path = self.own.lab.dir().join("agent-token");
        fs::write(&path, token).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    }

    /// A host tries to join with this token.
    fn join(&self, index: usize, token: &str) -> Joined {
        let ca = self.own.pki_dir(1).join("root.pem").display().to_string();
        self.own.lab.join_with(&self.own.hosts[index], &["--join-ca-file", &ca], token, 1).unwrap()
    }

    fn refused(&self, index: usize, token: &str, why: &str) {
        let joined = self.join(index, token);
        assert!(!joined.is_done && joined.text.contains(why), "{why}: {joined:?}");
        assert!(!self.own.lab.state_dir(&self.own.hosts[index]).join("tls/node.pem").exists(), "{why}");
    }
}

/// The agent of a pod joins by itself, and nobody else does, nor with a token of another audience, account or node.
#[test]
fn an_agent_joins_with_the_projected_token_of_its_node_and_no_other() {
    let mut it = Cluster::start("kubernetes");
    it.refused(0, "other-audience", "the service-account token is not valid: invalid bearer token");
    it.refused(0, "other-account", "is of system:serviceaccount:default:default, and not of");
    it.refused(0, "right-h2", "is of a pod on node h2, and this is node h1");
    it.refused(0, "forged", "invalid bearer token");
    let events = it.own.sextant(&["events"]);
    assert!(events.contains("call refused") && !events.contains("other-account\""), "{events}");

    let (file, ca) = (it.file("right-h1"), it.own.pki_dir(1).join("root.pem").display().to_string());
    it.own.start_agent(0, &["--join-token-file", &file, "--join-ca-file", &ca]);
    it.own.wait_ready("h1");
    // The controller's own token is read anew: Kubernetes replaces it.
    fs::write(&it.token_file, "second").unwrap();
    let joined = it.join(1, "right-h2");
    assert!(joined.is_done, "{joined:?}");
    let shown = it.api.shown.lock().unwrap().clone();
    assert!(shown.first().unwrap() == "first" && shown.last().unwrap() == "second", "{shown:?}");
    for log in [it.own.controllers[0].process.log(), it.own.agents[0].process.log()] {
        assert!(!log.contains("right-h1") && !log.contains("Bearer"), "{log}");
    }
    // A revoked node does not come back by its pod.
    it.own.sextant(&["node", "revoke", "h1"]);
    let refused = it.join(0, "right-h1");
    assert!(!refused.is_done && refused.text.contains("node h1 is revoked"), "{refused:?}");
}

/// An API server that is away, slow, failing or too talkative is named, and the agent tries again with the token of then.
#[test]
fn an_api_server_that_does_not_answer_is_named_and_asked_again() {
    let mut it = Cluster::start("kubernetes away");
    for (mood, why) in [
        (Mood::Failing, "it answers 500 Internal Server Error: etcd is gone"),
        (Mood::Large, "the answer has more than 65536 octets"),
        (Mood::Slow, "no answer within 5s"),
    ] {
        it.api.is(mood);
        it.refused(0, "right-h1", why);
    }
    it.api.is(Mood::Failing);
    let (file, ca) = (it.file("ended"), it.own.pki_dir(1).join("root.pem").display().to_string());
    it.own.start_agent(0, &["--join-token-file", &file, "--join-ca-file", &ca]);
    let line =
        it.own.agents[0].process.wait_for_line("cannot join yet; retrying", 20 * SECONDS).unwrap().text;
    assert!(line.contains("the API server of Kubernetes at https://[::1]:6443"), "{line}");
    it.file("right-h1");
    it.api.is(Mood::Right);
    it.own.wait_ready("h1");
    // A controller without the settings takes no such token.
    it.own.controllers.remove(0).process.terminate(10 * SECONDS).unwrap();
    it.own.start_controller(1, None);
    poll("refused", 20 * SECONDS, || {
        let joined = it.join(1, "right-h2");
        let is_named = joined.text.contains("takes no service-account tokens");
        if !joined.is_done && is_named { Ok(()) } else { Err(joined.text) }
    });
}
