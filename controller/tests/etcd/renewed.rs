//! Certificates and passwords are renewed while a controller runs: it reads their files again.

use std::time::Duration;

use futures::StreamExt;
use sextant_controller::registry::{
    Registry,
    etcd::{EtcdStore, Login},
};

use crate::{
    all,
    cluster::{Cluster, Plan, until},
    put,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replaced_certificates_of_client_and_ca_are_used() {
    let mut cluster = Cluster::start(Plan { tls: true, ..Plan::members(1) });
    let store = cluster.store().await;
    put(&store, "k/a", "1").await.unwrap();
    cluster.kill(0);
    cluster.renew_certificates();
    cluster.run(0);
    until("the store answers with the new certificates", async || {
        put(&store, "k/a", "2").await.map_err(|error| error.to_string())
    })
    .await;
    let mut watch = store.watch(all(), store.list(&all()).await.unwrap().revision);
    let revision = put(&store, "k/a", "3").await.unwrap();
    assert_eq!(watch.next().await.unwrap().unwrap().revision, revision);
}

/// A renewal replaces one file after the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_certificates_before_serve_while_a_renewal_is_not_complete() {
    let cluster = Cluster::start(Plan { tls: true, ..Plan::members(1) });
    let store = cluster.store().await;
    let key = std::fs::read(cluster.path("client.key")).unwrap();
    std::fs::write(cluster.path("client.key"), "-----BEGIN").unwrap();
    // Longer than between two looks at the files.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    for _ in 0..3 {
        put(&store, "k/a", "1").await.unwrap();
    }
    std::fs::remove_file(cluster.path("client.key")).unwrap();
    tokio::time::sleep(Duration::from_millis(1200)).await;
    put(&store, "k/a", "2").await.unwrap();
    std::fs::write(cluster.path("client.key"), key).unwrap();
    tokio::time::sleep(Duration::from_millis(1200)).await;
    put(&store, "k/a", "3").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_password_is_used() {
    let cluster = Cluster::start(Plan::members(1).flag("--bcrypt-cost=4"));
    drop(cluster.store().await);
    let commands = [
        "user add root:secret",
        "user grant-role root root",
        "user add sextant:first",
        "role add all",
        "role grant-permission all readwrite --from-key=true !",
        "user grant-role sextant all",
        "auth enable",
    ];
    for command in commands {
        cluster.ctl(&command.split(' ').collect::<Vec<_>>());
    }
    let file = cluster.path("password");
    std::fs::write(&file, "first\n").unwrap();
    let mut options = cluster.options(&[0]);
    options.login = Some(Login::from_file("sextant".to_owned(), file.clone()).unwrap());
    let store: EtcdStore = cluster.store_with(options).await;
    put(&store, "k/a", "1").await.unwrap();
    // etcd ends the tokens of a user whose password changes.
    cluster.ctl(&["--user", "root:secret", "user", "delete", "sextant"]);
    cluster.ctl(&["--user", "root:secret", "user", "add", "sextant:second"]);
    cluster.ctl(&["--user", "root:secret", "user", "grant-role", "sextant", "all"]);
    assert!(put(&store, "k/a", "2").await.is_err(), "the password has changed");
    std::fs::write(&file, "second\n").unwrap();
    put(&store, "k/a", "3").await.unwrap();
}
