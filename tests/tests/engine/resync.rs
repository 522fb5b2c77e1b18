//! What an agent with other settings left behind.

use sextant_tests::{AgentOptions, MILLISECONDS, SECONDS, cluster::sorted, poll};

use crate::bed::Bed;

/// All tables are looked through for our protocol, so a changed `table` leaves nothing behind.
#[test]
fn another_table_leaves_no_orphans_in_the_old_one() {
    let mut bed = Bed::start("another table", 3);
    let main = bed.cluster.expected_routes(0, &[0, 1, 2]);
    let other: Vec<_> = main.iter().map(|route| format!("{route} table 100")).collect();
    in_table(&mut bed, &["--routes-table", "100"], &other);
    in_table(&mut bed, &[], &main);
    bed.ends_clean();
}

/// What containers send is looked up in the other table first. It never has an unreachable before, or longer than, what that
/// covers: not while the agent does not know of its peers yet, and not while the table is left.
#[test]
fn a_stream_over_a_change_of_the_table_loses_nothing() {
    let mut bed = Bed::start("a preferred table", 2);
    bed.host().ip("-6 rule add iif docker0 lookup 100 pref 100").unwrap();
    let main = bed.cluster.expected_routes(0, &[0, 1]);
    let other: Vec<_> = main.iter().map(|route| format!("{route} table 100")).collect();
    let (near, far) = (bed.host().container("s").unwrap(), bed.cluster.hosts[1].container("s").unwrap());
    poll("the way between them", 10 * SECONDS, || near.ping(far.address())?.replied());
    let stream = near.udp_stream(&far, MILLISECONDS).unwrap();
    for _ in 0..2 {
        in_table(&mut bed, &["--routes-table", "100"], &other);
        stream.flows(20, 10 * SECONDS).unwrap();
        in_table(&mut bed, &[], &main);
        stream.flows(20, 10 * SECONDS).unwrap();
    }
    stream.finish().unwrap().nothing_lost().unwrap();
}

/// The first host's agent is started anew with these arguments, and then its routes are just `expected`.
fn in_table(bed: &mut Bed, args: &[&str], expected: &[String]) {
    bed.cluster.agents.remove(0).process.terminate(10 * SECONDS).unwrap();
    let args = args.iter().map(|&arg| arg.to_owned()).collect();
    let options = AgentOptions { args, ..AgentOptions::default() };
    let agent = bed.cluster.lab.agent(bed.host(), options).unwrap();
    bed.cluster.agents.insert(0, agent);
    poll("just these routes in all tables", 20 * SECONDS, || {
        let routes = sorted(bed.host().routes_of(66).unwrap());
        if routes == *expected { Ok(()) } else { Err(format!("{routes:#?}, not {expected:#?}")) }
    });
}
