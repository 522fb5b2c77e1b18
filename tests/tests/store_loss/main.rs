//! The store's content through backups, restores and loss; the record of changes.
#![allow(clippy::unwrap_used)] // Clippy does not see that a test's own functions are of a test.

mod clocks;
mod damaged;
mod events;
mod explain;
mod files;
mod lost;
mod moving;
mod removed;

use std::collections::BTreeMap;

use serde_json::Value;
use sextant_tests::{Controller, ControllerOptions, SECONDS, cluster::Cluster, poll};

/// What each node holds.
fn held(cluster: &Cluster) -> BTreeMap<String, String> {
    let nodes = cluster.lab.cli_json(&["node", "list"]).unwrap();
    let word = |node: &Value, key: &str| node[key].as_str().unwrap_or_default().to_owned();
    nodes.as_array().unwrap().iter().map(|node| (word(node, "name"), word(node, "prefix"))).collect()
}

/// Waits until these nodes are ready and connected, and everything is in their kernels.
fn settle(cluster: &Cluster, names: &[&str]) {
    poll("nodes ready and connected", 60 * SECONDS, || {
        let nodes = cluster.lab.cli_json(&["node", "list"])?;
        let well = |name: &&str| {
            let node = nodes.as_array().into_iter().flatten().find(|node| node["name"] == **name);
            node.is_some_and(|node| node["state"] == "ready" && !node["applied"].is_null())
        };
        anyhow::ensure!(names.iter().all(well), "{nodes:#}");
        anyhow::Ok(())
    });
    cluster.sextant(&["wait", "--timeout", "60s"]);
}

/// Ends the controller, and starts one on another store.
fn change_store(cluster: &mut Cluster, store: Option<String>) -> Controller {
    cluster.controller = None;
    let controller = cluster.lab.controller(ControllerOptions { store, ..Default::default() }).unwrap();
    controller.wait_ready(60 * SECONDS).unwrap();
    controller
}
