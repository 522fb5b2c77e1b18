//! A further controller makes its own key, also where the root's key is an encrypted backup; and a controller is taken out.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use sextant_tests::{SECONDS, poll};

use crate::own::Own;

const DAY: u32 = 86_400;

fn secret(path: &Path, text: &str) -> String {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}

/// By the commands of docs/identity.md: the root's key is offline and encrypted, and no key leaves the machine that it was made on.
#[test]
fn a_further_controller_is_certified_by_the_encrypted_root_and_keeps_its_key() {
    let mut own = Own::without_controller("further", 1, DAY);
    let (root, machine, dir) = (own.pki_dir(1), own.pki_dir(2), own.lab.dir().to_owned());
    let backup = dir.join("root.backup").display().to_string();
    let (good, wrong) =
        (secret(&dir.join("good"), "correct horse battery\n"), secret(&dir.join("wrong"), "another\n"));
    let said = own.pki(&["init", "--name", "c1", "--backup", &backup, "--passphrase-file", &good]);
    assert!(said.contains("root.backup") && !said.contains("correct horse"), "{said}");
    fs::remove_file(root.join("root.key")).unwrap();

    let request = own.pki_in(&machine, &["request", "c2"]);
    assert!(request.starts_with("-----BEGIN CERTIFICATE REQUEST-----"), "{request}");
    let csr = dir.join("c2.csr");
    fs::write(&csr, &request).unwrap();
    let csr = csr.display().to_string();
    let sign = |more: &[&str]| {
        own.authority
            .run(&[&["sign", &csr, "--root-key", &backup], more].concat())
            .map_err(|error| format!("{error:#}"))
    };
    // Without a terminal, nothing is signed without a comparison.
    let error = sign(&["--passphrase-file", &good]).unwrap_err();
    let fingerprint = error.split("--fingerprint ").nth(1).unwrap()[..64].to_owned();
    assert!(error.contains("spiffe://default/controller/c2"), "{error}");
    let zeros = "0".repeat(64);
    let error = sign(&["--passphrase-file", &good, "--fingerprint", &zeros]).unwrap_err();
    assert!(error.contains("has another one"), "{error}");
    let error = sign(&["--passphrase-file", &wrong, "--fingerprint", &fingerprint]).unwrap_err();
    assert!(error.contains("root.backup") && error.contains("the passphrase is wrong"), "{error}");
    assert!(!root.join("controller-c2.pem").exists());
    let answer = sign(&["--passphrase-file", &good, "--fingerprint", &fingerprint]).unwrap();
    let file = dir.join("c2.answer");
    fs::write(&file, &answer).unwrap();
    let installed = own.pki_in(&machine, &["install", &file.display().to_string()]);
    assert!(installed.contains("controller c2 is certified"), "{installed}");
    for (path, text) in [("request", &request), ("answer", &answer)] {
        assert!(!text.contains("PRIVATE"), "{path}: {text}");
    }
    let key = machine.join("issuing.key");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);

    // Both serve one store, and each other's nodes.
    let etcd = own.lab.etcd(1, &[]).unwrap();
    own.start_controller(1, Some(etcd.store()));
    own.start_controller(2, Some(etcd.store()));
    own.sextant(&["pool", "add", "main", "2001:db8:8000::/40", "--host-len", "64"]);
    let line = own.token(&["--node", "h1"]);
    let joined = own.join_as(0, "h1", &line, 2);
    assert!(joined.is_done, "{joined:?}");
    own.start_agent(0, &[]);
    own.wait_ready("h1");
    poll("both controllers are well", 20 * SECONDS, || {
        let status = own.sextant(&["status"]);
        if status.starts_with("All is well") { Ok(()) } else { Err(status) }
    });
}
