//! `sextant-agent cleanup`.

use sextant_tests::{SECONDS, poll};

use crate::testbed::{Testbed, text};

#[test]
fn i4_cleanup_restores_the_host_and_reports_each_step() {
    let mut testbed = Testbed::start("cleanup", 2);
    let host = testbed.host();
    // Routes of other protocols, in several tables.
    host.ip("-6 route add 2001:db8:77::/48 via 2001:db8::2 dev eth0 proto static").unwrap();
    host.ip("-6 route add unreachable 2001:db8:78::/48 proto static table 99").unwrap();
    let running = testbed.cleanup(&[]);
    assert_eq!(running.status.code(), Some(1), "{running:?}");
    assert!(text(&running).contains("stop it first"), "{running:?}");
    testbed.cluster.expect_routes(0, &[0, 1]);

    let planned = text(&testbed.cleanup(&["--dry-run"]));
    assert!(planned.starts_with("would be undone:\n"), "{planned}");
    testbed.cluster.expect_routes(0, &[0, 1]);

    let agent = testbed.cluster.agents.remove(0);
    agent.process.kill().unwrap();
    // A route that an agent with other settings left in another table.
    testbed.host().ip("-6 route add 2001:db8:79::/48 via 2001:db8::2 dev eth0 proto 66 table 77").unwrap();
    let container = testbed.host().container("c").unwrap();
    let busy = testbed.cleanup(&[]);
    assert_eq!(busy.status.code(), Some(1), "{busy:?}");
    assert!(
        text(&busy).contains("bridge docker0 kept: ve1 are connected to it; stop the containers"),
        "{busy:?}"
    );
    container.ip("link delete eth0").unwrap();

    let done = testbed.cleanup(&[]);
    assert_eq!(text(&done), "bridge docker0 deleted\n");
    let done = text(&busy);
    for line in planned.lines().skip(1).filter(|line| !line.starts_with("bridge")) {
        assert!(done.lines().any(|printed| printed == line), "{line} was planned; done was\n{done}");
    }
    for printed in [
        "table 77 removed",
        "address ",
        "net/ipv6/conf/all/forwarding: 1 back to 0",
        "accept_ra: 2 back to 1",
    ] {
        assert!(done.contains(printed), "no \"{printed}\" in\n{done}");
    }
    assert_eq!(text(&testbed.cleanup(&[])), "nothing to undo\n");
    let foreign = testbed.host().foreign_routes().unwrap().join("\n");
    assert!(foreign.contains("2001:db8:77::/48 ") && foreign.contains("2001:db8:78::/48 "), "{foreign}");
    testbed.host().ip("-6 route del 2001:db8:77::/48").unwrap();
    testbed.host().ip("-6 route del unreachable 2001:db8:78::/48 table 99").unwrap();
    testbed.is_restored();
}

#[test]
fn cleanup_restores_forwarding_that_was_set_on_an_interface() {
    let mut testbed = Testbed::start("own forwarding", 1);
    let agent = testbed.cluster.agents.remove(0);
    agent.process.terminate(10 * SECONDS).unwrap();
    testbed.cleanup(&[]);
    let own = "net/ipv6/conf/eth0/forwarding";
    testbed.host().sysctl(own, "1").unwrap();
    testbed.cluster.start_agent(0);
    testbed.cluster.settle();
    testbed.cluster.agents.remove(0).process.terminate(10 * SECONDS).unwrap();
    let done = testbed.cleanup(&[]);
    assert!(done.status.success(), "{done:?}");
    poll("eth0 forwards, and nothing else does", SECONDS, || {
        let own = testbed.host().check(&["cat", &format!("/proc/sys/{own}")])?;
        let all = testbed.host().check(&["cat", "/proc/sys/net/ipv6/conf/all/forwarding"])?;
        anyhow::ensure!((own.trim(), all.trim()) == ("1", "0"), "{own} {all}");
        anyhow::Ok(())
    });
}
