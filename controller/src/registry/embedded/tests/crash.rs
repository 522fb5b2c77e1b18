//! A controller that is killed: acknowledged changes are in the store.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
};

use super::*;

const STORE: &str = "SEXTANT_TEST_CRASH_STORE";
const ROUND: &str = "SEXTANT_TEST_CRASH_ROUND";
const ROUNDS: u64 = 12;

/// Commits from several tasks, and prints each key once it is acknowledged, until it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by a_killed_store_has_all_acknowledged_changes"]
async fn commit_until_killed() {
    let path = PathBuf::from(env::var_os(STORE).expect("only run by the test below"));
    let round = env::var(ROUND).unwrap();
    let store = Arc::new(EmbeddedStore::open(&path).unwrap());
    let committer = |task: u64| {
        let (store, round) = (Arc::clone(&store), round.clone());
        tokio::spawn(async move {
            for number in 0_u64.. {
                let key = format!("{round}/{task}/{number}");
                let revision = put(&store, &key, &"x".repeat(500)).await.unwrap();
                let line = format!("acknowledged {key} {revision}\n");
                std::io::stdout().write_all(line.as_bytes()).unwrap();
            }
        })
    };
    futures::future::join_all((0..4).map(committer)).await;
}

/// Runs the test above, kills it after some acknowledgements, and returns these.
fn run_and_kill(path: &Path, round: u64) -> Vec<(String, u64)> {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--ignored", "--nocapture", "--exact", "--test-threads=1"])
        .arg("registry::embedded::tests::crash::commit_until_killed")
        .env(STORE, path)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acknowledged = Vec::new();
    for line in lines.map_while(Result::ok) {
        if let Some(rest) = line.split("acknowledged ").nth(1) {
            // The kill may cut the last line.
            let Some((key, revision)) = rest.split_once(' ') else {
                continue;
            };
            acknowledged.push((key.to_owned(), revision.parse().unwrap_or(0)));
        }
        if acknowledged.len() as u64 == 5 + 37 * round {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(acknowledged.len() as u64 >= 5 + 37 * round, "the child ended by itself");
    acknowledged
}

#[tokio::test]
async fn a_killed_store_has_all_acknowledged_changes() {
    let testbed = testbed();
    let mut acknowledged = Vec::new();
    for round in 0..ROUNDS {
        acknowledged.extend(run_and_kill(&testbed.path, round));
        let store = EmbeddedStore::open(&testbed.path).unwrap();
        let listing = all(&store).await;
        let made: std::collections::HashMap<_, _> =
            listing.entries.iter().map(|entry| (&*entry.key, entry.created.0)).collect();
        for (key, revision) in &acknowledged {
            let found = made.get(&**key).copied();
            let matches = found.is_some_and(|found| *revision == 0 || found == *revision);
            assert!(matches, "round {round}: {key} was acknowledged at {revision}, found {found:?}");
        }
        let revisions = listing.entries.len() as u64;
        assert_eq!(listing.revision.0, revisions, "one revision for each key that was ever put");
    }
}
