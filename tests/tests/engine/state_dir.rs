//! Removal of the state directory of a running agent.

use std::{fs, path::PathBuf, process::Command};

use sextant_tests::{AgentOptions, SECONDS, poll};

use crate::testbed::Testbed;

fn read(dir: &PathBuf) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, fs::read(entry.path()).ok()?)))
        .collect();
    files.sort();
    files
}

fn expect_readyz(testbed: &Testbed, code: u16, words: &[&str]) {
    poll(&format!("/readyz returns {code} {words:?}"), 10 * SECONDS, || {
        let (is, body) = testbed.cluster.agents[0].http("/readyz")?;
        anyhow::ensure!(is == code && words.iter().all(|word| body.contains(word)), "{is} {body}");
        anyhow::Ok(())
    });
}

fn mount(args: &[&str]) {
    assert!(Command::new("mount").args(args).status().unwrap().success(), "mount {args:?}");
}

/// A mount that ends with the test.
struct Mounted(String);

impl Drop for Mounted {
    fn drop(&mut self) {
        Command::new("umount").args(["-l", &self.0]).status().ok();
    }
}

#[test]
fn a_removed_state_directory_is_noticed_and_written_again() {
    let args = ["--routes-resync", "1"].map(str::to_owned).to_vec();
    let mut testbed =
        Testbed::with_options("state directory", 2, &AgentOptions { args, ..AgentOptions::default() });
    let dir = testbed.cluster.lab.state_dir(testbed.host());
    let (whole, prefix) = (read(&dir), testbed.cluster.prefix("h1"));
    let written_back = |what: &str| {
        poll(&format!("{what}: all is there again"), 10 * SECONDS, || {
            let now = read(&dir);
            if now == whole { Ok(()) } else { Err(format!("{now:?}, not {whole:?}")) }
        });
        expect_readyz(&testbed, 200, &[]);
    };
    fs::remove_dir_all(&dir).unwrap();
    written_back("deleted");
    testbed.cluster.agents[0]
        .process
        .wait_for_line("node id, claim and ledger restored", 5 * SECONDS)
        .unwrap();
    for (name, _) in &whole {
        fs::remove_file(dir.join(name)).unwrap();
    }
    written_back("emptied");

    // The agent reports the directory of another node and does not change it. Nothing is lost once its own one is back.
    let away = dir.with_extension("away");
    fs::rename(&dir, &away).unwrap();
    fs::create_dir(&dir).unwrap();
    let other = "00112233445566778899aabbccddeeff";
    fs::write(dir.join("node-id"), other).unwrap();
    let own = String::from_utf8(whole.iter().find(|(name, _)| name == "node-id").unwrap().1.clone()).unwrap();
    expect_readyz(&testbed, 503, &[other, own.trim()]);
    assert_eq!(read(&dir), [("node-id".to_owned(), other.into())]);
    testbed.cluster.expect_full_mesh();
    fs::remove_dir_all(&dir).unwrap();
    fs::rename(&away, &dir).unwrap();
    written_back("put back");

    let path = dir.display().to_string();
    mount(&["--bind", &path, &path]);
    let mounted = Mounted(path.clone());
    mount(&["-o", "remount,ro,bind", &path]);
    expect_readyz(&testbed, 503, &["Read-only file system", &path]);
    drop(mounted);
    written_back("writable");

    fs::remove_dir_all(&dir).unwrap();
    written_back("deleted again");
    testbed.cluster.agents.remove(0).process.kill().unwrap();
    let agent = testbed.cluster.lab.agent(testbed.host(), AgentOptions::default()).unwrap();
    testbed.cluster.agents.insert(0, agent);
    testbed.cluster.settle();
    assert_eq!(testbed.cluster.prefix("h1"), prefix);
    testbed.cleans_up();
}
