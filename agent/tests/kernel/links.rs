//! Links, addresses and sysctls.

use sextant_agent::kernel::{Kernel, KernelError, NetlinkKernel};

use crate::namespace::{in_namespace, ip, link_index};

#[test]
fn an_address_of_a_new_bridge_is_usable_at_once() {
    in_namespace(async || {
        let kernel = NetlinkKernel::open().unwrap();
        kernel.create_bridge("sx0").await.unwrap();
        // A port without carrier removes the bridge's carrier.
        ip("link add port0 type veth peer name far0");
        ip("link set port0 up master sx0");
        let links = kernel.links().await.unwrap();
        let bridge = links.iter().find(|link| link.name == "sx0").unwrap();
        assert!(bridge.up && bridge.bridge && !bridge.carrier, "{bridge:?}");
        assert_eq!((bridge.mac.len(), bridge.controller), (6, None));

        let addr = "2001:db8:1::1".parse().unwrap();
        ip("addr add 2001:db8:1::2/80 dev sx0");
        kernel.add_address(bridge.index, addr, 80).await.unwrap();
        kernel.add_address(bridge.index, addr, 80).await.unwrap();
        let addresses = kernel.addresses().await.unwrap();
        let added = addresses.iter().find(|address| address.addr == addr).unwrap();
        assert!(added.global && added.permanent && !added.tentative && !added.deprecated, "{added:?}");
        assert_eq!((added.link, added.len), (bridge.index, 80));
        let control = addresses.iter().find(|address| address.addr.to_string() == "2001:db8:1::2").unwrap();
        assert!(control.tentative, "not usable during duplicate address detection: {control:?}");

        kernel.remove_address(bridge.index, addr, 80).await.unwrap();
        kernel.remove_address(bridge.index, addr, 80).await.unwrap();
        let addresses = kernel.addresses().await.unwrap();
        assert!(addresses.iter().all(|address| address.addr != addr), "{addresses:?}");

        let again = kernel.create_bridge("sx0").await.unwrap_err();
        assert_eq!(again.to_string(), "create bridge sx0: File exists (os error 17)");
    });
}

#[test]
fn links_are_read_and_set_up() {
    in_namespace(async || {
        ip("link add up0 type veth peer name far0");
        ip("link add br0 type bridge");
        ip("link set far0 master br0");
        ip("link set far0 up");
        let kernel = NetlinkKernel::open().unwrap();
        let (up0, br0) = (link_index(&kernel, "up0").await, link_index(&kernel, "br0").await);
        let before = kernel.links().await.unwrap();
        let far0 = before.iter().find(|link| link.name == "far0").unwrap();
        assert!(far0.up && !far0.carrier && !far0.bridge && far0.controller == Some(br0), "{far0:?}");
        assert_eq!((far0.kind.as_str(), far0.mtu), ("veth", 1500));
        let lo = before.iter().find(|link| link.name == "lo").unwrap();
        assert_eq!(lo.kind, "", "as hardware");
        ip("-4 address add 192.0.2.1/24 dev up0");
        let mut with_ipv4 = kernel.links_with_ipv4().await.unwrap();
        // The loopback interface has one as soon as it is up.
        with_ipv4.remove(&lo.index);
        assert_eq!(with_ipv4, [up0].into());
        kernel.set_up(up0).await.unwrap();
        let after = kernel.links().await.unwrap();
        assert!(after.iter().any(|link| link.index == up0 && link.up && link.carrier), "{after:?}");
        let missing = kernel.set_up(4_000_000).await.unwrap_err();
        assert!(
            matches!(&missing, KernelError::Refused { errno, .. } if errno.code == nix::libc::ENODEV),
            "{missing}"
        );
    });
}

#[test]
fn addresses_are_read_with_their_state() {
    in_namespace(async || {
        ip("link add up0 type veth peer name far0");
        ip("addr add 2001:db8::1/64 dev up0 nodad preferred_lft 0");
        ip("addr add 2001:db8::2/64 dev up0");
        let kernel = NetlinkKernel::open().unwrap();
        let addresses = kernel.addresses().await.unwrap();
        let find = |text: &str| addresses.iter().find(|address| address.addr.to_string() == text).unwrap();
        assert!(find("2001:db8::1").deprecated && !find("2001:db8::1").tentative, "{addresses:?}");
        assert!(find("2001:db8::2").tentative && !find("2001:db8::2").deprecated, "{addresses:?}");
        assert!(!find("::1").global, "{addresses:?}");
    });
}

#[test]
fn sysctls_are_those_of_the_namespace() {
    in_namespace(async || {
        ip("link add up0 type veth peer name far0");
        let kernel = NetlinkKernel::open().unwrap();
        let accept_ra = "net/ipv6/conf/up0/accept_ra";
        assert_eq!(kernel.sysctl(accept_ra).unwrap().as_deref(), Some("1"));
        kernel.set_sysctl(accept_ra, "2").unwrap();
        assert_eq!(kernel.sysctl(accept_ra).unwrap().as_deref(), Some("2"));
        assert_eq!(kernel.sysctl("net/ipv6/conf/eth77/accept_ra").unwrap(), None);
        let missing = kernel.set_sysctl("net/ipv6/conf/eth77/accept_ra", "2").unwrap_err();
        assert_eq!(
            missing.to_string(),
            "sysctl net/ipv6/conf/eth77/accept_ra cannot be set to 2: No such file or directory (os error 2)"
        );
        let refused = kernel.set_sysctl(accept_ra, "x").unwrap_err();
        assert!(matches!(refused, KernelError::SysctlNotSet { .. }), "{refused}");
    });
}
