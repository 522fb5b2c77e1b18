use super::*;

const FORWARDING: &str = "net/ipv6/conf/all/forwarding";

#[test]
fn a_lasting_change_is_counted_and_renewed_once_a_minute() {
    let (mut drift, start) = (Drift::default(), Instant::now());
    let logged: Vec<_> = (0..200u32)
        .filter_map(|n| {
            drift.restored(FORWARDING, "0", "1", Change::Protecting, start + Duration::from_secs(1) * n)
        })
        .collect();
    assert_eq!(logged, [61, 121, 181]);
    let found = drift.findings(start + Duration::from_secs(200));
    assert_eq!((found.len(), found[0].what, found[0].unready), (1, "host-state-changed", false));
    assert!(found[0].saw.contains("sysctl net.ipv6.conf.all.forwarding: 0, 181 times in 180 s"), "{found:?}");
    assert!(found[0].fix.contains("grep -rs forwarding /etc/sysctl.conf"), "{found:?}");
}

#[test]
fn a_report_ends_and_names_what_was_changed() {
    let (mut drift, start) = (Drift::default(), Instant::now());
    assert_eq!(
        drift.restored("interface brc", "down", "up", Change::Forwarding, start),
        None,
        "the report logs it"
    );
    assert!(!drift.is_due(start) && drift.is_due(start + REPORTED));
    assert_eq!(
        drift.findings(start)[0].saw,
        "another process changed interface brc: down; the agent restored it: up"
    );
    assert_eq!(drift.findings(start + REPORTED), []);
    assert!(!drift.is_due(start + REPORTED));
}

#[test]
fn state_that_is_changed_again_and_again_is_restored_less_and_less_often() {
    /// Another process changes it every 50 ms for a minute, as soon as it is restored.
    fn restored(risk: Change) -> (u32, String) {
        let (mut drift, start, mut times) = (Drift::default(), Instant::now(), 0);
        for n in 0..1200 {
            let now = start + Duration::from_millis(50) * n;
            drift.check();
            if drift.holds(FORWARDING, now) {
                assert!(drift.due().is_some_and(|due| due > now && !drift.is_due(now) && drift.is_due(due)));
            } else {
                assert_eq!(drift.due(), None);
                drift.restored(FORWARDING, "0", "1", risk, now);
                times += 1;
            }
        }
        let found = drift.findings(start + Duration::from_secs(60)).remove(0).saw;
        // Left alone for a minute, it is restored at once again.
        let later = start + Duration::from_secs(130);
        drift.restored(FORWARDING, "0", "1", risk, later);
        assert!(!drift.holds(FORWARDING, later));
        (times, found)
    }
    let (times, found) = restored(Change::Forwarding);
    assert!((35..50).contains(&times), "{times}");
    assert!(found.contains("restored it less and less often: 1"), "{found}");
    let (times, found) = restored(Change::Protecting);
    assert!(times == 1200 && found.contains("restored it: 1"), "{times} {found}");
}

#[test]
fn what_the_agent_itself_undoes_is_no_change_of_another_process() {
    let mut drift = Drift::default();
    let [kept, gone] =
        ["2001:db8:1::/80", "2001:db8:2::/80"].map(|it| address_of(it.parse().unwrap(), "br0"));
    let accept_ra = "net/ipv6/conf/eth0/accept_ra";
    let forwarding = [FORWARDING, "net/ipv6/conf/eth0/forwarding"];
    for what in [&kept, &gone, "interface br0", accept_ra, forwarding[0], forwarding[1]] {
        drift.is_right(what, "as it should be");
    }
    let sysctl = |path: &str| Step::Sysctl { path: path.into(), now: "2".into(), before: "1".into() };
    let address =
        |addr: &str| Step::Address { link: 2, interface: "br0".into(), addr: addr.parse().unwrap(), len: 80 };
    drift.undone(&address("2001:db8:2::1"));
    assert!(drift.was_right(&kept) && !drift.was_right(&gone));
    drift.undone(&sysctl(accept_ra));
    assert!(!drift.was_right(accept_ra) && drift.was_right(forwarding[1]));
    drift.undone(&sysctl(FORWARDING));
    assert!(forwarding.iter().all(|what| !drift.was_right(what)));
    drift.undone(&Step::Down { link: 2, interface: "br0".into() });
    assert!(!drift.was_right("interface br0"));
    drift.retain_addresses(&[]);
    assert!(!drift.was_right(&kept), "its claim has ended");
}

#[test]
fn only_a_change_of_right_state_is_another_processs() {
    let mut drift = Drift::default();
    assert!(!drift.was_right(FORWARDING));
    drift.is_right(FORWARDING, "1");
    assert!(drift.was_right(FORWARDING));
    let others = ["net/ipv6/conf/eth0/accept_ra", "interface br0", "address of prefix P on br0"];
    others.iter().for_each(|what| drift.is_right(what, "2"));
    drift.retain_interfaces(|interface| interface == "br0");
    assert!(!drift.was_right(others[0]), "another link of that name starts anew");
    assert!(drift.was_right(others[1]) && drift.was_right(others[2]));
    drift.forget_addresses();
    assert!(!drift.was_right(others[2]) && drift.was_right(FORWARDING));
    drift.is_gone(FORWARDING);
    assert!(!drift.was_right(FORWARDING));
}

#[test]
fn names_of_interfaces_with_dots_stay_unambiguous() {
    assert_eq!(name("net/ipv6/conf/eth0.10/accept_ra"), "sysctl net/ipv6/conf/eth0.10/accept_ra");
}
