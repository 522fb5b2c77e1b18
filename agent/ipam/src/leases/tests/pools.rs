use super::*;

#[test]
fn a_network_gets_a_part_of_the_prefix_of_its_pool() {
    let (main, ula) = (host("main", "2001:db8:1::/124"), host("ula", "fd00:5e:7::/64"));
    let reserved = ["2001:db8:1::/125", "fd00:5e:7::/80"].map(subnet).to_vec();
    let both = Space { primary: "main".parse().ok(), hosts: vec![main, ula.clone()], reserved, ..space() };
    let of = |pool: &str| PoolRequest { pool: pool.parse().ok(), ..ipv6() };
    let mut leases = Leases::default();
    let mut next = |asked: &PoolRequest, space: &Space| {
        leases.request_pool(asked, space).map(|it| it.1.to_string()).map_err(|error| error.to_string())
    };
    assert_eq!(next(&PoolRequest { length: Some(125), ..ipv6() }, &both).unwrap(), "2001:db8:1::8/125");
    assert_eq!(next(&of("ula"), &both).unwrap(), "fd00:5e:7:0:1::/80");
    assert_eq!(next(&wanting("fd00:5e:7:0:9::/80"), &both).unwrap(), "fd00:5e:7:0:9::/80", "by its subnet");
    let refused = [
        // Not the other pool's, where the primary one is full.
        (ipv6(), &both, "of another pool: --ipam-opt sextant.pool=ula"),
        (of("other"), &both, "no prefix of pool other, but of main, ula"),
        (wanting("fd00:9::/80"), &both, "this host's prefix 2001:db8:1::/124, fd00:5e:7::/64"),
        (
            PoolRequest { pool: "main".parse().ok(), ..wanting("fd00:5e:7:0:a::/80") },
            &both,
            "this host's prefix 2001:db8:1::/124;",
        ),
    ];
    for (asked, space, words) in &refused {
        let error = next(asked, space).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
    // The primary claim is lost.
    let without = Space { hosts: vec![ula], ..both };
    let error = next(&ipv6(), &without).unwrap_err();
    assert!(error.contains("no prefix of pool main, but of ula"), "{error}");
    assert_eq!(next(&of("ula"), &without).unwrap(), "fd00:5e:7:0:2::/80");
    let held: Vec<_> = leases.subnets().map(|it| it.to_string()).collect();
    assert!(held.contains(&"2001:db8:1::8/125".to_owned()), "its leases stay: {held:?}");
}
