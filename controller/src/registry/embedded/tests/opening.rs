//! Refused files and their error messages.

use nix::unistd::{Uid, setfsuid};
use redb::{Database, TableDefinition};

use super::*;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// The message of the refusal.
fn refusal(path: &Path) -> String {
    let refused = EmbeddedStore::open(path).expect_err("it must be refused").to_string();
    assert!(refused.contains(path.to_str().unwrap()), "the message names the path: {refused}");
    refused
}

#[tokio::test]
async fn a_new_store_is_accessible_to_its_owner_only() {
    let testbed = testbed();
    let path = testbed.path.join("deep/down/store");
    drop(EmbeddedStore::open(&path).unwrap());
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    let names = fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.collect();
    names.sort();
    assert_eq!(names, ["store", "store.lock", "store.reserve"], "nothing unfinished is left");
}

#[tokio::test]
async fn an_empty_file_becomes_a_store() {
    let testbed = testbed();
    fs::write(&testbed.path, "").unwrap();
    fs::set_permissions(&testbed.path, fs::Permissions::from_mode(0o600)).unwrap();
    let store = EmbeddedStore::open(&testbed.path).unwrap();
    assert_eq!(put(&store, "a", "1").await.unwrap(), 1);
}

#[tokio::test]
async fn a_store_that_was_emptied_is_damaged() {
    let testbed = testbed();
    drop(EmbeddedStore::open(&testbed.path).unwrap());
    fs::File::options().write(true).open(&testbed.path).unwrap().set_len(0).unwrap();
    let message = refusal(&testbed.path);
    assert!(message.contains("is damaged: the file is empty, but held a store before"), "{message}");
    let named = EmbeddedStore::open_with(&testbed.path, with_backup()).unwrap_err().to_string();
    assert!(named.contains("sextant restore \"/backups/b\""), "{named}");
    assert_eq!(fs::metadata(&testbed.path).unwrap().len(), 0, "it is unchanged");
}

#[tokio::test]
async fn a_damaged_header_names_the_backup() {
    for header in ["", "text"] {
        let testbed = testbed();
        drop(EmbeddedStore::open(&testbed.path).unwrap());
        let mut octets = fs::read(&testbed.path).unwrap();
        octets[..8].copy_from_slice(&[0xff; 8]);
        fs::write(&testbed.path, if header.is_empty() { octets } else { header.into() }).unwrap();
        let named = EmbeddedStore::open_with(&testbed.path, with_backup()).unwrap_err().to_string();
        assert!(
            named.contains("is damaged: ") && named.contains("sextant restore \"/backups/b\""),
            "{named}"
        );
    }
}

#[tokio::test]
async fn only_one_controller_has_it_open() {
    let testbed = testbed();
    let store = EmbeddedStore::open(&testbed.path).unwrap();
    let message = refusal(&testbed.path);
    assert!(message.contains("already open in another controller; stop that one"), "{message}");
    put(&store, "a", "1").await.unwrap();
    drop(store);
    let store = EmbeddedStore::open(&testbed.path).unwrap();
    assert_eq!(keys(&store).await, ["a"]);
}

#[tokio::test]
async fn a_file_that_others_may_read_is_refused() {
    let testbed = testbed();
    drop(EmbeddedStore::open(&testbed.path).unwrap());
    for exposed in [0o640, 0o620, 0o604, 0o602, 0o644, 0o777] {
        fs::set_permissions(&testbed.path, fs::Permissions::from_mode(exposed)).unwrap();
        let message = refusal(&testbed.path);
        assert!(message.contains(&format!("(mode {exposed:04o}); run: chmod 600 ")), "{message}");
    }
    fs::set_permissions(&testbed.path, fs::Permissions::from_mode(0o600)).unwrap();
    EmbeddedStore::open(&testbed.path).unwrap();
}

#[test]
fn a_file_of_another_owner_is_refused() {
    let testbed = testbed();
    drop(EmbeddedStore::open(&testbed.path).unwrap());
    fs::set_permissions(testbed.path.parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
    // The file system's user id is per thread; user 65534 has no privileges over files.
    let other = std::thread::spawn(move || {
        setfsuid(Uid::from_raw(65534));
        assert!(fs::File::open(&testbed.path).is_err(), "run this test as root");
        (refusal(&testbed.path), refusal(&testbed.path.with_file_name("new")))
    });
    let (existing, new) = other.join().unwrap();
    for message in [existing, new] {
        assert!(message.starts_with("no permission to read and write store"), "{message}");
        assert!(message.contains("chown USER"), "{message}");
    }
}

#[test]
fn a_path_that_is_not_a_file_is_refused() {
    let testbed = testbed();
    let directory = testbed.path.parent().unwrap();
    let message = refusal(directory);
    assert!(message.contains("is a directory; name a file in it"), "{message}");
    let message = refusal(Path::new("/dev/null"));
    assert!(message.contains("not a regular file"), "{message}");
    fs::write(&testbed.path, "x").unwrap();
    let message = refusal(&testbed.path.join("store"));
    assert!(message.contains("a part of the path is a file"), "{message}");
}

#[test]
fn a_file_that_is_not_a_store_is_refused_and_unchanged() {
    let testbed = testbed();
    let texts: [&[u8]; 4] = [b"x", b"redb", b"node = \"a\"\n", &[7; 100_000]];
    for text in texts {
        fs::write(&testbed.path, text).unwrap();
        fs::set_permissions(&testbed.path, fs::Permissions::from_mode(0o600)).unwrap();
        let message = refusal(&testbed.path);
        assert!(message.contains("is not a Sextant store"), "{message}");
        assert_eq!(fs::read(&testbed.path).unwrap(), text);
    }
}

#[test]
fn the_database_of_another_program_is_refused() {
    let testbed = testbed();
    let database = Database::create(&testbed.path).unwrap();
    let transaction = database.begin_write().unwrap();
    let table: TableDefinition<'_, u64, u64> = TableDefinition::new("entries");
    transaction.open_table(table).unwrap().insert(1, 1).unwrap();
    transaction.commit().unwrap();
    drop(database);
    fs::set_permissions(&testbed.path, fs::Permissions::from_mode(0o600)).unwrap();
    let message = refusal(&testbed.path);
    assert!(message.contains("it is the database of another program"), "{message}");
}

#[test]
fn a_newer_format_is_refused() {
    let testbed = testbed();
    drop(EmbeddedStore::open(&testbed.path).unwrap());
    let database = Database::open(&testbed.path).unwrap();
    let transaction = database.begin_write().unwrap();
    let meta: TableDefinition<'_, &str, u64> = TableDefinition::new("sextant");
    transaction.open_table(meta).unwrap().insert("format", 2).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let message = refusal(&testbed.path);
    assert!(message.contains("has format 2, this controller reads formats up to 1"), "{message}");
}

#[tokio::test]
async fn a_truncated_store_is_damaged() {
    let testbed = testbed();
    let store = EmbeddedStore::open(&testbed.path).unwrap();
    for key in 0..100 {
        put(&store, &key.to_string(), &"x".repeat(20_000)).await.unwrap();
    }
    drop(store);
    let file = fs::OpenOptions::new().write(true).open(&testbed.path).unwrap();
    file.set_len(file.metadata().unwrap().len() / 3).unwrap();
    let message = refusal(&testbed.path);
    assert!(message.contains("is damaged: "), "{message}");
    assert!(message.contains("move it away and restore a backup"), "{message}");
    let message = EmbeddedStore::open_with(&testbed.path, with_backup()).unwrap_err().to_string();
    let fix = format!(
        "the newest backup was taken at 2026-11-29T09:10:40.123Z; to go back to it: mv {0:?} \"{1}.damaged\", start the \
         controller, then: sextant restore \"/backups/b\"",
        testbed.path,
        testbed.path.display()
    );
    assert!(message.contains(&fix), "{message}");
}
