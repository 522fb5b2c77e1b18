//! Each call gets its principal here, before its service sees it, or is refused. Refusals are in the audit. Answers to viewers lose
//! what is not for them.

use std::{
    error::Error,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use sextant_identity::{Credentials, Peer, Role, Subject};
use sextant_proto::{NodeName, quoted};
use tonic::{
    Code, Status,
    body::Body,
    codegen::http::{HeaderMap, Request, Response},
    transport::server::TcpConnectInfo,
};
use tower::{Layer, Service};

use super::{
    concealed,
    counted::{Counted, Ending},
    permissions::{self, Who},
    principal::{Principal, actor_of},
    unread,
};
use crate::{
    audit::{RefusedCall, RefusedCalls},
    denials::Denials,
    limits::{Admitted, Usage},
};

/// Lets calls pass by the table of permissions. Over plain text everybody may do everything.
#[derive(Debug, Clone)]
pub(super) struct Authorize {
    /// None: plain text.
    pub(super) credentials: Option<Arc<Credentials>>,
    pub(super) refused: RefusedCalls,
    /// None in tests of the table.
    pub(super) denials: Option<Denials>,
    /// The name of this controller, by its certificate.
    pub(super) own: Option<NodeName>,
    pub(super) usage: Usage,
}

/// A service whose calls have a principal.
#[derive(Debug, Clone)]
pub(super) struct Authorized<S> {
    inner: S,
    authorize: Authorize,
}

impl<S> Layer<S> for Authorize {
    type Service = Authorized<S>;

    fn layer(&self, inner: S) -> Authorized<S> {
        Authorized { inner, authorize: self.clone() }
    }
}

impl Authorize {
    /// The principal at the other end, by its certificate.
    fn identify(&self, peer: Option<&Peer>) -> Result<Principal, Status> {
        let Some(credentials) = &self.credentials else { return Ok(Principal::Insecure) };
        if peer.is_some_and(Peer::is_plain) {
            return Ok(Principal::Insecure);
        }
        let shown =
            peer.map(Peer::holder).transpose().map_err(|error| Status::unauthenticated(error.to_string()))?;
        let Some(holder) = shown.flatten() else { return Ok(Principal::Nobody) };
        let (identity, cluster) = (&holder.identity, credentials.cluster());
        if identity.cluster != *cluster {
            return Err(Status::unauthenticated(format!(
                "the certificate is of {identity}, and this is cluster \"{cluster}\""
            )));
        }
        Ok(Principal::Member(holder))
    }

    /// Whether `principal` may make the call at `path`.
    fn permit(principal: &Principal, path: &str) -> Result<(), Status> {
        let who = || {
            permissions::of(path)
                .ok_or_else(|| Status::unimplemented(format!("this controller has no call {}", quoted(path))))
        };
        match principal {
            Principal::Insecure => Ok(()),
            Principal::Nobody if who()? == Who::Anybody => Ok(()),
            Principal::Nobody => Err(Status::unauthenticated(
                "no certificate was shown; set --tls-ca, --tls-cert and --tls-key",
            )),
            Principal::Member(holder) => {
                let (who, subject) = (who()?, &holder.identity.subject);
                if who.includes(subject, holder.role) {
                    return Ok(());
                }
                let role = holder.role.map(|role| format!(" (role {role})")).unwrap_or_default();
                let (call, who) = (call_name(path), who.name());
                Err(Status::permission_denied(format!(
                    "{subject}{role} may not call {call}: it is for {who}"
                )))
            }
        }
    }

    /// Whether neither the principal nor this controller is revoked. A revoked controller serves nobody but probes.
    fn is_not_revoked(&self, principal: &Principal, path: &str) -> Result<(), Status> {
        let Some(denials) = &self.denials else { return Ok(()) };
        if let Some(own) = self.own.as_ref().filter(|_| path.starts_with("/sextant.")) {
            denials.check_controller(own).map_err(|denied| {
                Status::unavailable(format!(
                    "the controller that was asked is revoked: {denied}; ask another one"
                ))
            })?;
        }
        Ok(principal.holder().map_or(Ok(()), |holder| denials.check_holder(holder))?)
    }

    /// Ends with the reason as soon as the caller may no longer make the call, or this controller may not answer it.
    fn until_revoked(&self, principal: &Principal, path: &'static str) -> Option<Ending> {
        let mut changes = self.denials.as_ref().filter(|_| principal.holder().is_some())?.subscribe();
        let (authorize, principal) = (self.clone(), principal.clone());
        Some(Box::pin(async move {
            loop {
                if let Err(status) = authorize.is_not_revoked(&principal, path) {
                    return status;
                }
                if changes.changed().await.is_err() {
                    // The controller is stopping.
                    std::future::pending::<()>().await;
                }
            }
        }))
    }

    /// Counts the call, within the limits of its principal and address. Controllers have none: they ask for others.
    fn admit(&self, caller: &Caller) -> Result<Option<Admitted>, Status> {
        let member = match &caller.principal {
            Principal::Member(holder) if matches!(holder.identity.subject, Subject::Controller(_)) => {
                return Ok(None);
            }
            Principal::Member(_) => Some(caller.principal.to_string()),
            Principal::Insecure | Principal::Nobody => None,
        };
        let claims = caller.call == CLAIM;
        Ok(Some(self.usage.admit(member.as_deref(), caller.address, claims)?))
    }

    /// Notes that the call was refused, if it was: here in any case, by a service if the caller may not do it.
    fn note(&self, caller: &Caller, headers: &HeaderMap, here: bool) {
        let Some(status) = Status::from_header_map(headers) else { return };
        if !here && !matches!(status.code(), Code::PermissionDenied | Code::Unauthenticated) {
            return;
        }
        let node = caller.principal.node().map(|(name, _)| name.clone());
        self.refused.note(RefusedCall {
            principal: caller.principal.to_string(),
            node,
            by: actor_of(&caller.principal, caller.address),
            call: caller.call.to_owned(),
            why: status.message().to_owned(),
        });
    }
}

/// A claim, by its name.
const CLAIM: &str = "AgentService/Claim";

/// The caller of a call, and the name of the call.
struct Caller {
    principal: Principal,
    address: Option<IpAddr>,
    /// The name of the call; none if it is unknown.
    call: &'static str,
}

/// The name of a call, without the package of the protocol.
fn call_name(path: &str) -> &str {
    path.trim_start_matches("/sextant.v1.").trim_start_matches('/')
}

impl<S, B> Service<Request<B>> for Authorized<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    B: http_body::Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let path = request.uri().path();
        let extensions = request.extensions();
        let tcp = extensions.get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr);
        let identified = self.authorize.identify(extensions.get::<Peer>());
        let principal = identified.as_ref().unwrap_or(&Principal::Nobody).clone();
        let permitted = identified.and_then(|principal| {
            Authorize::permit(&principal, path).and_then(|()| self.authorize.is_not_revoked(&principal, path))
        });
        let call = permissions::named(path).map_or("an unknown call", call_name);
        let caller = Caller { principal, address: tcp.map(|address| address.ip()), call };
        let admitted = self.authorize.admit(&caller);
        let admitted = match admitted.and_then(|admitted| permitted.map(|()| admitted)) {
            Ok(admitted) => admitted,
            Err(status) => {
                let response = status.into_http();
                self.authorize.note(&caller, response.headers(), true);
                let rest = unread::read(request.into_body());
                return Box::pin(async move {
                    rest.await;
                    Ok(response)
                });
            }
        };
        let hides = concealed_answer(&caller.principal, path);
        let ending =
            permissions::named(path).and_then(|path| self.authorize.until_revoked(&caller.principal, path));
        request.extensions_mut().insert(caller.principal.clone());
        let (authorize, answer) = (self.authorize.clone(), self.inner.call(request));
        Box::pin(async move {
            let (response, ending) = answered(answer, ending).await?;
            authorize.note(&caller, response.headers(), false);
            let response = match hides {
                Some(message) => concealed::response(response, message),
                None => response,
            };
            Ok(response.map(|body| Body::new(Counted::new(body, admitted, ending))))
        })
    }
}

/// The answer, or that the caller was revoked meanwhile; with what ends the answer's stream.
async fn answered<E>(
    answer: impl Future<Output = Result<Response<Body>, E>>,
    ending: Option<Ending>,
) -> Result<(Response<Body>, Option<Ending>), E> {
    let Some(mut ending) = ending else { return Ok((answer.await?, None)) };
    tokio::select! {
        response = answer => Ok((response?, Some(ending))),
        status = &mut ending => Ok((status.into_http(), None)),
    }
}

/// The message of the answer, if the call reads and the principal is a viewer, who does not get all of it.
fn concealed_answer(principal: &Principal, path: &str) -> Option<&'static str> {
    let is_viewer = matches!(principal, Principal::Member(holder) if holder.role == Some(Role::Viewer));
    let reads = permissions::of(path) == Some(Who::Viewer);
    (is_viewer && reads).then(|| concealed::answer_of(path)).flatten()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use rcgen::{CertificateParams, DnType, KeyPair, SanType};
    use sextant_identity::Paths;
    use tonic::Code;

    use super::*;
    use crate::limits::Limits;

    const STATUS: &str = "/sextant.v1.AdminService/Status";
    const CLAIM: &str = "/sextant.v1.AgentService/Claim";
    const HEALTH: &str = "/grpc.health.v1.Health/Check";

    /// A certificate in PEM and DER, and its key.
    fn certificate(uri: &str, role: Option<&str>) -> (String, Vec<u8>, String) {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        role.into_iter()
            .for_each(|role| params.distinguished_name.push(DnType::OrganizationalUnitName, role));
        let key = KeyPair::generate().unwrap();
        let made = params.self_signed(&key).unwrap();
        (made.pem(), made.der().to_vec(), key.serialize_pem())
    }

    fn over_tls() -> Authorize {
        let dir = tempfile::tempdir().unwrap();
        let (pem, _, key) = certificate("spiffe://c1/controller/a", None);
        let path = |name: &str| dir.path().join(name);
        let paths = Paths { authorities: path("ca"), certificate: path("cert"), key: path("key") };
        for (path, text) in [(&paths.authorities, &pem), (&paths.certificate, &pem), (&paths.key, &key)] {
            fs::write(path, text).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        let credentials = Credentials::open(paths, Some("c1".parse().unwrap())).unwrap();
        Authorize {
            credentials: Some(Arc::new(credentials)),
            refused: RefusedCalls::default(),
            denials: None,
            own: None,
            usage: Usage::new(Limits::default()),
        }
    }

    impl Authorize {
        fn principal(&self, path: &str, peer: Option<&Peer>) -> Result<Principal, Status> {
            let principal = self.identify(peer)?;
            Self::permit(&principal, path).map(|()| principal)
        }
    }

    fn shown(uri: &str, role: Option<&str>) -> Peer {
        Peer::who_has_shown(vec![certificate(uri, role).1])
    }

    fn code(of: Result<Principal, Status>) -> Code {
        of.map_or_else(|status| status.code(), |_| Code::Ok)
    }

    #[test]
    fn over_plain_text_everybody_may_do_everything() {
        let plain = Authorize {
            credentials: None,
            refused: RefusedCalls::default(),
            denials: None,
            own: None,
            usage: Usage::new(Limits::default()),
        };
        assert_eq!(plain.principal(STATUS, None).unwrap(), Principal::Insecure);
    }

    #[test]
    fn without_a_certificate_only_the_health_is_answered() {
        let it = over_tls();
        for nobody in [None, Some(Peer::who_has_shown(Vec::new())), Some(Peer::default())] {
            assert_eq!(it.principal(HEALTH, nobody.as_ref()).unwrap(), Principal::Nobody);
            for path in
                [STATUS, CLAIM, "/sextant.v1.AdminService/WhoAmI", "/sextant.v1.ControllerService/Acks"]
            {
                assert_eq!(code(it.principal(path, nobody.as_ref())), Code::Unauthenticated, "{path}");
            }
        }
    }

    #[test]
    fn a_member_does_what_the_table_says() {
        let it = over_tls();
        let ask = |uri: &str, role, path: &str| it.principal(path, Some(&shown(uri, role)));
        assert_eq!(code(ask("spiffe://c1/node/h1", None, CLAIM)), Code::Ok);
        assert_eq!(code(ask("spiffe://c1/admin/ann", None, STATUS)), Code::Ok);
        let refused = ask("spiffe://c1/node/h1", Some("admin"), STATUS).unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
        assert_eq!(
            refused.message(),
            "node h1 may not call AdminService/Status: it is for people (viewer, operator or admin)"
        );
        assert_eq!(code(ask("spiffe://c1/admin/ann", Some("admin"), CLAIM)), Code::PermissionDenied);
        assert_eq!(code(ask("spiffe://c2/admin/ann", Some("admin"), STATUS)), Code::Unauthenticated);
        assert_eq!(code(ask("spiffe://c1/admin/ann", Some("root"), STATUS)), Code::Unauthenticated);
        assert_eq!(code(ask("https://c1/admin/ann", None, HEALTH)), Code::Unauthenticated);
        let unknown = "/sextant.v1.AdminService/Reboot";
        assert_eq!(code(ask("spiffe://c1/admin/ann", Some("admin"), unknown)), Code::Unimplemented);
    }

    #[tokio::test]
    async fn a_refusal_of_the_table_or_of_a_service_is_noted_and_an_error_is_not() {
        let it = over_tls();
        let shown = |uri: &str| it.identify(Some(&shown(uri, None))).unwrap();
        let answers: [(&str, Status); 3] = [
            ("spiffe://c1/node/h1", Status::permission_denied("node h1 may not act for node h2")),
            ("spiffe://c1/node/h1", Status::not_found("no such node")),
            ("spiffe://c1/node/h2", Status::unauthenticated("it has ended")),
        ];
        for (uri, status) in answers {
            let caller = Caller { principal: shown(uri), address: None, call: "AgentService/Claim" };
            it.note(&caller, status.into_http::<Body>().headers(), false);
        }
        assert_eq!(it.refused.total(), 2);
    }

    #[test]
    fn only_what_viewers_read_of_others_is_concealed() {
        let it = over_tls();
        let conceals = |role, path| {
            let principal = it.identify(Some(&shown("spiffe://c1/admin/vic", role))).unwrap();
            concealed_answer(&principal, path).is_some()
        };
        assert!(conceals(None, STATUS));
        assert!(!conceals(Some("operator"), STATUS) && !conceals(Some("admin"), STATUS));
        // A serial number may look like a node id.
        assert!(!conceals(None, "/sextant.v1.AdminService/WhoAmI"));
    }

    #[test]
    fn a_node_acts_for_itself_alone() {
        let it = over_tls();
        let h1 = it.principal(CLAIM, Some(&shown("spiffe://c1/node/h1", None))).unwrap();
        assert!(h1.may_act_for(&"h1".parse().unwrap()).is_ok());
        let refused = h1.may_act_for(&"h2".parse().unwrap()).unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
        assert!(refused.message().contains("node h1 may not act for node h2"), "{}", refused.message());
        assert!(Principal::Nobody.may_act_for(&"h1".parse().unwrap()).is_err());
    }
}
