//! All controllers are replaced, one by one, at new addresses.

use sextant_tests::{MILLISECONDS, SECONDS, poll};

use crate::own::Own;

/// The agents know controller 1 by their settings. They follow to 3 and 4 by themselves, also after a restart, and get their
/// certificates there.
#[test]
fn all_controllers_are_replaced_one_by_one_and_no_host_is_touched() {
    let mut own = Own::without_controller("replaced", 2, 8);
    for name in ["c2", "c3", "c4"] {
        own.pki(&["controller", name]);
    }
    let etcd = own.lab.etcd(1, &[]).unwrap();
    own.start_controller(1, Some(etcd.store()));
    own.start_controller(2, Some(etcd.store()));
    own.sextant(&["pool", "add", "main", "2001:db8:8000::/40", "--host-len", "64"]);
    for index in [0, 1] {
        own.join_anew(index);
        own.start_agent(index, &[]);
    }
    own.wait_ready("h1");
    own.wait_ready("h2");
    let (from, to) = (own.hosts[0].container("a").unwrap(), own.hosts[1].container("b").unwrap());
    poll("the path", 20 * SECONDS, || from.ping(to.address())?.replied());
    let routes = own.hosts[0].routes_of(66).unwrap();
    let stream = from.udp_stream(&to, 5 * MILLISECONDS).unwrap();

    for new in [3, 4] {
        own.start_controller(new, Some(etcd.store()));
        own.front = new;
        poll("the agents know the new controller", 20 * SECONDS, || {
            let knows = |index: usize| own.agents[index].process.log().contains(&Own::url(new));
            if knows(0) && knows(1) { Ok(()) } else { Err(own.agents[0].process.log()) }
        });
        own.controllers.remove(0).process.terminate(10 * SECONDS).unwrap();
        own.wait_ready("h1");
        own.wait_ready("h2");
    }
    // A restart, when nothing is left of the controllers of the settings.
    own.agents.remove(1).process.terminate(10 * SECONDS).unwrap();
    own.start_agent(1, &[]);
    own.wait_ready("h2");
    let serial = own.certificate(0).serial;
    poll("a renewed certificate", 40 * SECONDS, || {
        if own.certificate(0).serial == serial { Err(own.agents[0].process.log()) } else { Ok(()) }
    });
    stream.finish().unwrap().nothing_lost().unwrap();
    assert_eq!(own.hosts[0].routes_of(66).unwrap(), routes);
}
