//! What is left to the kernel.

use super::*;

#[test]
fn the_kernels_entries_are_left_to_it() {
    let (mut proxy, now) = proxy(place());
    proxy.leave_to_kernel(addr("2001:db8::c003"), true);
    proxy.adopt([addr("2001:db8::c003"), addr("2001:db8::c103")], now);
    assert_eq!(proxy.received(UPLINK, ROUTER, &solicits("2001:db8::c003"), now), []);
    assert_eq!(proxy.counts().all().unanswered[&Unanswered::Kernel], 1);
    assert_eq!(proxy.alive().collect::<Vec<_>>(), [addr("2001:db8::c001"), addr("2001:db8::c003")]);
    assert_eq!(proxy.ask(now, |_| true).len(), 1);
    for later in 0..20 {
        proxy.ask(now + Duration::from_millis(100 * later), |_| true);
    }
    assert_eq!(proxy.alive().count(), 1, "it has not answered");
}

#[test]
fn where_the_kernel_answers_a_solicitation_only_tells_of_an_address() {
    let (mut proxy, now) = proxy(Place { answers: false, ..place() });
    assert_eq!(proxy.received(UPLINK, ROUTER, &solicits("2001:db8::c003"), now), []);
    assert_eq!(proxy.ask(now, |_| true).len(), 1);
    let sent = proxy.received(BRIDGE, CONTAINER, &says("2001:db8::c003"), now);
    assert_eq!(
        seen(&sent).iter().map(|it| it.2).collect::<Vec<_>>(),
        [ALL_NODES, ALL_ROUTERS, addr("2001:db8::1")]
    );
    assert_eq!(proxy.received(UPLINK, ROUTER, &solicits("2001:db8::c003"), now), []);
    assert_eq!(proxy.counts().all().answers(), 1, "who asked before it was known");
}

#[test]
fn where_the_kernel_does_not_hear_groups_yet_the_agent_answers_what_is_sent_to_them() {
    for answers in [true, false] {
        let mut at = Place { answers, ..place() };
        at.uplinks[0].kernel_hears = false;
        let (mut proxy, now) = proxy(at.clone());
        let target = "2001:db8::c003";
        proxy.received(BRIDGE, CONTAINER, &says(target), now);
        proxy.leave_to_kernel(addr(target), true);
        let probe = message(Kind::Solicitation, "::", target, ROUTER);
        let unicast = Message { destination: addr(target), ..solicits(target) };
        let answered = |proxy: &mut Proxy| {
            [solicits(target), probe, unicast].map(|it| proxy.received(UPLINK, ROUTER, &it, now).len())
        };
        assert_eq!(answered(&mut proxy), [1, 1, 0], "what is sent to the address itself is the kernel's");
        at.uplinks[0].kernel_hears = true;
        proxy.move_to(at, now);
        assert_eq!(answered(&mut proxy), [0, 0, 0]);
        assert_eq!(proxy.advertise_renewed(now), [], "it is the same uplink");
    }
}
