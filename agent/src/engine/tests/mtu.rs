//! The MTU of the bridge.

use super::*;

async fn link(kernel: &FakeKernel, name: &str) -> crate::kernel::Link {
    kernel.links().await.unwrap().into_iter().find(|link| link.name == name).unwrap()
}

/// The MTU of the bridge after the uplink's has changed.
async fn with_uplink_of(mtu: u32, kernel: &FakeKernel) -> u32 {
    kernel.change_link(link(kernel, "eth0").await.index, |link| link.mtu = mtu);
    tokio::time::sleep(SOON).await;
    link(kernel, "docker0").await.mtu
}

#[tokio::test(start_paused = true)]
async fn a_bridge_that_the_agent_made_follows_the_uplinks() {
    let mut it = Fixture::start();
    it.tell(5, &[2], false);
    it.applied(5).await;
    for mtu in [1500, 1400, 1300, 1500] {
        assert_eq!(with_uplink_of(mtu, &it.kernel).await, mtu);
    }
    assert_eq!(with_uplink_of(9000, &it.kernel).await, 1500, "its containers would drop larger packets");
    // Of its default route too.
    let (gateway, link_index) = ("2001:db8::9".parse().unwrap(), link(&it.kernel, "eth0").await.index);
    let via = crate::kernel::NextHop { gateway: Some(gateway), link: link_index, onlink: false };
    let default = Route {
        mtu: Some(1380),
        key: RouteKey { table: 254, destination: Prefix::EVERYWHERE, metric: 1024 },
        protocol: RouteProtocol(4),
        target: RouteTarget::Via([via].into_iter().collect()),
    };
    it.kernel.foreign_add(default).unwrap();
    tokio::time::sleep(SOON).await;
    assert_eq!(link(&it.kernel, "docker0").await.mtu, 1380);
}

#[tokio::test(start_paused = true)]
async fn anothers_bridge_keeps_its_own() {
    let kernel = FakeKernel::with_uplink("eth0", "2001:db8::1/64");
    kernel.add_bridge("docker0");
    let mut it = Fixture::on(kernel, Arc::new(tempfile::tempdir().unwrap()));
    it.tell(5, &[2], false);
    it.applied(5).await;
    assert_eq!(with_uplink_of(1300, &it.kernel).await, 1500);
}
