//! The reader of a daemon's log goes, or stops to read.

use std::{
    io::{PipeReader, Read, pipe},
    sync::Arc,
};

use nix::fcntl::{FcntlArg, fcntl};
use sextant_tests::{
    AgentOptions, ControllerOptions, SECONDS,
    cluster::{Cluster, GUIDE},
    poll,
};

/// Deletes the route to `h2` on `h1`, and waits for its return.
fn heals(cluster: &Cluster) {
    let prefix = cluster.prefix("h2");
    cluster.hosts[0].ip(&format!("-6 route del {prefix} proto 66")).unwrap();
    poll("the route is back", 5 * SECONDS, || {
        let routes = cluster.hosts[0].routes_of(66)?;
        anyhow::ensure!(routes.iter().any(|route| route.starts_with(&prefix.to_string())), "{routes:?}");
        anyhow::Ok(())
    });
}

fn piped_agent(cluster: &mut Cluster, index: usize) -> PipeReader {
    let (reader, writer) = pipe().unwrap();
    cluster
        .start_agent_with(index, AgentOptions { stderr: Some(Arc::new(writer)), ..AgentOptions::default() });
    reader
}

#[test]
fn daemons_work_on_after_the_reader_of_their_log_has_gone() {
    let mut cluster = Cluster::without_agents("no log reader", 3, GUIDE);
    let of_agent = piped_agent(&mut cluster, 0);
    cluster.start_agent(1);
    cluster.settle();
    drop(of_agent);
    // An outage of the controller, which the agent would log.
    cluster.controller = None;
    heals_without_controller(&cluster);
    let (reader, writer) = pipe().unwrap();
    cluster.start_controller(ControllerOptions {
        stderr: Some(Arc::new(writer)),
        ..ControllerOptions::default()
    });
    drop(reader);
    cluster.start_agent(2);
    cluster.settle();
    heals(&cluster);
    cluster.sextant(&["pool", "add", "other", "2001:db8:a000::/40", "--host-len", "64"]);
    assert_eq!(cluster.agents[0].process.ended().unwrap(), None);
    assert_eq!(cluster.controller.as_ref().unwrap().process.ended().unwrap(), None);
    let stopped = cluster.agents[0].process.terminate(10 * SECONDS).unwrap();
    assert!(stopped.success(), "{stopped}");
}

fn heals_without_controller(cluster: &Cluster) {
    let routes = || cluster.hosts[0].routes_of(66);
    let before = routes().unwrap();
    cluster.hosts[0].ip("-6 route flush proto 66").unwrap();
    poll("the routes are back", 10 * SECONDS, || {
        let now = routes()?;
        anyhow::ensure!(now == before, "{now:?}");
        anyhow::Ok(())
    });
}

#[test]
fn an_agent_works_on_while_the_reader_of_its_log_has_stopped() {
    let mut cluster = Cluster::without_agents("stopped log reader", 2, GUIDE);
    let mut reader = piped_agent(&mut cluster, 0);
    // The smallest pipe: the first debug lines fill it.
    fcntl(&reader, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    cluster.start_agent(1);
    cluster.settle();
    (0..3).for_each(|_| heals(&cluster));
    let (agent, mut log) = (&cluster.agents[0].process, [0; 65_536]);
    let mut text = String::new();
    poll("lost lines are reported to the reader", 20 * SECONDS, || {
        // It causes lines, so that the read returns.
        heals(&cluster);
        let read = reader.read(&mut log)?;
        text += &String::from_utf8_lossy(&log[..read]);
        anyhow::ensure!(text.contains("log lines lost"), "{text}");
        anyhow::Ok(())
    });
    assert_eq!(agent.ended().unwrap(), None);
}
