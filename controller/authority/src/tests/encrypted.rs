//! The encrypted backup of the root's key.

use std::process::{Command, Output};

use super::*;
use crate::{Passphrase, RootKey};

const PASSPHRASE: &str = "correct horse battery";

fn passphrase(text: &str) -> Passphrase {
    Passphrase::first_line(text)
}

fn openssl(args: &[&str]) -> Output {
    Command::new("openssl").args(args).output().unwrap()
}

#[test]
fn openssl_reads_the_backup_with_its_passphrase_alone() {
    let (dir, root) = made();
    let backup = dir.path().join("root.backup");
    root.back_up(&backup, &passphrase(PASSPHRASE)).unwrap();
    assert_eq!(fs::metadata(&backup).unwrap().permissions().mode() & 0o777, 0o600);
    let path = backup.display().to_string();
    let read = |word: &str| openssl(&["pkey", "-in", &path, "-passin", &format!("pass:{word}"), "-pubout"]);
    let own = openssl(&["pkey", "-in", &root.root_key().display().to_string(), "-pubout"]);
    let found = read(PASSPHRASE);
    assert!(found.status.success() && found.stdout == own.stdout, "{found:?}");
    assert!(!read("another passphrase").status.success());
    let error = root.back_up(&backup, &passphrase(PASSPHRASE)).unwrap_err();
    assert!(error.to_string().contains("root.backup"), "nothing is overwritten: {error}");
}

#[test]
fn a_further_controller_is_certified_by_the_encrypted_key_of_the_root() {
    let (dir, root) = made();
    let backup = dir.path().join("root.backup");
    root.back_up(&backup, &passphrase(&format!("{PASSPHRASE}\nanother line"))).unwrap();
    fs::remove_file(root.root_key()).unwrap();
    let by = |passphrase: Option<Passphrase>| {
        root.clone().with_root_key(RootKey { path: backup.clone(), passphrase })
    };
    assert!(RootKey::is_encrypted(&backup).unwrap());
    for (passphrase, said) in [
        (None, "is encrypted; give the file of its passphrase"),
        (Some(passphrase("another")), "the passphrase is wrong"),
    ] {
        let error = by(passphrase).controller(&identity("c2"), SystemTime::now()).unwrap_err().to_string();
        assert!(error.contains("root.backup") && error.contains(said), "{error}");
    }
    by(Some(passphrase(PASSPHRASE))).controller(&identity("c2"), SystemTime::now()).unwrap();
    // A damaged file, and the key of another root.
    let (_other, other) = made();
    let elsewhere = dir.path().join("other.backup");
    other.back_up(&elsewhere, &passphrase(PASSPHRASE)).unwrap();
    let key = RootKey { path: elsewhere, passphrase: Some(passphrase(PASSPHRASE)) };
    let error = root.clone().with_root_key(key).controller(&identity("c3"), SystemTime::now()).unwrap_err();
    assert!(error.to_string().contains("it is of no certificate in root.pem"), "{error}");
    let text = fs::read_to_string(&backup).unwrap();
    fs::write(&backup, text.replacen("MI", "MA", 1)).unwrap();
    let error = by(Some(passphrase(PASSPHRASE))).controller(&identity("c3"), SystemTime::now()).unwrap_err();
    assert!(error.to_string().contains("or the file is damaged"), "{error}");
}

#[test]
fn keys_that_openssl_has_encrypted_are_read() {
    let (dir, root) = made();
    let (plain, path) = (root.root_key().display().to_string(), dir.path().join("by-openssl.key"));
    let (out, pass) = (path.display().to_string(), format!("pass:{PASSPHRASE}"));
    let made = openssl(&["pkcs8", "-topk8", "-in", &plain, "-out", &out, "-passout", &pass]);
    assert!(made.status.success(), "{made:?}");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let key = RootKey { path, passphrase: Some(passphrase(PASSPHRASE)) };
    root.with_root_key(key).controller(&identity("c2"), SystemTime::now()).unwrap();
}

#[test]
fn a_new_passphrase_is_long_enough_and_is_shown_by_nothing() {
    assert!(
        passphrase("elevenchars").for_new().unwrap_err().to_string().contains("11 characters; give it 12")
    );
    assert!(passphrase("").for_new().is_err());
    assert_eq!(format!("{:?}", passphrase(PASSPHRASE).for_new().unwrap()), "Passphrase");
}
