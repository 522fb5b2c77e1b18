use super::*;

const OWN: &str = "2001:db8:8000:7::/80";
const POOL: &str = "2001:db8:8000::/40";

fn incoming() -> Flow {
    Flow {
        from: POOL.parse().unwrap(),
        to: OWN.parse().unwrap(),
        host: "2001:db8:8000:7::/64".parse().unwrap(),
        input: vec!["eth0".into(), "eth1".into()],
        output: vec!["sextant0".into()],
    }
}

fn outgoing() -> Flow {
    let Flow { from, to, host, input, output } = incoming();
    Flow { from: to, to: from, host, input: output, output: input }
}

fn filter(policy: &str, rules: &[&str]) -> Rules {
    let chains = ":DOCKER-USER - [0:0]\n:DOCKER - [0:0]\n:I1 - [0:0]\n:I2 - [0:0]";
    Rules::parse(&format!("*filter\n:FORWARD {policy} [3:4]\n{chains}\n{}\nCOMMIT\n", rules.join("\n")))
}

fn stopped(rules: &Rules, flow: &Flow) -> Option<String> {
    rules.dropped(flow).map(|it| match it {
        Obstacle::Dropped { rule, .. } | Obstacle::Masqueraded { rule } => rule,
    })
}

#[test]
fn the_rule_that_drops_is_found() {
    let table: [(&str, &[&str], Option<&str>); 16] = [
        ("ACCEPT", &[], None),
        ("DROP", &[], Some("-P FORWARD DROP")),
        (
            "ACCEPT",
            &["-A FORWARD -d 2001:db8:8000:7::/64 -j DROP"],
            Some("-A FORWARD -d 2001:db8:8000:7::/64 -j DROP"),
        ),
        (
            "ACCEPT",
            &["-A FORWARD -j REJECT --reject-with icmp6-port-unreachable"],
            Some("-A FORWARD -j REJECT --reject-with icmp6-port-unreachable"),
        ),
        (
            "ACCEPT",
            &["-A FORWARD -d 2001:db8:8000:7::5 -j DROP"],
            Some("-A FORWARD -d 2001:db8:8000:7::5 -j DROP"),
        ),
        ("ACCEPT", &["-A FORWARD -d 2001:db8:8000:8::/64 -j DROP", "-A FORWARD -s fd00::/8 -j DROP"], None),
        ("ACCEPT", &["-A FORWARD -i eth0 -j DROP"], Some("-A FORWARD -i eth0 -j DROP")),
        ("ACCEPT", &["-A FORWARD -i eth7 -j DROP", "-A FORWARD -o sextant+ -i br+ -j DROP"], None),
        (
            "ACCEPT",
            &["-A FORWARD ! -i sextant0 -o sextant0 -j DROP"],
            Some("-A FORWARD ! -i sextant0 -o sextant0 -j DROP"),
        ),
        ("ACCEPT", &["-A FORWARD -p tcp -m tcp --dport 22 -j DROP"], None),
        ("DROP", &["-A FORWARD -s 2001:db8::/32 -d 2001:db8::/32 -j ACCEPT"], None),
        ("DROP", &["-A FORWARD -d 2001:db8:8000:7::5 -j ACCEPT"], None),
        ("DROP", &["-A FORWARD -p ipv6-icmp -j ACCEPT"], None),
        (
            "DROP",
            &["-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"],
            Some("-P FORWARD DROP"),
        ),
        (
            "DROP",
            &["-A FORWARD -m conntrack --ctstate NEW,ESTABLISHED -m comment --comment \"a -j b\" -j ACCEPT"],
            None,
        ),
        ("DROP", &["-A FORWARD -m comment --comment sextant -j ACCEPT"], None),
    ];
    for (policy, rules, expected) in table {
        assert_eq!(stopped(&filter(policy, rules), &incoming()).as_deref(), expected, "{policy} {rules:?}");
    }
}

#[test]
fn packets_within_the_own_prefix_are_none_of_the_flow() {
    let other = "-A FORWARD -d 2001:db8:8000:7:2::5/128 -j DROP";
    assert_eq!(stopped(&filter("ACCEPT", &[other]), &outgoing()), None, "of another network of this host");
    let within = "-A FORWARD -s 2001:db8:8000:7::/80 -d 2001:db8:8000:7::/80 -j ACCEPT";
    for flow in [incoming(), outgoing()] {
        assert!(stopped(&filter("DROP", &[within]), &flow).is_some());
        assert_eq!(stopped(&filter("ACCEPT", &[&within.replace("ACCEPT", "DROP")]), &flow), None);
    }
    let published = [
        "-A FORWARD -s 2001:db8:8000::/40 -d 2001:db8:8000:7::/80 -j ACCEPT",
        "-A FORWARD -d 2001:db8:8000:7::/80 -j I1",
        "-A I1 -j DROP",
    ];
    assert_eq!(stopped(&filter("ACCEPT", &published), &incoming()), None);
}

#[test]
fn called_chains_are_followed() {
    let drop = "-A DOCKER-USER -s 2001:db8::/32 -j DROP";
    assert_eq!(
        stopped(&filter("ACCEPT", &["-A FORWARD -j DOCKER-USER", drop]), &incoming()).as_deref(),
        Some(drop)
    );
    let returned = ["-A FORWARD -j DOCKER-USER", "-A DOCKER-USER -j RETURN", drop];
    assert_eq!(stopped(&filter("ACCEPT", &returned), &incoming()), None);
    let accepted = ["-A FORWARD -j DOCKER-USER", "-A DOCKER-USER -d 2001:db8:8000:7::/80 -j ACCEPT"];
    assert_eq!(stopped(&filter("DROP", &accepted), &incoming()), None);
    // As Docker has it, with the policy DROP.
    let docker = [
        "-A FORWARD -j DOCKER-USER",
        "-A FORWARD -j I1",
        "-A FORWARD -o sextant0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "-A FORWARD -o sextant0 -j DOCKER",
        "-A FORWARD -i sextant0 ! -o sextant0 -j ACCEPT",
        "-A I1 -i sextant0 ! -o sextant0 -j I2",
        "-A I2 -o sextant0 -j DROP",
        "-A DOCKER -d 2001:db8:8000:7::2/128 ! -i sextant0 -o sextant0 -p tcp -m tcp --dport 80 -j DROP",
    ];
    assert_eq!(stopped(&filter("DROP", &docker), &incoming()).as_deref(), Some("-P FORWARD DROP"));
    assert_eq!(stopped(&filter("DROP", &docker), &outgoing()), None);
    let endless = ["-A FORWARD -j I1", "-A I1 -j I2", "-A I2 -j I1"];
    assert_eq!(stopped(&filter("ACCEPT", &endless), &incoming()), None);
}

#[test]
fn earlier_tables_are_passed_first() {
    let raw = "*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -d 2001:db8:8000:7::2/128 ! -i sextant0 -j DROP\nCOMMIT\n";
    let Some(Obstacle::Dropped { table, chain, .. }) = Rules::parse(raw).dropped(&incoming()) else {
        panic!()
    };
    assert_eq!((table, chain), ("raw", "PREROUTING"));
    assert_eq!(Rules::parse(raw).dropped(&outgoing()), None);
    let mangle = "*mangle\n:FORWARD ACCEPT [0:0]\n-A FORWARD -s 2001:db8::/32 -j DROP\nCOMMIT\n";
    assert!(matches!(
        Rules::parse(mangle).dropped(&outgoing()),
        Some(Obstacle::Dropped { table: "mangle", .. })
    ));
    assert_eq!(Rules::parse("").dropped(&incoming()), None);
}

#[test]
fn a_replaced_source_is_found() {
    let nat = |rules: &[&str]| {
        let rules = Rules::parse(&format!("*nat\n:POSTROUTING ACCEPT [0:0]\n{}\nCOMMIT\n", rules.join("\n")));
        rules.masqueraded(&outgoing()).is_some()
    };
    let masquerade = "-A POSTROUTING -s 2001:db8:8000:7::/80 ! -o sextant0 -j MASQUERADE";
    assert!(nat(&[masquerade]) && nat(&["-A POSTROUTING -o eth0 -j SNAT --to-source 2001:db8::1"]));
    let excepted =
        "-A POSTROUTING -s 2001:db8:8000:7::/80 -d 2001:db8:8000::/40 -m comment --comment sextant -j ACCEPT";
    assert!(!nat(&[excepted, masquerade]));
    assert!(!nat(&["-A POSTROUTING -s fd00::/64 ! -o br0 -j MASQUERADE"]));
    assert!(!nat(&["-A POSTROUTING ! -d 2001:db8::/32 -j MASQUERADE"]));
}
