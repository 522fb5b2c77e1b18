//! `sextant-agent doctor`, and what the agent says of its host when it starts.

use std::process::Output;

use sextant_tests::{SECONDS, bin};

use crate::bed::{Bed, text};

fn doctor(bed: &Bed, more: &[&str]) -> Output {
    let agent = bin("sextant-agent").unwrap().display().to_string();
    bed.host().run(&[&[agent.as_str()], more, &["doctor"]].concat()).unwrap()
}

#[test]
fn each_problem_is_named_with_its_mend_and_the_agent_warns_once() {
    let mut bed = Bed::start("doctor", 1);
    let sound = doctor(&bed, &["--uplink", "eth0"]);
    assert_eq!(
        (sound.status.code(), text(&sound).as_str()),
        (Some(0), "nothing is wrong that a doctor can see\n")
    );
    let rules = "add table ip6 filter; add chain ip6 filter FORWARD { type filter hook forward priority 0; policy drop; }; \
                 add table inet firewalld; add chain inet firewalld filter_PREROUTING { type filter hook prerouting priority \
                 10; }; add rule inet firewalld filter_PREROUTING meta nfproto ipv6 fib saddr . mark . iif oif missing drop";
    bed.host().check(&["nft", rules]).unwrap();
    let ill = doctor(&bed, &["--uplink", "eth0,eth7"]);
    let said = text(&ill);
    assert_eq!(ill.status.code(), Some(1), "{said}");
    let expected = [
        "uplink \"eth7\" does not exist",
        "nftables chain ip6 filter FORWARD drops forwarded IPv6 packets",
        "nftables chain inet firewalld filter_PREROUTING drops packets that come from where no route leads back",
        "IPv6_rpfilter=loose",
        "3 to mend",
    ];
    for part in expected {
        assert!(said.contains(part), "no \"{part}\" in\n{said}");
    }
    assert_eq!(said.matches("  mend: ").count(), 3, "{said}");

    bed.cluster.agents.remove(0).process.terminate(10 * SECONDS).unwrap();
    bed.cluster.start_agent(0);
    bed.cluster.settle();
    let log = bed.cluster.agents[0].process.log();
    let warnings = log.lines().filter(|line| line.contains("the host is not ready for all that may come"));
    let named: Vec<_> = warnings.filter(|line| line.contains("nftables chain")).collect();
    assert_eq!(named.len(), 2, "{named:#?}");
}
