//! Completions, as bash asks for them, and manual pages.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use sextant_tests::{Controller, bin};

use crate::cluster::{Cluster, GUIDE};

/// What bash offers for the last of these words after `sextant`.
fn offered(cluster: &Cluster, words: &[&str]) -> BTreeSet<String> {
    let url = cluster.controller.as_ref().map_or_else(nobody, Controller::url);
    let programs = bin("sextant").unwrap().parent().unwrap().to_owned();
    let script = format!(
        "export PATH={}:$PATH SEXTANT_CONTROLLER={url} SEXTANT_INSECURE=true\n\
         source <(sextant completions bash)\n\
         COMP_WORDS=(sextant {}) COMP_CWORD={} COMP_TYPE=9\n\
         $(complete -p sextant | sed -E 's/.*-F ([^ ]+).*/\\1/') sextant \"${{COMP_WORDS[COMP_CWORD]}}\"\n\
         printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        programs.display(),
        words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" "),
        words.len(),
    );
    let output = cluster.lab.switch().run(&["bash", "-c", &script]).unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().split_whitespace().map(str::to_owned).collect()
}

/// The URL of no controller.
fn nobody() -> String {
    "http://[::1]:7300".to_owned()
}

#[test]
fn bash_offers_the_nodes_and_pools_that_exist() {
    let mut cluster = Cluster::start("names", 2, GUIDE);
    let nodes = BTreeSet::from(["h1".to_owned(), "h2".to_owned()]);
    for words in [
        &["node", "show", "h"][..],
        &["node", "forget", "--force", "h"],
        &["events", "--node", "h"],
        &["trace", "h1", "h"],
    ] {
        assert_eq!(offered(&cluster, words), nodes, "{words:?}");
    }
    assert_eq!(offered(&cluster, &["node", "drain", "h2"]), BTreeSet::from(["h2".to_owned()]));
    assert_eq!(offered(&cluster, &["pool", "grow", "m"]), BTreeSet::from(["main".to_owned()]));
    assert!(offered(&cluster, &["node", ""]).is_superset(&["drain", "show"].map(str::to_owned).into()));
    // Commands are offered without a controller, and there are no names then.
    cluster.controller = None;
    assert_eq!(offered(&cluster, &["node", "show", "h"]), BTreeSet::new());
    assert_eq!(offered(&cluster, &["rese"]), ["reserve", "reservations"].map(str::to_owned).into());
}

/// Runs `PROGRAM manual DIR`.
fn write_manual(program: &str, share: &Path) {
    let output = Command::new(bin(program).unwrap()).arg("manual").arg(share).output().unwrap();
    assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn each_program_writes_its_pages_and_completions() {
    let share = tempfile::tempdir().unwrap();
    for (program, pages) in [
        ("sextant", &["man1/sextant.1", "man1/sextant-node-drain.1"][..]),
        ("sextant-agent", &["man8/sextant-agent.8", "man8/sextant-agent-docker-setup.8"]),
        ("sextant-controller", &["man8/sextant-controller.8", "man8/sextant-controller-pki-init.8"]),
    ] {
        write_manual(program, share.path());
        for page in pages {
            let text = fs::read_to_string(share.path().join("man").join(page)).unwrap();
            assert!(text.contains(".SH SYNOPSIS") && text.contains("Example:"), "{page}: {text}");
        }
        for file in [
            format!("bash-completion/completions/{program}"),
            format!("zsh/site-functions/_{program}"),
            format!("fish/vendor_completions.d/{program}.fish"),
        ] {
            let script = fs::read_to_string(share.path().join(&file)).unwrap();
            assert!(script.contains(program), "{file}: {script}");
        }
    }
}
