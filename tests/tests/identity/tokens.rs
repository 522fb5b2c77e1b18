//! Join tokens: a host gets the certificate of its node, once, and nobody else does.

use std::{fs, os::unix::fs::PermissionsExt, thread};

use sextant_tests::{SECONDS, poll};

use crate::own::Own;

/// The lifetime of certificates that no test waits for.
const DAY: u32 = 86_400;

/// The shortest way: authority, controller, token, agent. The secret is nowhere but in the line.
#[test]
fn a_host_joins_with_a_token_and_its_secret_is_shown_nowhere() {
    let mut own = Own::start("join", 2, DAY);
    let line = own.token(&["--node", "h1"]);
    let joined = own.join(0, &line);
    assert!(joined.is_done && joined.text.contains("node h1 has joined cluster default"), "{joined:?}");
    own.join_anew(1);
    own.start_agent(0, &[]);
    own.start_agent(1, &[]);
    own.wait_ready("h1");
    own.wait_ready("h2");
    own.sextant(&["wait", "--timeout", "20s"]);
    let (from, to) = (own.hosts[0].container("a").unwrap(), own.hosts[1].container("b").unwrap());
    poll("the path", 20 * SECONDS, || from.ping(to.address())?.replied());

    let secret = line.trim().rsplit(':').next().unwrap();
    assert_eq!(secret.len(), 64, "{line}");
    let shown = [
        own.controllers[0].process.log(),
        own.agents[0].process.log(),
        own.controllers[0].metrics("text/plain").unwrap().1,
        own.agents[0].metrics("text/plain").unwrap().1,
        own.sextant(&["events"]),
        own.sextant(&["-o", "json", "token", "list"]),
    ];
    for text in &shown {
        assert!(!text.contains(secret), "{text}");
    }
    let (events, tokens) = (&shown[4], own.sextant(&["token", "list"]));
    assert!(events.contains("token created") && events.contains("joined"), "{events}");
    assert!(events.contains("node h1 at "), "{events}");
    assert!(tokens.contains("1 of 1"), "{tokens}");
    assert!(shown[3].contains("sextant_agent_certificate_end_timestamp_seconds 1"), "{}", shown[3]);
    for name in ["certificate_end", "issuing_certificate_end"] {
        assert!(shown[2].contains(&format!("sextant_controller_{name}_timestamp_seconds 1")), "{}", shown[2]);
    }
    // The key is for its owner alone.
    let key = own.lab.state_dir(&own.hosts[0]).join("tls/node.key");
    assert_eq!(fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
}

/// Neither a token nor a certificate helps a revoked node, until it is permitted again.
#[test]
fn a_revoked_node_joins_no_more() {
    let own = Own::start("join revoked", 1, DAY);
    let line = own.token(&["--node", "h1"]);
    own.sextant(&["node", "revoke", "h1"]);
    let refused = own.join(0, &line);
    assert!(!refused.is_done && refused.text.contains("node h1 is revoked"), "{refused:?}");
    own.sextant(&["node", "revoke", "h1", "--undo"]);
    let joined = own.join(0, &line);
    assert!(joined.is_done, "the token was not spent: {joined:?}");
}

/// Tokens that are used by another host, of another node, cluster or time, or changed: each is refused with the reason.
#[test]
fn a_token_that_is_not_for_the_host_is_refused_with_the_reason() {
    let own = Own::start("refused tokens", 2, DAY);
    let refused = |index: usize, node: &str, line: &str, why: &str| {
        let joined = own.join_as(index, node, line, 1);
        assert!(!joined.is_done && joined.text.contains(why), "{why}: {joined:?}");
        let tls = own.lab.state_dir(&own.hosts[index]).join("tls/node.pem");
        assert!(!tls.exists(), "{why}");
    };
    let line = own.token(&["--node", "h1"]);
    let parts: Vec<&str> = line.trim().split(':').collect();
    let [scheme, root, id, secret] = parts[..] else { panic!("{line}") };
    let flipped = |hex: &str| {
        if let Some(rest) = hex.strip_prefix('0') { format!("1{rest}") } else { format!("0{}", &hex[1..]) }
    };
    // Tampered.
    refused(
        0,
        "h1",
        &format!("{scheme}:{root}:{id}:{}", flipped(secret)),
        "the secret of the join token is wrong",
    );
    refused(0, "h1", &format!("{scheme}:{root}:{}:{secret}", flipped(id)), "there is no join token");
    refused(0, "h1", &format!("{scheme}:{root}:{id}"), "this is no join token; it is one line");
    // Of another cluster, by its root: nothing is sent.
    let other = format!("{scheme}:{}:{id}:{secret}", flipped(root));
    refused(0, "h1", &other, "the token is of another cluster, or was changed; nothing was sent");
    // For another node.
    refused(1, "h2", &line, "is for node h1, and this is node h2");
    // None of the attempts has spent it; the same host may ask again.
    for _ in 0..2 {
        let joined = own.join(0, &line);
        assert!(joined.is_done, "{joined:?}");
    }
    // Replayed, by a host that claims to be h1.
    refused(1, "h1", &line, "the join token was used by another host, as node h1");
    // Expired.
    let short = own.token(&["--node", "h2", "--ttl", "1s"]);
    poll("the token ends", 10 * SECONDS, || {
        let list = own.sextant(&["token", "list"]);
        if list.contains("ago") { Ok(()) } else { Err(list) }
    });
    refused(1, "h2", &short, "the join token ended");
    // Revoked.
    let revoked = own.token(&["--node", "h2"]);
    own.sextant(&["token", "revoke", revoked.split(':').nth(2).unwrap()]);
    refused(1, "h2", &revoked, "there is no join token");
}

/// An issuing certificate that has ended signs nothing. Who has no right token learns of the token, not of that; and a right one is not
/// spent for a certificate that cannot be made.
#[test]
fn nothing_is_signed_before_the_token_is_checked_and_no_token_is_spent_for_nothing() {
    let own = Own::start("order", 1, DAY);
    let line = own.token(&["--node", "h1"]);
    let pki = own.pki_dir(1);
    let (certificate, kept) = (pki.join("issuing.pem"), fs::read_to_string(pki.join("issuing.pem")).unwrap());
    let replace = |text: &str| {
        fs::write(pki.join("new"), text).unwrap();
        fs::rename(pki.join("new"), &certificate).unwrap();
    };
    replace(&ended(&pki));
    let wrong = line.trim().rsplit_once(':').unwrap().0.to_owned() + ":" + &"0".repeat(64);
    let refused = own.join(0, &wrong);
    assert!(
        !refused.is_done && refused.text.contains("the secret of the join token is wrong"),
        "{refused:?}"
    );
    let unsigned = own.join(0, &line);
    assert!(
        !unsigned.is_done && unsigned.text.contains("the issuing certificate of c1 has ended"),
        "{unsigned:?}"
    );
    let tokens = own.sextant(&["token", "list"]);
    assert!(tokens.contains("0 of 1"), "{tokens}");
    replace(&kept);
    let joined = own.join(0, &line);
    assert!(joined.is_done, "{joined:?}");
}

/// An issuing certificate of the key there that has ended.
fn ended(pki: &std::path::Path) -> String {
    let read = |name: &str| fs::read_to_string(pki.join(name)).unwrap();
    let key = |name: &str| rcgen::KeyPair::from_pem(&read(name)).unwrap();
    let root = rcgen::Issuer::from_ca_cert_pem(&read("root.pem"), key("root.key")).unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    let uri = "spiffe://default/controller/c1".try_into().unwrap();
    params.subject_alt_names = vec![rcgen::SanType::URI(uri)];
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    params.signed_by(&key("issuing.key"), &root).unwrap().pem()
}

/// Two hosts use one token at the same time, at two controllers: one gets the certificate. So do as many of a fleet as a token is for.
#[test]
fn of_two_hosts_with_one_token_at_two_controllers_one_joins() {
    let mut own = Own::without_controller("token twice", 4, DAY);
    own.pki(&["controller", "c2"]);
    let etcd = own.lab.etcd(1, &[]).unwrap();
    own.start_controller(1, Some(etcd.store()));
    own.start_controller(2, Some(etcd.store()));
    own.sextant(&["pool", "add", "main", "2001:db8:8000::/40", "--host-len", "64"]);
    // The controllers know each other by the certificates that they made themselves.
    poll("both controllers are well", 20 * SECONDS, || {
        let status = own.sextant(&["status"]);
        let second = sextant_tests::Lab::controller_address(2).to_string();
        if status.contains(&second) && status.starts_with("All is well") { Ok(()) } else { Err(status) }
    });
    let line = own.token(&["--node", "h1"]);
    let own = &own;
    let joined = thread::scope(|scope| {
        let joins = [(0, 1), (1, 2)].map(|(index, controller)| {
            let line = &line;
            scope.spawn(move || own.join_as(index, "h1", line, controller))
        });
        joins.map(|join| join.join().unwrap())
    });
    assert_eq!(joined.iter().filter(|it| it.is_done).count(), 1, "{joined:?}");
    let refused = joined.iter().find(|it| !it.is_done).unwrap();
    assert!(refused.text.contains("the join token was used by another host, as node h1"), "{refused:?}");

    let line = own.token(&["--node", "web-*", "--count", "3"]);
    let joined = thread::scope(|scope| {
        let joins = [0, 1, 2, 3].map(|index: usize| {
            let line = &line;
            let controller = u16::try_from(index % 2 + 1).unwrap();
            scope.spawn(move || own.join_as(index, &format!("web-{index}"), line, controller))
        });
        joins.map(|join| join.join().unwrap())
    });
    assert_eq!(joined.iter().filter(|it| it.is_done).count(), 3, "{joined:?}");
    let refused = joined.iter().find(|it| !it.is_done).unwrap();
    assert!(refused.text.contains("was used by 3 hosts, as many as it is for"), "{refused:?}");
}

/// The agent joins by itself at its first start, and claims from the pool of the token; later starts need no token.
#[test]
fn an_agent_joins_at_its_first_start_with_the_token_of_a_file() {
    let mut own = Own::start("token file", 1, DAY);
    own.sextant(&["pool", "add", "ula", "fd00:5::/48", "--host-len", "64"]);
    let line = own.token(&["--node", "h1", "--pool", "ula", "--host-len", "72"]);
    let file = own.lab.dir().join("token");
    fs::write(&file, line).unwrap();
    let file = file.display().to_string();
    // No controller answers yet.
    own.controllers.remove(0).process.kill().unwrap();
    own.start_agent(0, &["--join-token-file", &file]);
    own.agents[0].process.wait_for_line("cannot join yet; retrying", 20 * SECONDS).unwrap();
    own.start_controller(1, None);
    let node = own.wait_ready("h1");
    assert!(node["prefix"].as_str().unwrap().starts_with("fd00:5:"), "{node}");
    assert!(node["prefix"].as_str().unwrap().ends_with("/72"), "{node}");
    own.agents.remove(0).process.kill().unwrap();
    fs::remove_file(&file).unwrap();
    own.start_agent(0, &["--join-token-file", &file]);
    own.wait_ready("h1");
}

/// Without a certificate and a token, the agent names the ways to get one.
#[test]
fn an_agent_that_has_not_joined_names_the_ways() {
    let mut own = Own::start("not joined", 1, DAY);
    own.start_agent(0, &[]);
    let log = || own.agents[0].process.log();
    poll("it refuses to start", 10 * SECONDS, || {
        anyhow::ensure!(own.agents[0].process.ended()?.is_some(), "it runs: {}", log());
        anyhow::Ok(())
    });
    assert!(
        log().contains("this node has no certificate") && log().contains("sextant-agent join"),
        "{}",
        log()
    );
}
