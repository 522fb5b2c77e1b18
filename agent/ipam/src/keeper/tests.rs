use std::{
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use super::*;
use crate::leases::{HostPrefix, PoolRequest, UsedPool};

/// Remembers the stored leases; fails on request.
#[derive(Debug, Default)]
struct Recorded {
    stored: Mutex<Vec<Leases>>,
    fails: Mutex<bool>,
}

impl Recorded {
    fn count(&self) -> usize {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn last(&self) -> Leases {
        self.stored.lock().unwrap().last().cloned().unwrap()
    }
}

impl Store for Recorded {
    fn keep(&self, leases: &Leases) -> Result<(), String> {
        if *self.fails.lock().unwrap() {
            return Err("No space left on device".into());
        }
        self.stored.lock().unwrap().push(leases.clone());
        Ok(())
    }
}

fn start() -> (Arc<Recorded>, Handle) {
    let store = Arc::new(Recorded::default());
    let hosts =
        vec![HostPrefix { pool: "main".parse().unwrap(), prefix: "2001:db8:1::/64".parse().unwrap() }];
    let ipv4 = "172.30.0.0/16".parse().unwrap();
    let space = Space { primary: None, hosts, ipv4, reserved: Vec::new() };
    let (keeper, handle) = Keeper::new(Leases::default(), space, store.clone());
    tokio::spawn(keeper.run());
    (store, handle)
}

fn pool() -> LeaseRequest {
    LeaseRequest::Pool(PoolRequest { ipv6: true, ..PoolRequest::default() })
}

#[tokio::test]
async fn a_lease_is_stored_before_its_answer() {
    let (store, handle) = start();
    let answer = handle.request(pool()).await.unwrap();
    assert_eq!(answer["Pool"], "2001:db8:1::/80");
    assert_eq!(store.last().subnets().count(), 1);
    let pool = answer["PoolID"].as_str().unwrap().to_owned();
    let address = LeaseRequest::Address { pool: pool.clone(), address: None, gateway: true };
    assert_eq!(handle.request(address.clone()).await.unwrap()["Address"], "2001:db8:1::1/80");
    let gateway: IpAddr = "2001:db8:1::1".parse().unwrap();
    assert_eq!(store.last().addresses("2001:db8:1::/80".parse().unwrap()).collect::<Vec<_>>(), [gateway]);
    handle.request(address).await.unwrap();
    assert_eq!(store.count(), 2, "the same answer is stored already");
    handle.request(LeaseRequest::ReleasePool(pool)).await.unwrap();
    assert_eq!(store.last().subnets().count(), 0);
}

#[tokio::test]
async fn many_requests_are_stored_by_few_writes() {
    let (store, handle) = start();
    let asked: Vec<_> = (0..100)
        .map(|_| {
            let handle = handle.clone();
            tokio::spawn(async move { handle.request(pool()).await.unwrap()["Pool"].clone() })
        })
        .collect();
    let mut pools = Vec::new();
    for task in asked {
        pools.push(task.await.unwrap().to_string());
    }
    pools.sort();
    pools.dedup();
    assert_eq!(pools.len(), 100);
    assert!(store.count() < 50, "{} writes", store.count());
}

#[tokio::test]
async fn a_lease_that_cannot_be_stored_is_refused_and_forgotten() {
    let (store, handle) = start();
    *store.fails.lock().unwrap() = true;
    let answer = handle.request(pool()).await.unwrap();
    assert_eq!(answer, refused_answer(&"leases cannot be stored: No space left on device"));
    *store.fails.lock().unwrap() = false;
    assert_eq!(handle.request(pool()).await.unwrap()["Pool"], "2001:db8:1::/80");
}

#[tokio::test]
async fn a_list_of_networks_that_is_out_of_date_is_ignored() {
    let (_, handle) = start();
    let answer = handle.request(pool()).await.unwrap();
    let used = Used([("2001:db8:1::/80".parse().unwrap(), UsedPool::default())].into());
    let before = handle.releases().await.unwrap();
    handle.request(LeaseRequest::ReleasePool(answer["PoolID"].as_str().unwrap().into())).await.unwrap();
    assert_eq!(handle.seen(used.clone(), before).await.unwrap(), None);
    let now = handle.releases().await.unwrap();
    assert_eq!(handle.seen(used, now).await.unwrap().unwrap().adopted.len(), 1);
}
