//! Files that are refused, and what is said.

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
async fn a_new_store_is_its_owners_alone() {
    let place = place();
    let path = place.path.join("deep/down/store");
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
    let place = place();
    fs::write(&place.path, "").unwrap();
    fs::set_permissions(&place.path, fs::Permissions::from_mode(0o600)).unwrap();
    let store = EmbeddedStore::open(&place.path).unwrap();
    assert_eq!(put(&store, "a", "1").await.unwrap(), 1);
}

#[tokio::test]
async fn a_store_that_was_emptied_is_damaged() {
    let place = place();
    drop(EmbeddedStore::open(&place.path).unwrap());
    fs::File::options().write(true).open(&place.path).unwrap().set_len(0).unwrap();
    let message = refusal(&place.path);
    assert!(message.contains("is damaged: it is empty, and a store was there before"), "{message}");
    let named = EmbeddedStore::open_with(&place.path, with_backup()).unwrap_err().to_string();
    assert!(named.contains("sextant restore \"/backups/b\""), "{named}");
    assert_eq!(fs::metadata(&place.path).unwrap().len(), 0, "it stays as it was found");
}

#[tokio::test]
async fn a_damaged_header_names_the_backup() {
    for header in ["", "text"] {
        let place = place();
        drop(EmbeddedStore::open(&place.path).unwrap());
        let mut octets = fs::read(&place.path).unwrap();
        octets[..8].copy_from_slice(&[0xff; 8]);
        fs::write(&place.path, if header.is_empty() { octets } else { header.into() }).unwrap();
        let named = EmbeddedStore::open_with(&place.path, with_backup()).unwrap_err().to_string();
        assert!(
            named.contains("is damaged: ") && named.contains("sextant restore \"/backups/b\""),
            "{named}"
        );
    }
}

#[tokio::test]
async fn only_one_controller_has_it_open() {
    let place = place();
    let store = EmbeddedStore::open(&place.path).unwrap();
    let message = refusal(&place.path);
    assert!(message.contains("already open in another controller; stop that one"), "{message}");
    put(&store, "a", "1").await.unwrap();
    drop(store);
    let store = EmbeddedStore::open(&place.path).unwrap();
    assert_eq!(keys(&store).await, ["a"]);
}

#[tokio::test]
async fn a_file_that_others_may_read_is_refused() {
    let place = place();
    drop(EmbeddedStore::open(&place.path).unwrap());
    for exposed in [0o640, 0o620, 0o604, 0o602, 0o644, 0o777] {
        fs::set_permissions(&place.path, fs::Permissions::from_mode(exposed)).unwrap();
        let message = refusal(&place.path);
        assert!(message.contains(&format!("(mode {exposed:04o}); run: chmod 600 ")), "{message}");
    }
    fs::set_permissions(&place.path, fs::Permissions::from_mode(0o600)).unwrap();
    EmbeddedStore::open(&place.path).unwrap();
}

#[test]
fn a_file_of_another_owner_is_refused() {
    let place = place();
    drop(EmbeddedStore::open(&place.path).unwrap());
    fs::set_permissions(place.path.parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
    // The file system's user id is of the thread alone; nobody has none of root's rights over files.
    let nobody = std::thread::spawn(move || {
        setfsuid(Uid::from_raw(65534));
        assert!(fs::File::open(&place.path).is_err(), "run this test as root");
        (refusal(&place.path), refusal(&place.path.with_file_name("new")))
    });
    let (existing, new) = nobody.join().unwrap();
    for message in [existing, new] {
        assert!(message.starts_with("no permission to read and write store"), "{message}");
        assert!(message.contains("chown USER"), "{message}");
    }
}

#[test]
fn what_is_no_file_is_refused() {
    let place = place();
    let directory = place.path.parent().unwrap();
    let message = refusal(directory);
    assert!(message.contains("is a directory; name a file in it"), "{message}");
    let message = refusal(Path::new("/dev/null"));
    assert!(message.contains("not a regular file"), "{message}");
    fs::write(&place.path, "x").unwrap();
    let message = refusal(&place.path.join("store"));
    assert!(message.contains("a part of the path is a file"), "{message}");
}

#[test]
fn what_is_no_store_is_refused_and_left_as_it_is() {
    let place = place();
    let texts: [&[u8]; 4] = [b"x", b"redb", b"node = \"a\"\n", &[7; 100_000]];
    for text in texts {
        fs::write(&place.path, text).unwrap();
        fs::set_permissions(&place.path, fs::Permissions::from_mode(0o600)).unwrap();
        let message = refusal(&place.path);
        assert!(message.contains("is not a Sextant store"), "{message}");
        assert_eq!(fs::read(&place.path).unwrap(), text);
    }
}

#[test]
fn the_database_of_another_program_is_refused() {
    let place = place();
    let database = Database::create(&place.path).unwrap();
    let transaction = database.begin_write().unwrap();
    let table: TableDefinition<'_, u64, u64> = TableDefinition::new("entries");
    transaction.open_table(table).unwrap().insert(1, 1).unwrap();
    transaction.commit().unwrap();
    drop(database);
    fs::set_permissions(&place.path, fs::Permissions::from_mode(0o600)).unwrap();
    let message = refusal(&place.path);
    assert!(message.contains("it is the database of another program"), "{message}");
}

#[test]
fn a_newer_format_is_refused() {
    let place = place();
    drop(EmbeddedStore::open(&place.path).unwrap());
    let database = Database::open(&place.path).unwrap();
    let transaction = database.begin_write().unwrap();
    let meta: TableDefinition<'_, &str, u64> = TableDefinition::new("sextant");
    transaction.open_table(meta).unwrap().insert("format", 2).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let message = refusal(&place.path);
    assert!(message.contains("has format 2, this controller knows 1 and older"), "{message}");
}

#[tokio::test]
async fn a_store_that_was_cut_off_is_damaged() {
    let place = place();
    let store = EmbeddedStore::open(&place.path).unwrap();
    for key in 0..100 {
        put(&store, &key.to_string(), &"x".repeat(20_000)).await.unwrap();
    }
    drop(store);
    let file = fs::OpenOptions::new().write(true).open(&place.path).unwrap();
    file.set_len(file.metadata().unwrap().len() / 3).unwrap();
    let message = refusal(&place.path);
    assert!(message.contains("is damaged: "), "{message}");
    assert!(message.contains("move it away and restore a backup"), "{message}");
    let message = EmbeddedStore::open_with(&place.path, with_backup()).unwrap_err().to_string();
    let way = format!(
        "the newest backup was taken at 2026-11-29T09:10:40.123Z; to go back to it: mv {0:?} \"{1}.damaged\", start the \
         controller, then: sextant restore \"/backups/b\"",
        place.path,
        place.path.display()
    );
    assert!(message.contains(&way), "{message}");
}
