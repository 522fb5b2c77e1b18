//! What an agent with other settings left behind.

use sextant_tests::{AgentOptions, SECONDS, cluster::sorted, poll};

use crate::bed::Bed;

/// All tables are looked through for our protocol, so a changed `table` leaves nothing behind.
#[test]
fn another_table_leaves_no_orphans_in_the_old_one() {
    let mut bed = Bed::start("another table", 3);
    let main = bed.cluster.expected_routes(0, &[0, 1, 2]);
    let other: Vec<_> = main.iter().map(|route| format!("{route} table 100")).collect();
    for (args, expected) in [(vec!["--routes-table", "100"], &other), (vec![], &main)] {
        bed.cluster.agents.remove(0).process.terminate(10 * SECONDS).unwrap();
        let args = args.into_iter().map(str::to_owned).collect();
        let options = AgentOptions { args, ..AgentOptions::default() };
        let agent = bed.cluster.lab.agent(bed.host(), options).unwrap();
        bed.cluster.agents.insert(0, agent);
        poll("just these routes in all tables", 20 * SECONDS, || {
            let routes = sorted(bed.host().routes_of(66).unwrap());
            if routes == *expected { Ok(()) } else { Err(format!("{routes:#?}, not {expected:#?}")) }
        });
    }
    bed.ends_clean();
}
