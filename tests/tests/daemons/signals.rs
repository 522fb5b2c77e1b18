//! Signals that must not end a daemon.

use nix::sys::signal::Signal;
use sextant_tests::{
    SECONDS,
    cluster::{Cluster, GUIDE},
};

#[test]
fn hangups_and_user_signals_end_no_daemon() {
    let cluster = Cluster::start("signals", 2, GUIDE);
    let controller = &cluster.controller.as_ref().unwrap().process;
    let agent = &cluster.agents[0].process;
    for signal in [Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2] {
        for process in [controller, agent] {
            process.signal(signal).unwrap();
            let line = format!("\"signal\":\"{signal}\"");
            let line = process.wait_for_line(&line, 5 * SECONDS).unwrap().text;
            assert!(line.contains("signal ignored; restart the service"), "{line}");
        }
    }
    cluster.settle();
    cluster.expect_routes(0, &[1]);
    for process in [controller, agent] {
        assert!(process.terminate(10 * SECONDS).unwrap().success());
    }
}
