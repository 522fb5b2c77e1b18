//! A store whose file is moved or replaced while it is open.

use super::*;

/// All changes are refused, everything can still be read, and another controller cannot open the store.
async fn refuses_all(store: &EmbeddedStore, path: &Path, lease: LeaseId, context: &str) {
    let kept = store.keep_alive(lease).await;
    for refused in
        [kept, store.grant(Duration::from_secs(9)).await.map(drop), put(store, "no", "x").await.map(drop)]
    {
        let Err(RegistryError::Unavailable(why)) = refused else { panic!("{context}: {refused:?}") };
        assert!(
            why.contains(path.to_str().unwrap()) && why.contains("`sextant backup FILE`"),
            "{context}: {why}"
        );
    }
    assert_eq!(keys(store).await, ["a", "b"], "{context}");
}

#[tokio::test]
async fn a_moved_file_refuses_changes_until_it_is_moved_back() {
    let testbed = testbed();
    let path = &testbed.path;
    let store = EmbeddedStore::open_with(path, with_backup()).unwrap();
    let lease = store.grant(Duration::from_secs(1)).await.unwrap();
    put(&store, "a", "1").await.unwrap();
    store.commit(with_lease("b", lease)).await.unwrap();
    let away = path.with_file_name("away");

    fs::rename(path, &away).unwrap();
    refuses_all(&store, path, lease, "moved").await;
    let refused = put(&store, "no", "x").await.unwrap_err().to_string();
    let fix =
        "the newest automatic backup was taken at 2026-11-29T09:10:40.123Z: sextant restore \"/backups/b\"";
    assert!(refused.contains(fix), "{refused}");
    let second = EmbeddedStore::open(path).unwrap_err();
    assert!(matches!(second, OpenError::AlreadyOpen(_)), "{second}");
    assert!(!path.exists(), "no file is created in its place");

    fs::write(path, "other").unwrap();
    refuses_all(&store, path, lease, "replaced").await;
    assert_eq!(fs::read(path).unwrap(), b"other", "it is not overwritten");
    // Longer than the lease: keep-alives are refused meanwhile, so it does not end.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    refuses_all(&store, path, lease, "for long").await;

    fs::rename(&away, path).unwrap();
    store.keep_alive(lease).await.unwrap();
    put(&store, "c", "1").await.unwrap();
    drop(store);
    let store = EmbeddedStore::open(path).unwrap();
    assert_eq!(keys(&store).await, ["a", "b", "c"]);
}

#[tokio::test]
async fn renamed_directories_and_changed_links_are_detected() {
    let testbed = testbed();
    let root = testbed.path.parent().unwrap();
    let (directory, moved, link) = (root.join("directory"), root.join("moved"), root.join("link"));
    std::os::unix::fs::symlink(&directory, &link).unwrap();
    fs::create_dir(&directory).unwrap();
    let path = link.join("store");
    let store = EmbeddedStore::open(&path).unwrap();
    let lease = store.grant(Duration::from_secs(60)).await.unwrap();
    put(&store, "a", "1").await.unwrap();
    put(&store, "b", "1").await.unwrap();
    fs::rename(&directory, &moved).unwrap();
    refuses_all(&store, &path, lease, "directory renamed").await;
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(root, &link).unwrap();
    refuses_all(&store, &path, lease, "link changed").await;
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(&moved, &link).unwrap();
    put(&store, "c", "1").await.unwrap();
}
