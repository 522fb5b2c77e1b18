//! A root, controllers, nodes and people, as the verifier of TLS judges them.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    time::{Duration, SystemTime},
};

use rcgen::{CertificateParams, DnType, KeyPair, SanType};
use sextant_identity::{Credentials, Fingerprint, Holder, Identity, Paths, Role, certificate, files};
use tempfile::TempDir;

use crate::{Authority, Directory, DirectoryError, Granted, Lifetime, Request, Signer};
use sextant_receipts::{Content, Trust, issue};

mod encrypted;
mod further;

const HOUR: Duration = Duration::from_secs(3600);

fn identity(name: &str) -> Identity {
    format!("spiffe://default/controller/{name}").parse().unwrap()
}

/// A root with the files of controller c1.
fn made() -> (TempDir, Directory) {
    let dir = tempfile::tempdir().unwrap();
    let directory = Directory::new(dir.path().join("pki"));
    directory.init(&identity("c1"), SystemTime::now()).unwrap();
    (dir, directory)
}

/// A request in whose names somebody asks for more.
fn request(key: &KeyPair) -> Request {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::OrganizationalUnitName, "admin");
    params.subject_alt_names = vec![SanType::URI("spiffe://default/admin/root".try_into().unwrap())];
    Request::from_der(params.serialize_request(key).unwrap().der()).unwrap()
}

fn chain(granted: &Granted, dir: &TempDir) -> Vec<Vec<u8>> {
    let path = dir.path().join("granted.pem");
    fs::write(&path, &granted.chain).unwrap();
    files::read_certificates(&path).unwrap()
}

fn verified(by: &Authority, chain: &[Vec<u8>], now: SystemTime) -> Result<Holder, String> {
    let credentials = Credentials::open(by.clone(), None).map_err(|error| error.to_string())?;
    credentials.verify_former(chain, now).map_err(|error| error.to_string())
}

#[test]
fn a_nodes_certificate_has_the_name_that_the_caller_gives_and_no_other() {
    let (dir, directory) = made();
    let authority = Authority::open(directory.clone(), Lifetime::default()).unwrap();
    let (key, now) = (KeyPair::generate().unwrap(), SystemTime::now());
    let granted = authority.certify(&"h7".parse().unwrap(), &request(&key), now).unwrap();
    let chain = chain(&granted, &dir);
    let holder = verified(&authority, &chain, now).unwrap();
    assert_eq!((holder.identity.to_string().as_str(), holder.role), ("spiffe://default/node/h7", None));
    let (back, on) = (now.duration_since(holder.begins).unwrap(), holder.ends.duration_since(now).unwrap());
    assert!(back <= Duration::from_secs(301) && on <= 24 * HOUR && on > 23 * HOUR, "{back:?} {on:?}");
    assert_eq!(certificate::public_key(&chain[0]).unwrap(), request(&key).public_key());
    assert_eq!(holder.key_hash, sextant_identity::token::sha256(&request(&key).public_key()));
    let issuing = files::read_certificates(&directory.issuing()).unwrap().swap_remove(0);
    let [issuer] = &holder.issuers[..] else { panic!("{:?}", holder.issuers) };
    assert_eq!(issuer.controller.as_str(), "c1");
    assert_eq!(issuer.serial, certificate::holder(&issuing).unwrap().serial);
    assert_eq!(chain.len(), 2, "the issuing certificate goes with it, the root does not");
    assert_eq!(granted.roots, fs::read_to_string(directory.root()).unwrap());
}

#[test]
fn serial_numbers_are_random_also_for_the_same_key() {
    let (dir, directory) = made();
    let authority = Authority::open(directory, Lifetime::default()).unwrap();
    let (key, now) = (KeyPair::generate().unwrap(), SystemTime::now());
    let serials: BTreeSet<String> = (0..20)
        .map(|_| authority.certify(&"h7".parse().unwrap(), &request(&key), now).unwrap())
        .map(|granted| certificate::holder(&chain(&granted, &dir)[0]).unwrap().serial)
        .collect();
    assert_eq!(serials.len(), 20);
    assert!(serials.iter().all(|serial| serial.len() == 32), "{serials:?}");
}

#[test]
fn no_lifetime_is_longer_than_a_day() {
    assert_eq!(Lifetime::new(400 * HOUR), Lifetime::default());
    let (dir, directory) = made();
    let authority = Authority::open(directory, Lifetime::new(Duration::from_secs(60))).unwrap();
    let (key, now) = (KeyPair::generate().unwrap(), SystemTime::now());
    let granted = authority.certify(&"h7".parse().unwrap(), &request(&key), now).unwrap();
    assert!(granted.ends <= now + Duration::from_secs(60));
    // An ended one counts as it was; one of another authority does not.
    let chain = chain(&granted, &dir);
    let holder = verified(&authority, &chain, now + HOUR).unwrap();
    assert_eq!(holder.identity.subject.to_string(), "node h7");
    let (_other, other) = made();
    let other = Authority::open(other, Lifetime::default()).unwrap();
    assert!(verified(&other, &chain, now).unwrap_err().contains("UnknownIssuer"));
}

#[test]
fn a_request_that_is_not_signed_by_its_key_is_refused() {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::default();
    let mut der = params.serialize_request(&key).unwrap().der().to_vec();
    *der.last_mut().unwrap() ^= 1;
    for der in [&der[..], b"", b"nothing", &[0; 65_536]] {
        let error = Request::from_der(der).unwrap_err().to_string();
        assert!(error.starts_with("the certificate signing request is unusable"), "{error}");
    }
}

#[test]
fn an_issuing_certificate_makes_no_authorities() {
    let (dir, directory) = made();
    let authority = Authority::open(directory.clone(), Lifetime::default()).unwrap();
    let now = SystemTime::now();
    // Files of a further controller, certified by c1's issuing certificate in the place of the root.
    let forger = Directory::new(dir.path().join("forger"));
    fs::create_dir(forger.path()).unwrap();
    for (from, to) in [(directory.issuing(), forger.root()), (directory.issuing_key(), forger.root_key())] {
        fs::copy(from, to).unwrap();
    }
    let (forged, _) = forger.controller(&identity("c9"), now).unwrap();
    fs::copy(directory.root(), forged.root()).unwrap();
    let forged_authority = Authority::open(forged, Lifetime::default()).unwrap();
    let key = KeyPair::generate().unwrap();
    let granted = forged_authority.certify(&"h7".parse().unwrap(), &request(&key), now).unwrap();
    let mut chain = chain(&granted, &dir);
    chain.push(files::read_certificates(&directory.issuing()).unwrap().swap_remove(0));
    let error = verified(&authority, &chain, now).unwrap_err();
    assert!(error.contains("PathLenConstraintViolated"), "{error}");
}

#[test]
fn init_may_be_run_again_and_keys_are_for_their_owner() {
    let (_dir, directory) = made();
    let read = |path| fs::read(path).unwrap();
    let before = [directory.root(), directory.root_key(), directory.issuing(), directory.issuing_key()];
    let octets = before.clone().map(read);
    let again = directory.init(&identity("c1"), SystemTime::now()).unwrap();
    assert!(again.iter().all(|written| !written.is_new), "{again:?}");
    assert_eq!(before.clone().map(read), octets);
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(before.map(mode), [0o644, 0o600, 0o644, 0o600]);
    // The root's key is offline: it is not needed for what there is.
    fs::remove_file(directory.root_key()).unwrap();
    assert!(directory.init(&identity("c1"), SystemTime::now()).is_ok());
    let error = directory.init(&identity("c2"), SystemTime::now()).unwrap_err().to_string();
    assert!(error.contains("is of spiffe://default/controller/c1, and not of"), "{error}");
    let error = directory.controller(&identity("c2"), SystemTime::now()).unwrap_err();
    assert!(matches!(error, DirectoryError::Key { .. }), "{error}");
    assert!(error.to_string().contains("root.key"), "{error}");
}

#[test]
fn an_interrupted_init_is_completed() {
    let (_dir, directory) = made();
    for missing in [directory.issuing(), directory.root()] {
        let key = fs::read(directory.root_key()).unwrap();
        fs::remove_file(directory.issuing()).unwrap();
        let _one = fs::remove_file(missing);
        directory.init(&identity("c1"), SystemTime::now()).unwrap();
        assert_eq!(fs::read(directory.root_key()).unwrap(), key);
        let authority = Authority::open(directory.clone(), Lifetime::default()).unwrap();
        assert!(Credentials::open(authority, None).is_ok());
    }
}

#[test]
fn nodes_of_one_controller_are_known_to_the_others() {
    let (dir, directory) = made();
    let (second, _) = directory.controller(&identity("c2"), SystemTime::now()).unwrap();
    assert_eq!(second.path(), directory.path().join("c2"));
    assert!(!second.root_key().exists());
    let elsewhere = "spiffe://other/controller/c3".parse().unwrap();
    let error = directory.controller(&elsewhere, SystemTime::now()).unwrap_err();
    assert!(matches!(error, DirectoryError::Other { .. }), "{error}");
    let of = |directory: &Directory| Authority::open(directory.clone(), Lifetime::default()).unwrap();
    let (first, second) = (of(&directory), of(&second));
    assert_eq!(first.root(), second.root());
    let root = files::read_certificates(&directory.root()).unwrap().swap_remove(0);
    assert_eq!(first.root(), Fingerprint::of(&root));
    let (key, now) = (KeyPair::generate().unwrap(), SystemTime::now());
    let granted = second.certify(&"h7".parse().unwrap(), &request(&key), now).unwrap();
    assert!(verified(&first, &chain(&granted, &dir), now).is_ok());
    let credentials = Credentials::open(second, None).unwrap();
    assert_eq!(credentials.holder().identity, identity("c2"));
}

#[test]
fn a_controller_makes_itself_another_certificate_at_two_thirds_of_its_lifetime() {
    let (_dir, directory) = made();
    let long = Credentials::open(Authority::open(directory.clone(), Lifetime::default()).unwrap(), None);
    let long = long.unwrap();
    assert_eq!(long.holder().serial, long.holder().serial);
    let short = Authority::open(directory, Lifetime::new(Duration::from_secs(1))).unwrap();
    let short = Credentials::open(short, None).unwrap();
    let first = short.holder().serial.clone();
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while short.holder().serial == first {
        assert!(std::time::Instant::now() < deadline, "the certificate is not renewed");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_person_gets_a_certificate_with_a_role() {
    let (_dir, directory) = made();
    let (name, now) = ("ann".parse().unwrap(), SystemTime::now());
    let written = directory.person(&name, Role::Operator, 30, now).unwrap();
    let [key, certificate] = [0, 1].map(|it| written[it].path.clone());
    let paths = Paths { authorities: directory.root(), certificate, key };
    let credentials = Credentials::open(paths, Some("default".parse().unwrap())).unwrap();
    let holder = credentials.holder();
    assert_eq!(
        (holder.identity.subject.to_string().as_str(), holder.role),
        ("admin ann", Some(Role::Operator))
    );
    assert!(matches!(directory.person(&name, Role::Admin, 30, now), Err(DirectoryError::Exists(_))));
    // Names of the authority's own files are taken.
    for own in ["root", "issuing"] {
        assert!(matches!(
            directory.person(&own.parse().unwrap(), Role::Admin, 30, now),
            Err(DirectoryError::Reserved(_))
        ));
    }
}

#[test]
fn files_that_are_replaced_one_by_one_are_used_once_they_fit() {
    let (dir, directory) = made();
    let (_next, next) = made();
    let authority = Authority::open(directory.clone(), Lifetime::default()).unwrap();
    let (first, now) = (authority.root(), SystemTime::now());
    let both = fs::read_to_string(directory.root()).unwrap() + &fs::read_to_string(next.root()).unwrap();
    fs::write(directory.root(), both).unwrap();
    let (key, node) = (KeyPair::generate().unwrap(), "h7".parse().unwrap());
    let good = |authority: &Authority| {
        let granted = authority.certify(&node, &request(&key), now).unwrap();
        verified(authority, &chain(&granted, &dir), now).unwrap();
        authority.root()
    };
    assert_eq!(good(&authority), first);
    fs::copy(next.issuing_key(), directory.issuing_key()).unwrap();
    assert_eq!(good(&authority), first, "the key is of another certificate");
    fs::copy(next.issuing(), directory.issuing()).unwrap();
    let second = good(&authority);
    assert_ne!(second, first);
    assert_eq!(second, Authority::open(next, Lifetime::default()).unwrap().root());
}

/// What a receipt by this authority's signer is worth for those who trust `roots`.
fn receipt_counts(authority: &Authority, roots: Vec<Vec<u8>>) -> bool {
    let pool =
        sextant_proto::Pool::new("main".parse().unwrap(), "fd00::/48".parse().unwrap(), 64, 64).unwrap();
    let epoch = sextant_proto::Epoch {
        incarnation: sextant_proto::Incarnation::random(),
        revision: sextant_proto::Revision(7),
    };
    let signer = authority.signer(SystemTime::now()).unwrap();
    let content = Content {
        cluster: "default".parse().unwrap(),
        node: "h7".parse().unwrap(),
        node_id: sextant_proto::NodeId::random(),
        claim: sextant_proto::Claim { prefix: "fd00::/64".parse().unwrap(), epoch, pool },
        ancestors: Vec::new(),
        signed: signer.signs_at(SystemTime::now()),
    };
    let receipt = issue(&content, signer.as_ref()).unwrap();
    sextant_receipts::verify(&receipt, &Trust::Roots(roots)).is_ok()
}

/// Each controller's receipts count for all that trust the root, whose key is offline. Their signers open no connection.
#[test]
fn a_signer_of_receipts_is_certified_by_the_controllers_issuing_certificate() {
    let (_dir, directory) = made();
    let (second, _) = directory.controller(&identity("c2"), SystemTime::now()).unwrap();
    fs::remove_file(directory.root_key()).unwrap();
    let of = |directory: &Directory| Authority::open(directory.clone(), Lifetime::default()).unwrap();
    let (first, second) = (of(&directory), of(&second));
    assert!(receipt_counts(&first, second.roots()) && receipt_counts(&second, first.roots()));
    let (_other, other) = made();
    assert!(!receipt_counts(&first, of(&other).roots()));
    let signer = first.signer(SystemTime::now()).unwrap();
    assert!(std::sync::Arc::ptr_eq(&signer, &first.signer(SystemTime::now()).unwrap()));
    let error = verified(&second, sextant_receipts::Sign::chain(signer.as_ref()), SystemTime::now());
    assert!(error.unwrap_err().contains("names no member"));
    // Another one once its time is over.
    let later = first.signer(SystemTime::now() + 20 * HOUR).unwrap();
    assert!(!std::sync::Arc::ptr_eq(&signer, &later));
}

#[test]
fn a_signer_follows_the_issuing_certificate_to_another_root() {
    let (_dir, directory) = made();
    let (_next, next) = made();
    let authority = Authority::open(directory.clone(), Lifetime::default()).unwrap();
    let former = authority.roots();
    assert!(receipt_counts(&authority, former.clone()));
    let both = fs::read_to_string(directory.root()).unwrap() + &fs::read_to_string(next.root()).unwrap();
    fs::write(directory.root(), both).unwrap();
    for (from, to) in [(next.issuing_key(), directory.issuing_key()), (next.issuing(), directory.issuing())] {
        fs::copy(from, to).unwrap();
    }
    let both = authority.roots();
    assert!(receipt_counts(&authority, both.clone()) && !receipt_counts(&authority, former));
    assert_eq!(both.len(), 2);
    assert_eq!(Fingerprint::of(&authority.own_root()), authority.root());
}

#[test]
fn a_signers_key_in_a_file_is_made_once_and_for_its_owner() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("receipts.key");
    let name = sextant_identity::SignerName {
        cluster: "default".parse().unwrap(),
        controller: "c1".parse().unwrap(),
    };
    let of = |path: &std::path::Path| Signer::of_key(path, &name, SystemTime::now());
    let key = of(&path).unwrap().public_key();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(of(&path).unwrap().public_key(), key);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let error = of(&path).unwrap_err().to_string();
    assert!(error.contains("readable for all users"), "{error}");
    assert!(of(&dir.path().join("no/such/directory")).is_err());
}
