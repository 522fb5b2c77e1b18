//! A state directory that lacks a claim: damaged, or of an agent that was killed.

use super::*;

#[tokio::test(start_paused = true)]
async fn i5_an_address_without_a_claim_stays_until_a_controller_has_answered() {
    let mut it = Fixture::start();
    it.tell(5, &[2], false);
    it.applied(5).await;
    let (kernel, dir) = (it.kernel.clone(), it.dir.clone());
    let address = pool_address();
    assert!(has(&kernel, address));
    drop(it);
    while StateDir::open(dir.path()).is_err() {
        tokio::time::sleep(SOON).await;
    }
    // The directory has the record of the address, and no claim; the session has another one.
    let mut it = Fixture::on(kernel.clone(), dir);
    let epoch = Epoch { incarnation: it.incarnation, revision: Revision(9) };
    let other = Claim { prefix: prefix(9), epoch, pool: pool() };
    it.input.send_replace(Input { claims: vec![other.clone()], ..Input::default() });
    while kernel.addresses().await.unwrap().iter().all(|it| !prefix(9).contains(it.addr)) {
        tokio::time::sleep(SOON).await;
    }
    assert!(has(&kernel, address), "no controller has answered");
    it.tell(6, &[2], false);
    it.input.send_modify(|input| input.claims = vec![other]);
    it.applied(6).await;
    while has(&kernel, address) {
        tokio::time::sleep(SOON).await;
    }
}

fn pool_address() -> std::net::Ipv6Addr {
    let epoch = Epoch { incarnation: Incarnation::random(), revision: Revision(1) };
    Claim { prefix: prefix(1), epoch, pool: pool() }.container_prefix().first_host()
}

fn has(kernel: &FakeKernel, address: std::net::Ipv6Addr) -> bool {
    let all = futures::executor::block_on(kernel.addresses()).unwrap();
    all.iter().any(|it| it.addr == address)
}
