//! Members with good certificates, and with others.

use std::time::{Duration, SystemTime};

use sextant_tests::{SECONDS, poll};

use crate::{authority::Authority, bed::Bed};

/// Agents, controller and command line speak TLS alone; containers of two hosts reach each other.
#[test]
fn a_cluster_over_tls_works_and_says_who_is_who() {
    let mut bed = Bed::start("tls", 2);
    for index in [0, 1] {
        let files = bed.member(&format!("node/h{}", index + 1), None);
        bed.start_agent(index, &files);
    }
    bed.wait_ready("h1");
    bed.wait_ready("h2");
    bed.sextant(&["wait", "--timeout", "20s"]);
    let (from, to) = (bed.hosts[0].container("a").unwrap(), bed.hosts[1].container("b").unwrap());
    poll("the path", 20 * SECONDS, || from.ping(to.address())?.replied());
    let me = bed.sextant(&["whoami"]);
    assert!(me.starts_with("admin ann (admin) of cluster default; the certificate ends in "), "{me}");
    let events = bed.sextant(&["events"]);
    assert!(events.contains("node h1 at ") && events.contains("admin ann at "), "{events}");
    let plain = bed.lab.cli(&["status"]).unwrap();
    assert_eq!(plain.code, 5, "{plain:?}");
}

/// The certificate is of another node, another authority, another cluster, or has ended: nothing is granted, and the reason is in the agent's log.
#[test]
fn an_agent_with_the_certificate_of_somebody_else_is_granted_nothing() {
    let bed = Bed::start("others certificates", 1);
    let dir = |name: &str| bed.dir(name);
    let other = Authority::new();
    let foreign = other.member(&dir("foreign"), "spiffe://default/node/h1", None);
    foreign.trust(&[&bed.authority]);
    let ended = SystemTime::now() - Duration::from_secs(60);
    let ended = bed.authority.member_until(&dir("ended"), "spiffe://default/node/h1", None, ended);
    let elsewhere = bed.authority.member(&dir("elsewhere"), "spiffe://other/node/h1", None);
    for (files, why) in [
        (&foreign, "UnknownCA"),
        (&ended, "CertificateExpired"),
        (&elsewhere, "no controller of cluster other"),
    ] {
        let agent = bed.agent(0, files);
        let line = agent.process.wait_for_line("not connected to a controller", 20 * SECONDS).unwrap().text;
        assert!(line.contains(why), "{line}");
        agent.process.kill().unwrap();
    }
    let of_h2 = bed.member("node/h2", None);
    let agent = bed.agent(0, &of_h2);
    poll("it refuses to start", 10 * SECONDS, || {
        anyhow::ensure!(agent.process.ended()?.is_some(), "it runs");
        anyhow::Ok(())
    });
    let log = agent.process.log();
    assert!(log.contains("--tls-cert is of node h2, and this is node h1"), "{log}");
    assert!(bed.node("h1").is_null() && bed.node("h2").is_null());
}

/// Renewed certificates of agent and controller are used from the next connection on; no stream is broken by them.
#[test]
fn renewed_certificates_and_a_second_authority_break_no_stream() {
    let mut bed = Bed::start("renewed", 1);
    let files = bed.member("node/h1", None);
    bed.start_agent(0, &files);
    bed.wait_ready("h1");
    let connections =
        |bed: &Bed| bed.agents[0].process.log().matches("\"message\":\"connected to controller\"").count();
    assert_eq!(connections(&bed), 1);
    let next = Authority::new();
    let (controller, admin) = (bed.member("controller/a", None), bed.admin.clone());
    for files in [&files, &controller, &admin] {
        files.trust(&[&bed.authority, &next]);
    }
    // Each gets a certificate of the next authority, one after the other.
    for (name, role) in [("controller/a", None), ("node/h1", None), ("admin/ann", Some("admin"))] {
        let dir = if role.is_some() { bed.lab.dir().join("tls-admin") } else { bed.dir(name) };
        let renewed = next.member(&dir, &format!("spiffe://default/{name}"), role);
        renewed.trust(&[&bed.authority, &next]);
        let me = bed.sextant(&["whoami"]);
        assert!(me.starts_with("admin ann (admin)"), "{me}");
    }
    for files in [&files, &controller, &admin] {
        files.trust(&[&next]);
    }
    assert_eq!(bed.wait_ready("h1")["connected"], true);
    assert_eq!(connections(&bed), 1, "{}", bed.agents[0].process.log());
    // A new connection shows the new certificate.
    bed.agents.remove(0).process.kill().unwrap();
    bed.start_agent(0, &files);
    bed.wait_ready("h1");
}
