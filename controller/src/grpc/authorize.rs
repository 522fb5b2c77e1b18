//! Each call gets its principal here, before its service sees it, or is refused.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use sextant_identity::{Credentials, Peer};
use sextant_proto::quoted;
use tonic::{
    Status,
    body::Body,
    codegen::http::{Request, Response},
};
use tower::{Layer, Service};

use super::{
    permissions::{self, Who},
    principal::Principal,
};

/// Lets calls pass by the table of permissions. Over plain text everybody may do everything.
#[derive(Debug, Clone)]
pub(super) struct Authorize {
    /// None: plain text.
    pub(super) credentials: Option<Arc<Credentials>>,
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
    /// The principal of a call at `path` from `peer`.
    fn principal(&self, path: &str, peer: Option<&Peer>) -> Result<Principal, Status> {
        let Some(credentials) = &self.credentials else { return Ok(Principal::Insecure) };
        let who = permissions::of(path)
            .ok_or_else(|| Status::unimplemented(format!("this controller has no call {}", quoted(path))))?;
        let shown =
            peer.map(Peer::holder).transpose().map_err(|error| Status::unauthenticated(error.to_string()))?;
        let Some(holder) = shown.flatten() else {
            return match who {
                Who::Anybody => Ok(Principal::Nobody),
                _ => Err(Status::unauthenticated(
                    "no certificate was shown; set --tls-ca, --tls-cert and --tls-key",
                )),
            };
        };
        let (identity, cluster) = (&holder.identity, credentials.cluster());
        if identity.cluster != *cluster {
            return Err(Status::unauthenticated(format!(
                "the certificate is of {identity}, and this is cluster \"{cluster}\""
            )));
        }
        if !who.includes(&identity.subject, holder.role) {
            let role = holder.role.map(|role| format!(" (role {role})")).unwrap_or_default();
            return Err(Status::permission_denied(format!(
                "{}{role} may not call {}: it is for {}",
                identity.subject,
                path.trim_start_matches("/sextant.v1."),
                who.name()
            )));
        }
        Ok(Principal::Member(Arc::new(holder)))
    }
}

impl<S, B> Service<Request<B>> for Authorized<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let principal = self.authorize.principal(request.uri().path(), request.extensions().get::<Peer>());
        match principal {
            Ok(principal) => {
                request.extensions_mut().insert(principal);
                Box::pin(self.inner.call(request))
            }
            Err(status) => {
                tracing::debug!(path = request.uri().path(), why = status.message(), "call refused");
                Box::pin(std::future::ready(Ok(status.into_http())))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use rcgen::{CertificateParams, DnType, KeyPair, SanType};
    use sextant_identity::Paths;
    use tonic::Code;

    use super::*;

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
        Authorize { credentials: Some(Arc::new(credentials)) }
    }

    fn shown(uri: &str, role: Option<&str>) -> Peer {
        Peer::who_has_shown(Some(certificate(uri, role).1))
    }

    fn code(of: Result<Principal, Status>) -> Code {
        of.map_or_else(|status| status.code(), |_| Code::Ok)
    }

    #[test]
    fn over_plain_text_everybody_may_do_everything() {
        let plain = Authorize { credentials: None };
        assert_eq!(plain.principal(STATUS, None).unwrap(), Principal::Insecure);
    }

    #[test]
    fn without_a_certificate_only_the_health_is_answered() {
        let it = over_tls();
        for nobody in [None, Some(Peer::who_has_shown(None)), Some(Peer::default())] {
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
