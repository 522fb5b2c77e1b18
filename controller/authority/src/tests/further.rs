//! A further controller with a key of its own.

use super::*;

/// The directory of a machine that has made its request, and the request.
fn requested(dir: &TempDir, name: &str) -> (Directory, String) {
    let directory = Directory::new(dir.path().join(format!("machine-of-{name}")));
    let (text, _) = directory.request(&identity(name)).unwrap();
    (directory, text)
}

fn signed(root: &Directory, request: &str) -> Result<String, DirectoryError> {
    let request = Request::from_pem(request).unwrap();
    Ok(root.sign(&request, &"default".parse().unwrap(), SystemTime::now())?.0)
}

#[test]
fn a_further_controller_makes_its_own_key_which_stays_there() {
    let (dir, root) = made();
    let (machine, request) = requested(&dir, "c2");
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!([machine.issuing_key(), machine.request_path()].map(mode), [0o600, 0o644]);
    let (again, written) = machine.request(&identity("c2")).unwrap();
    assert!(again == request && written.iter().all(|it| !it.is_new), "{written:?}");

    let answer = signed(&root, &request).unwrap();
    assert!(!request.contains("PRIVATE KEY") && !answer.contains("PRIVATE KEY"), "{answer}");
    assert_eq!(fs::read_to_string(root.path().join("controller-c2.pem")).unwrap(), answer);
    let (installed, written) = machine.install(&answer, SystemTime::now()).unwrap();
    assert!(installed == identity("c2") && written.iter().all(|it| it.is_new), "{written:?}");
    assert!(machine.install(&answer, SystemTime::now()).unwrap().1.iter().all(|it| !it.is_new));

    // Both know each other's nodes and receipts.
    let of = |directory: &Directory| Authority::open(directory.clone(), Lifetime::default()).unwrap();
    let (first, second) = (of(&root), of(&machine));
    let (key, now) = (KeyPair::generate().unwrap(), SystemTime::now());
    let granted = second.certify(&"h7".parse().unwrap(), &super::request(&key), now).unwrap();
    assert!(verified(&first, &chain(&granted, &dir), now).is_ok());
    assert!(receipt_counts(&second, first.roots()) && receipt_counts(&first, second.roots()));
    assert_eq!(Credentials::open(second, None).unwrap().holder().identity, identity("c2"));
}

#[test]
fn an_answer_of_another_key_root_or_kind_is_not_installed() {
    let (dir, root) = made();
    let ((c2, request), (c3, other)) = (requested(&dir, "c2"), requested(&dir, "c3"));
    let answer = signed(&root, &request).unwrap();
    let refused = |machine: &Directory, answer: &str| {
        let error = machine.install(answer, SystemTime::now()).unwrap_err().to_string();
        assert!(!machine.issuing().exists() && !machine.root().exists(), "{error}");
        error
    };
    assert!(refused(&c3, &answer).contains("it is of another certificate"));
    let end = "-----END CERTIFICATE-----\n";
    let (certificate, _) = answer.split_once(end).unwrap();
    assert!(refused(&c2, &format!("{certificate}{end}")).contains("with the root after it"));
    assert!(refused(&c2, "nothing").contains("with the root after it"));
    // The right certificate with another root.
    let (_foreign, foreign) = made();
    let roots = fs::read_to_string(foreign.root()).unwrap();
    let error = refused(&c2, &format!("{certificate}{end}{roots}"));
    assert!(error.contains("is not certified by the root"), "{error}");
    // The root that is there counts, and not the one of the answer.
    fs::copy(root.root(), c3.root()).unwrap();
    let error = c3.install(&signed(&foreign, &other).unwrap(), SystemTime::now()).unwrap_err().to_string();
    assert!(error.contains("is not certified by the root"), "{error}");
    assert!(!c3.issuing().exists());
    c3.install(&signed(&root, &other).unwrap(), SystemTime::now()).unwrap();
    // Nothing is replaced.
    let issuing = fs::read(c3.issuing()).unwrap();
    fs::remove_file(root.path().join("controller-c3.pem")).unwrap();
    let again = signed(&root, &other).unwrap();
    let error = c3.install(&again, SystemTime::now()).unwrap_err();
    assert!(matches!(error, DirectoryError::Exists(_)), "{error}");
    assert_eq!(fs::read(c3.issuing()).unwrap(), issuing);
    assert!(matches!(c3.request(&identity("c3")), Err(DirectoryError::Exists(_))));
}

#[test]
fn a_request_is_of_one_controller_of_this_cluster() {
    let (dir, root) = made();
    let (machine, request) = requested(&dir, "c2");
    signed(&root, &request).unwrap();
    let error = signed(&root, &request).unwrap_err();
    assert!(matches!(error, DirectoryError::Exists(_)), "{error}");
    let error = machine.request(&identity("c3")).unwrap_err().to_string();
    assert!(error.contains("is of spiffe://default/controller/c2, and not of"), "{error}");
    let key = KeyPair::generate().unwrap();
    fs::write(machine.issuing_key(), key.serialize_pem()).unwrap();
    let error = machine.request(&identity("c2")).unwrap_err().to_string();
    assert!(error.contains("it is of another request"), "{error}");

    let of = |uris: &[&str]| {
        let mut params = CertificateParams::default();
        params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        params.serialize_request(&key).unwrap().pem().unwrap()
    };
    let c9 = "spiffe://default/controller/c9";
    for uris in [&[][..], &["spiffe://default/admin/root"], &["spiffe://default/node/h1"], &[c9, c9]] {
        let error = signed(&root, &of(uris)).unwrap_err().to_string();
        assert!(error.contains("names no controller of a cluster"), "{uris:?}: {error}");
    }
    let error = signed(&root, &of(&["spiffe://other/controller/c9"])).unwrap_err().to_string();
    assert!(error.contains("and not of a controller of cluster default"), "{error}");
    assert!(Request::from_pem("nothing").is_err());
}
