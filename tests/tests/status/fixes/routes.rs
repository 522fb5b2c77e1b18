//! Routes of the agents that another process changes again and again.

use sextant_tests::{SECONDS, poll};

use super::bed::Bed;

#[test]
fn a_process_that_replaces_a_route_again_and_again_is_stopped() {
    let bed = Bed::well("fixed fight");
    let (host, far) = (bed.host(0), bed.cluster.prefix("h2"));
    let fight = format!(
        "while :; do ip -6 route replace {far} via 2001:db8::99 dev eth0 proto static metric 512; \
         ip -6 route del {far} proto static; sleep 0.02; done"
    );
    let fight = host.spawn("fight", &["sh", "-c", &fight]).unwrap();
    let text = bed.expect("route repeatedly changed by another process (proto static)");
    assert!(text.contains("find and stop that process"), "{text}");
    fight.kill().unwrap();
    poll("nothing is reported a minute later", 120 * SECONDS, || {
        // It may have been stopped between its two commands, and the first one may end after it.
        let _gone = host.ip(&format!("-6 route del {far} proto static"));
        let text = bed.cluster.sextant(&["status"]);
        if text.starts_with("All is well") { Ok(()) } else { Err(text) }
    });
    bed.expect_healed();
}
