//! Routes that an agent with other settings left behind.

use sextant_tests::{AgentOptions, MILLISECONDS, SECONDS, cluster::sorted, poll};

use crate::testbed::Testbed;

/// The agent reads all tables for its protocol, so a changed `table` leaves no routes behind.
#[test]
fn a_changed_routing_table_leaves_no_routes_in_the_old_one() {
    let mut testbed = Testbed::start("another table", 3);
    let main = testbed.cluster.expected_routes(0, &[0, 1, 2]);
    let other: Vec<_> = main.iter().map(|route| format!("{route} table 100")).collect();
    in_table(&mut testbed, &["--routes-table", "100"], &other);
    in_table(&mut testbed, &[], &main);
    testbed.cleans_up();
}

/// Packets from containers use the other table first. It never has an unreachable route before or after the peers' routes that
/// it covers: neither before the agent knows its peers, nor when it leaves the table.
#[test]
fn a_change_of_the_routing_table_loses_no_packet() {
    let mut testbed = Testbed::start("a preferred table", 2);
    testbed.host().ip("-6 rule add iif docker0 lookup 100 pref 100").unwrap();
    let main = testbed.cluster.expected_routes(0, &[0, 1]);
    let other: Vec<_> = main.iter().map(|route| format!("{route} table 100")).collect();
    let (near, far) =
        (testbed.host().container("s").unwrap(), testbed.cluster.hosts[1].container("s").unwrap());
    poll("the path between them", 10 * SECONDS, || near.ping(far.address())?.replied());
    let stream = near.udp_stream(&far, MILLISECONDS).unwrap();
    for _ in 0..2 {
        in_table(&mut testbed, &["--routes-table", "100"], &other);
        stream.flows(20, 10 * SECONDS).unwrap();
        in_table(&mut testbed, &[], &main);
        stream.flows(20, 10 * SECONDS).unwrap();
    }
    stream.finish().unwrap().nothing_lost().unwrap();
}

/// Restarts the first host's agent with these arguments, and waits until its routes are exactly `expected`.
fn in_table(testbed: &mut Testbed, args: &[&str], expected: &[String]) {
    testbed.cluster.agents.remove(0).process.terminate(10 * SECONDS).unwrap();
    let args = args.iter().map(|&arg| arg.to_owned()).collect();
    let options = AgentOptions { args, ..AgentOptions::default() };
    let agent = testbed.cluster.lab.agent(testbed.host(), options).unwrap();
    testbed.cluster.agents.insert(0, agent);
    poll("just these routes in all tables", 20 * SECONDS, || {
        let routes = sorted(testbed.host().routes_of(66).unwrap());
        if routes == *expected { Ok(()) } else { Err(format!("{routes:#?}, not {expected:#?}")) }
    });
}
