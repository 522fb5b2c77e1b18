//! Each kind of caller makes each kind of call: what is allowed is what the table in docs/identity.md says.

use crate::{authority::Files, bed::Bed};

/// A command of each group of calls.
const READS: [&[&str]; 6] =
    [&["status"], &["node", "list"], &["pool", "list"], &["reservations"], &["route", "list"], &["events"]];
const OPERATES: [&[&str]; 4] =
    [&["reserve", "2001:db8:80ff::/64"], &["unreserve", "2001:db8:80ff::/64"], &["pause"], &["resume"]];
const ADMINISTERS: [&[&str]; 5] = [
    &["token", "list"],
    &["pool", "add", "ula", "fd00:5::/48", "--host-len", "64"],
    &["pool", "remove", "ula"],
    &["node", "forget", "h9"],
    &["recover", "--finish"],
];

#[test]
fn each_caller_may_do_what_the_table_says_and_nothing_else() {
    let mut bed = Bed::start("permissions", 1);
    let node = bed.member("node/h1", None);
    bed.start_agent(0, &node);
    bed.wait_ready("h1");
    let person = |name: &str, role: Option<&str>| bed.member(&format!("admin/{name}"), role);
    let callers: [(&str, Files, [bool; 3]); 5] = [
        ("viewer", person("vic", None), [true, false, false]),
        ("operator", person("olga", Some("operator")), [true, true, false]),
        ("admin", person("ada", Some("admin")), [true, true, true]),
        ("node", node, [false, false, false]),
        ("controller", bed.member("controller/b", None), [false, false, false]),
    ];
    for (caller, files, allowed) in &callers {
        for (commands, is_allowed) in [&READS[..], &OPERATES, &ADMINISTERS].into_iter().zip(allowed) {
            for command in commands {
                let output = bed.cli(files, command);
                let refused = output.stderr.contains("may not call");
                assert_eq!(refused, !is_allowed, "{caller}: {command:?}: {output:?}");
                // An unknown node is not found, by who may ask.
                assert_eq!(output.code, expected(*is_allowed, command), "{caller}: {command:?}: {output:?}");
            }
        }
        let me = bed.cli(files, &["whoami"]).succeeded().unwrap().stdout;
        assert!(me.contains("of cluster default"), "{me}");
    }
    assert_eq!(bed.wait_ready("h1")["connected"], true, "none of it has disturbed the agent");
}

fn expected(allowed: bool, command: &[&str]) -> i32 {
    match (allowed, command) {
        (false, _) => 1,
        (true, ["node", "forget", ..]) => 3,
        (true, _) => 0,
    }
}

/// Where the certificates are a site's, there is no authority that join tokens could be of.
#[test]
fn without_an_authority_of_the_clusters_own_there_are_no_join_tokens() {
    let bed = Bed::start("no authority", 0);
    let output = bed.cli(&bed.admin, &["token", "create", "--node", "h1"]);
    assert_eq!(output.code, 4, "{output:?}");
    assert!(output.stderr.contains("make it: sextant-controller pki init"), "{output:?}");
}
