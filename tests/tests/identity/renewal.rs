//! Certificates with short lives are renewed while packets flow, and ended ones once a controller is back.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    time::{Duration, SystemTime},
};

use sextant_tests::{MILLISECONDS, SECONDS, poll};

use crate::own::Own;

/// Two agents renew their certificates, and the controller its own: no stream is broken, no packet lost.
#[test]
fn certificates_are_renewed_under_traffic_and_no_stream_is_broken() {
    let own = Own::joined("renewals", 6);
    let (from, to) = (own.hosts[0].container("a").unwrap(), own.hosts[1].container("b").unwrap());
    poll("the path", 20 * SECONDS, || from.ping(to.address())?.replied());
    let routes = own.hosts[0].routes_of(66).unwrap();
    let connections = own.connections(0);
    let stream = from.udp_stream(&to, 5 * MILLISECONDS).unwrap();
    let first = [0, 1].map(|index| own.certificate(index).serial);
    let renewals = |index: usize| own.agents[index].process.log().matches("\"certificate renewed\"").count();
    poll("three renewals of each", 60 * SECONDS, || {
        let counts = [renewals(0), renewals(1)];
        if counts.iter().all(|count| *count >= 3) { Ok(()) } else { Err(format!("{counts:?}")) }
    });
    stream.finish().unwrap().nothing_lost().unwrap();
    for index in [0, 1] {
        assert_ne!(own.certificate(index).serial, first[index]);
    }
    assert_eq!(own.connections(0), connections, "{}", own.agents[0].process.log());
    assert_eq!(own.hosts[0].routes_of(66).unwrap(), routes);
    let status = own.sextant(&["status"]);
    assert!(!status.contains("certificate"), "{status}");
}

/// All controllers are off for three lifetimes: the routes stay, the end of the certificates is reported, and everybody is back
/// unaided. A node that was forgotten meanwhile is not: it needs a token.
#[test]
fn after_controllers_were_off_for_three_lifetimes_everybody_is_back() {
    let mut own = Own::joined("ended certificates", 5);
    let routes = own.hosts[0].routes_of(66).unwrap();
    own.controllers.remove(0).process.kill().unwrap();
    // A restart meanwhile needs no controller either.
    own.agents.remove(1).process.kill().unwrap();
    poll("three lifetimes", 60 * SECONDS, || {
        let ended = own.certificate(0).ends + Duration::from_secs(15);
        ended.elapsed().map_err(|left| format!("{left:?}"))
    });
    own.start_agent(1, &[]);
    assert!(own.certificate(0).ends < SystemTime::now());
    let (_, ready) = own.agents[0].http("/readyz").unwrap();
    assert!(!ready.is_empty());
    own.agents[0].process.wait_for_line("certificate-ended", 20 * SECONDS).unwrap();
    assert_eq!(own.hosts[0].routes_of(66).unwrap(), routes);

    let before = own.agents[0].process.log_len();
    own.start_controller(1, None);
    poll("another certificate", 60 * SECONDS, || {
        let ends = own.certificate(0).ends;
        if ends > SystemTime::now() { Ok(()) } else { Err(own.agents[0].process.log()) }
    });
    own.agents[0].process.wait_for_line_after(before, "connected to controller", 40 * SECONDS).unwrap();
    own.wait_ready("h1");
    own.wait_ready("h2");
    assert_eq!(own.hosts[0].routes_of(66).unwrap(), routes);
    poll("nothing is reported any more", 20 * SECONDS, || {
        let status = own.sextant(&["status"]);
        if status.contains("certificate") { Err(status) } else { Ok(()) }
    });
}

/// The ended certificate of a node that was forgotten gets no other one; a token does.
#[test]
fn a_forgotten_node_whose_certificate_has_ended_needs_a_token() {
    let mut own = Own::start("forgotten", 1, 4);
    own.join_anew(0);
    own.start_agent(0, &[]);
    own.wait_ready("h1");
    own.agents.remove(0).process.kill().unwrap();
    poll("the certificate ends", 30 * SECONDS, || {
        own.certificate(0).ends.elapsed().map_err(|left| format!("{left:?}"))
    });
    own.sextant(&["node", "forget", "h1", "--force"]);
    own.start_agent(0, &[]);
    let line = own.agents[0].process.wait_for_line("certificate not renewed", 30 * SECONDS).unwrap().text;
    assert!(line.contains("it has ended, and node h1 has no claim; join again"), "{line}");
    // The running agent uses the certificate as soon as it is there.
    own.join_anew(0);
    own.wait_ready("h1");
}

/// Neither the ended certificate of a revoked node nor a valid one gets another.
#[test]
fn a_revoked_node_gets_no_other_certificate_whether_the_former_has_ended_or_not() {
    let mut own = Own::start("revoked renewal", 2, 6);
    for index in [0, 1] {
        own.join_anew(index);
        own.start_agent(index, &[]);
        own.wait_ready(own.hosts[index].name());
    }
    own.agents.remove(0).process.kill().unwrap();
    poll("the certificate of h1 ends", 30 * SECONDS, || {
        own.certificate(0).ends.elapsed().map_err(|left| format!("{left:?}"))
    });
    let ended = own.certificate(0).serial;
    let (before, valid) = (own.agents[0].process.log_len(), own.certificate(1));
    for node in ["h1", "h2"] {
        own.sextant(&["node", "revoke", node]);
    }
    // That of h2 is valid still, and is renewed over connections that show it.
    let line =
        own.agents[0].process.wait_for_line_after(before, "certificate not renewed", 30 * SECONDS).unwrap();
    assert!(line.text.contains("node h2 is revoked"), "{}", line.text);
    own.start_agent(0, &[]);
    let line = own.agents[1].process.wait_for_line("certificate not renewed", 30 * SECONDS).unwrap().text;
    assert!(line.contains("node h1 is revoked"), "{line}");
    assert_eq!(own.certificate(0).serial, ended);
    assert!(
        own.certificate(1).ends <= valid.ends + Duration::from_secs(6),
        "h2 has none from after its revocation"
    );
    own.sextant(&["node", "revoke", "h1", "--undo"]);
    own.wait_ready("h1");
}

/// Another root: both are trusted first, then the issuing certificate is replaced, then the former root is removed. No stream is broken.
#[test]
fn the_root_is_replaced_and_no_stream_is_broken() {
    let mut own = Own::start("another root", 1, 6);
    own.join_anew(0);
    own.start_agent(0, &[]);
    own.wait_ready("h1");
    let (former, next) = (own.pki_dir(1), own.lab.dir().join("next"));
    own.pki_in(&next, &["init", "--name", "c1"]);
    own.pki_in(&next, &["admin", "ann"]);
    let read = |dir: &std::path::Path, name: &str| fs::read_to_string(dir.join(name)).unwrap();
    let replace = |name: &str, text: &str| {
        let new = former.join("new");
        fs::write(&new, text).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(new, former.join(name)).unwrap();
    };
    let agent_has = |name: &str, text: &str| {
        poll(&format!("the agent's {name}"), 60 * SECONDS, || {
            let there = read(&own.lab.state_dir(&own.hosts[0]).join("tls"), name);
            if there.ends_with(text) { Ok(()) } else { Err(there) }
        });
    };
    let both = read(&former, "root.pem") + &read(&next, "root.pem");
    replace("root.pem", &both);
    agent_has("root.pem", &both);
    for name in ["issuing.key", "issuing.pem", "ann.key", "ann.pem"] {
        replace(name, &read(&next, name));
    }
    agent_has("node.pem", &read(&next, "issuing.pem"));
    replace("root.pem", &read(&next, "root.pem"));
    poll("the former root is forgotten", 60 * SECONDS, || {
        let there = read(&own.lab.state_dir(&own.hosts[0]).join("tls"), "root.pem");
        if there == read(&next, "root.pem") { Ok(()) } else { Err(there) }
    });
    own.wait_ready("h1");
    assert_eq!(own.connections(0), 1, "{}", own.agents[0].process.log());
}
