//! `sextant-agent cleanup`.

use sextant_tests::{SECONDS, poll};

use crate::bed::{Bed, text};

#[test]
fn i4_cleanup_leaves_the_host_as_it_was_and_says_what_it_did() {
    let mut bed = Bed::start("cleanup", 2);
    let host = bed.host();
    // Somebody else's, all over the place.
    host.ip("-6 route add 2001:db8:77::/48 via 2001:db8::2 dev eth0 proto static").unwrap();
    host.ip("-6 route add unreachable 2001:db8:78::/48 proto static table 99").unwrap();
    let running = bed.cleanup(&[]);
    assert_eq!(running.status.code(), Some(1), "{running:?}");
    assert!(text(&running).contains("stop it first"), "{running:?}");
    bed.cluster.expect_routes(0, &[0, 1]);

    let planned = text(&bed.cleanup(&["--dry-run"]));
    assert!(planned.starts_with("would be undone:\n"), "{planned}");
    bed.cluster.expect_routes(0, &[0, 1]);

    let agent = bed.cluster.agents.remove(0);
    agent.process.kill().unwrap();
    // What an agent with other settings left in another table.
    bed.host().ip("-6 route add 2001:db8:79::/48 via 2001:db8::2 dev eth0 proto 66 table 77").unwrap();
    let container = bed.host().container("c").unwrap();
    let busy = bed.cleanup(&[]);
    assert_eq!(busy.status.code(), Some(1), "{busy:?}");
    assert!(
        text(&busy).contains("bridge docker0 kept: ve1 are connected to it; stop the containers"),
        "{busy:?}"
    );
    container.ip("link delete eth0").unwrap();

    let done = bed.cleanup(&[]);
    assert_eq!(text(&done), "bridge docker0 deleted\n");
    let done = text(&busy);
    for line in planned.lines().skip(1).filter(|line| !line.starts_with("bridge")) {
        assert!(done.lines().any(|said| said == line), "{line} was planned; done was\n{done}");
    }
    for said in [
        "table 77 removed",
        "address ",
        "net/ipv6/conf/all/forwarding: 1 back to 0",
        "accept_ra: 2 back to 1",
    ] {
        assert!(done.contains(said), "no \"{said}\" in\n{done}");
    }
    assert_eq!(text(&bed.cleanup(&[])), "nothing to undo\n");
    let foreign = bed.host().foreign_routes().unwrap().join("\n");
    assert!(foreign.contains("2001:db8:77::/48 ") && foreign.contains("2001:db8:78::/48 "), "{foreign}");
    bed.host().ip("-6 route del 2001:db8:77::/48").unwrap();
    bed.host().ip("-6 route del unreachable 2001:db8:78::/48 table 99").unwrap();
    bed.is_as_before();
}

#[test]
fn what_forwarded_by_itself_forwards_by_itself_again() {
    let mut bed = Bed::start("own forwarding", 1);
    let agent = bed.cluster.agents.remove(0);
    agent.process.terminate(10 * SECONDS).unwrap();
    bed.cleanup(&[]);
    let own = "net/ipv6/conf/eth0/forwarding";
    bed.host().sysctl(own, "1").unwrap();
    bed.cluster.start_agent(0);
    bed.cluster.settle();
    bed.cluster.agents.remove(0).process.terminate(10 * SECONDS).unwrap();
    let done = bed.cleanup(&[]);
    assert!(done.status.success(), "{done:?}");
    poll("eth0 forwards, and nothing else does", SECONDS, || {
        let own = bed.host().check(&["cat", &format!("/proc/sys/{own}")])?;
        let all = bed.host().check(&["cat", "/proc/sys/net/ipv6/conf/all/forwarding"])?;
        anyhow::ensure!((own.trim(), all.trim()) == ("1", "0"), "{own} {all}");
        anyhow::Ok(())
    });
}
