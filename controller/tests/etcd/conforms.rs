//! The suite that every registry passes, on clusters of several kinds.

use std::{sync::Arc, time::Duration};

use sextant_controller::registry::{
    KeyRange, SharedRegistry,
    conformance::{self, Compact, Subject},
    etcd::{EtcdOptions, Login},
};

use crate::cluster::{Cluster, Plan};

async fn run(cluster: Arc<Cluster>, options: EtcdOptions, login: &'static [&'static str]) {
    let registry: SharedRegistry = Arc::new(cluster.store_with(options).await);
    conformance::run_all(async |name| {
        let cluster = Arc::clone(&cluster);
        let compact: Compact = Box::new(move |registry| {
            let cluster = Arc::clone(&cluster);
            Box::pin(async move {
                let listing = registry.list(&KeyRange::prefix("case/")).await.unwrap();
                let revision = listing.revision.to_string();
                cluster.ctl(&[login, &["compaction", &revision]].concat());
            })
        });
        Subject {
            registry: Arc::clone(&registry),
            prefix: format!("case/{name}/"),
            ttl: Duration::from_secs(2),
            compact: Some(compact),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_member() {
    let cluster = Arc::new(Cluster::start(Plan::members(1)));
    let options = cluster.options(&[0]);
    run(cluster, options, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members() {
    let cluster = Arc::new(Cluster::start(Plan::members(3)));
    let options = cluster.options(&[0, 1, 2]);
    run(cluster, options, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_login() {
    let cluster = Arc::new(Cluster::start(Plan::members(1).flag("--bcrypt-cost=4")));
    drop(cluster.store().await);
    for command in [
        "user add root:secret",
        "user grant-role root root",
        "user add sextant:secret",
        "role add all",
        "role grant-permission all readwrite --from-key=true !",
        "user grant-role sextant all",
        "auth enable",
    ] {
        let arguments: Vec<&str> = command.split(' ').collect();
        cluster.ctl(&arguments);
    }
    let mut options = cluster.options(&[0]);
    options.login = Some(Login { user: "sextant".to_owned(), password: "secret".to_owned(), file: None });
    run(cluster, options, &["--user", "root:secret"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls() {
    let plan = Plan { tls: true, ..Plan::members(1) };
    let cluster = Arc::new(Cluster::start(plan));
    let options = cluster.options(&[0]);
    run(cluster, options, &[]).await;
}
