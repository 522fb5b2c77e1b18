//! The authority of a running controller: its issuing certificate, which it reads again when the files change.
//!
//! It is the source of the controller's own credentials too: the key of TLS is made here, and is nowhere else. Another certificate is
//! made when two thirds of the lifetime of the former are over.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use rcgen::KeyPair;
use sextant_identity::{FileError, Fingerprint, Identity, Material, Source, Stamp, Subject};
use sextant_proto::NodeName;

use crate::{
    certify::{self, CertifyError, Lifetime, Validity},
    directory::{Directory, DirectoryError, Issuing},
    request::Request,
    signer::Signer,
};

/// How long before its end an issuing certificate is reported.
const NOTICE: Duration = Duration::from_secs(60 * 86_400);

/// A controller's authority.
#[derive(Debug, Clone)]
pub struct Authority(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    directory: Directory,
    certificate: PathBuf,
    lifetime: Lifetime,
    state: Mutex<State>,
}

struct State {
    stamp: Stamp,
    issuing: Arc<Issuing>,
    /// How many certificates of the controller were made, and when another is due.
    made: u64,
    due: SystemTime,
    /// The signer of receipts, once one was needed.
    signer: Option<Arc<Signer>>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("identity", &self.issuing.identity).field("made", &self.made).finish()
    }
}

/// The certificate of a node, as it gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// Its certificate and the issuing one, in PEM.
    pub chain: String,
    /// The roots that it trusts, in PEM.
    pub roots: String,
    /// When it ends.
    pub ends: SystemTime,
}

impl Authority {
    /// That of the controller whose files are in `directory`.
    ///
    /// # Errors
    /// If the files cannot be used.
    pub fn open(directory: Directory, lifetime: Lifetime) -> Result<Self, DirectoryError> {
        let stamp = stamp(&directory);
        let issuing = Arc::new(directory.opened()?);
        let state = Mutex::new(State { stamp, issuing, made: 0, due: SystemTime::UNIX_EPOCH, signer: None });
        let certificate = directory.issuing();
        Ok(Self(Arc::new(Shared { directory, certificate, lifetime, state })))
    }

    /// The root that has certified this controller.
    pub fn root(&self) -> Fingerprint {
        let issuing = self.0.issuing();
        let root = issuing.root();
        Fingerprint::of(root)
    }

    /// When the issuing certificate ends.
    pub fn ends(&self) -> SystemTime {
        self.0.issuing().ends
    }

    /// The roots that are trusted, in DER.
    pub fn roots(&self) -> Vec<Vec<u8>> {
        self.0.issuing().roots.clone()
    }

    /// The root that has certified this controller, in DER.
    pub fn own_root(&self) -> Vec<u8> {
        self.0.issuing().root().to_vec()
    }

    /// The signer of receipts, by the issuing certificate. Its key is made here, and is nowhere else; another one is made when two
    /// thirds of its time are over, or the issuing certificate has changed.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn signer(&self, now: SystemTime) -> Result<Arc<Signer>, CertifyError> {
        let mut state = self.0.state();
        let state = self.0.read_again(&mut state);
        if let Some(signer) = state.signer.as_ref().filter(|it| it.lasts(now)) {
            return Ok(signer.clone());
        }
        let signer = Arc::new(Signer::certified(&state.issuing, self.0.lifetime, now)?);
        state.signer = Some(signer.clone());
        Ok(signer)
    }

    /// The certificate of `node`, by its request.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn certify(
        &self,
        node: &NodeName,
        request: &Request,
        now: SystemTime,
    ) -> Result<Granted, CertifyError> {
        let issuing = self.0.issuing();
        let identity =
            Identity { cluster: issuing.identity.cluster.clone(), subject: Subject::Node(node.clone()) };
        let validity = issuing.validity(self.0.lifetime, now)?;
        let certificate = certify::requested(&identity, request, &issuing.issuer, validity)?;
        Ok(Granted {
            chain: certificate.pem() + &issuing.pem,
            roots: issuing.roots_pem.clone(),
            ends: validity.ends,
        })
    }
}

impl Issuing {
    /// The root that has certified it, in DER: the one whose name it has as its issuer.
    fn root(&self) -> &[u8] {
        let by =
            self.roots.iter().find(|root| sextant_identity::certificate::issued(root, &self.certificate));
        by.or(self.roots.first()).map_or(&[], Vec::as_slice)
    }

    /// Logs that the issuing certificate ends soon. Called with each certificate of the controller itself: about every 16 hours.
    fn warn(&self, now: SystemTime) {
        if let Ok(left) = self.ends.duration_since(now)
            && left < NOTICE
        {
            let (days, controller) = (left.as_secs() / 86_400, &self.identity.subject);
            tracing::warn!(
                %controller, days,
                "issuing certificate ends soon; make another: sextant-controller pki request NAME"
            );
        }
    }

    pub(crate) fn validity(&self, lifetime: Lifetime, now: SystemTime) -> Result<Validity, CertifyError> {
        if self.ends <= now {
            let (Subject::Node(name) | Subject::Controller(name) | Subject::Admin(name)) =
                &self.identity.subject;
            return Err(CertifyError::IssuerEnded(name.clone()));
        }
        Ok(Validity::of_member(lifetime, now, self.ends))
    }
}

impl Shared {
    fn issuing(&self) -> Arc<Issuing> {
        self.read_again(&mut self.state()).issuing.clone()
    }

    /// Reads changed files again. Those that cannot be used change nothing.
    fn read_again<'a>(&self, state: &'a mut State) -> &'a mut State {
        let now = stamp(&self.directory);
        if now != state.stamp {
            state.stamp = now;
            match self.directory.opened() {
                Ok(issuing) => {
                    tracing::info!(ends = ?issuing.ends, "issuing certificate read again");
                    (state.issuing, state.signer) = (Arc::new(issuing), None);
                }
                Err(error) => {
                    tracing::warn!(%error, "changed issuing certificate not used; the former one stays");
                }
            }
        }
        state
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stamp(directory: &Directory) -> Stamp {
    Stamp::of(&[&directory.root(), &directory.issuing(), &directory.issuing_key()])
}

impl Source for Authority {
    fn stamp(&self) -> Stamp {
        let state = self.0.state();
        let is_due = SystemTime::now() >= state.due;
        stamp(&self.0.directory).at(state.made + u64::from(is_due))
    }

    fn read(&self) -> Result<Material, FileError> {
        let now = SystemTime::now();
        let path = self.certificate();
        let wrong = |why: CertifyError| FileError::Malformed { path: path.to_owned(), why: why.to_string() };
        let mut state = self.0.state();
        let issuing = self.0.read_again(&mut state).issuing.clone();
        let validity = issuing.validity(self.0.lifetime, now).map_err(wrong)?;
        let key = KeyPair::generate().map_err(|error| wrong(error.into()))?;
        let own = certify::member(&issuing.identity, &key, &issuing.issuer, validity).map_err(wrong)?;
        // With the root, by whose hash a joining host knows the cluster.
        let chain = vec![own.der().to_vec(), issuing.certificate.clone(), issuing.root().to_vec()];
        issuing.warn(now);
        let material = Material::new(path, &issuing.roots, chain, key.serialize_der())?;
        let lasts = validity.ends.duration_since(now).unwrap_or_default();
        (state.made, state.due) = (state.made + 1, now + lasts * 2 / 3);
        Ok(material)
    }

    fn certificate(&self) -> &Path {
        &self.0.certificate
    }
}
