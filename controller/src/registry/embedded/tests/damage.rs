//! Store files with random damage: never a panic, and either refused or unchanged.

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;

const SEED: u64 = 10;
const PAGE: usize = 4096;

/// Damages the file's octets once; returns a description.
fn damage(octets: &mut Vec<u8>, random: &mut StdRng) -> String {
    let at = random.random_range(0..octets.len());
    let page = at / PAGE * PAGE;
    let end = (page + PAGE).min(octets.len());
    match random.random_range(0..5) {
        0 => {
            octets[at] ^= 1 << random.random_range(0..8);
            format!("a bit flipped at {at}")
        }
        1 => {
            let at = at % 512;
            octets[at] ^= 1 << random.random_range(0..8);
            format!("a bit of the header flipped at {at}")
        }
        2 => {
            octets[page..end].fill(0);
            format!("page {page} zeroed")
        }
        3 => {
            octets.truncate(at);
            format!("cut off at {at}")
        }
        _ => {
            let other = random.random_range(0..octets.len() / PAGE) * PAGE;
            for offset in 0..end - page {
                octets.swap(page + offset, other + offset);
            }
            format!("pages {page} and {other} swapped")
        }
    }
}

#[tokio::test]
async fn a_damaged_file_is_refused_or_complete() {
    let testbed = testbed();
    let store = EmbeddedStore::open(&testbed.path).unwrap();
    let lease = store.grant(Duration::from_secs(3600)).await.unwrap();
    for key in 0..60 {
        put(&store, &format!("{key:03}"), &format!("{key}").repeat(400)).await.unwrap();
    }
    store.commit(with_lease("held", lease)).await.unwrap();
    let before = all(&store).await;
    drop(store);
    let whole = fs::read(&testbed.path).unwrap();
    let mut random = StdRng::seed_from_u64(SEED);
    let (mut refused, mut lost) = (0, Vec::new());
    for _ in 0..300 {
        let mut octets = whole.clone();
        let what = damage(&mut octets, &mut random);
        fs::write(&testbed.path, octets).unwrap();
        match EmbeddedStore::open(&testbed.path) {
            Err(error) => {
                let error = error.to_string();
                let known = error.contains("is damaged: ") || error.contains("is not a Sextant store");
                assert!(known || error.contains("has format"), "{what}: {error}");
                refused += 1;
            }
            Ok(store) => {
                if all(&store).await != before {
                    lost.push(what);
                }
            }
        }
    }
    assert!(lost.is_empty(), "seed {SEED}: accepted with different content: {lost:?}");
    assert!(refused > 50, "seed {SEED}: the damage was detected {refused} times only");
}

/// A controller that was killed leaves a file whose newest commit redb checks by itself. Each damage of that commit's pages
/// is refused; none leads to the commit before it.
#[tokio::test]
async fn a_damaged_newest_commit_of_a_killed_controller_is_refused() {
    let testbed = testbed();
    let store = EmbeddedStore::open(&testbed.path).unwrap();
    for key in 0..60 {
        put(&store, &format!("{key:03}"), &format!("{key}").repeat(400)).await.unwrap();
    }
    let before = fs::read(&testbed.path).unwrap();
    put(&store, "newest", "acknowledged").await.unwrap();
    // As a kill leaves it: the file is still open.
    let whole = fs::read(&testbed.path).unwrap();
    let newest = all(&store).await;
    drop(store);
    let changed = |page: &usize| before[page * PAGE..][..PAGE] != whole[page * PAGE..][..PAGE];
    let pages: Vec<usize> = (1..whole.len() / PAGE).filter(changed).collect();
    assert!(pages.len() > 2, "the pages of the newest commit: {pages:?}");
    fs::write(&testbed.path, &whole).unwrap();
    assert_eq!(all(&EmbeddedStore::open(&testbed.path).unwrap()).await, newest, "it is valid when undamaged");
    let mut refused = 0;
    for page in pages {
        for damage in ["old content", "zeroed", "a bit flipped"] {
            let mut octets = whole.clone();
            let range = page * PAGE..(page + 1) * PAGE;
            match damage {
                "old content" => octets[range.clone()].copy_from_slice(&before[range]),
                "zeroed" => octets[range].fill(0),
                _ => octets[page * PAGE + 8] ^= 1,
            }
            fs::write(&testbed.path, octets).unwrap();
            match EmbeddedStore::open(&testbed.path) {
                Ok(store) => assert_eq!(all(&store).await, newest, "page {page} {damage}: rolled back"),
                Err(error) => {
                    assert!(matches!(error, OpenError::Damaged { .. }), "page {page} {damage}: {error}");
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 3, "the damage was detected {refused} times only");
}
