//! iBGP with FRR, and ExaBGP as an odd neighbour: what they learn, ask for again, and tell.

use std::fs;

use anyhow::ensure;
use serde_json::Value;
use sextant_tests::{SECONDS, poll};

use crate::site::Site;

fn neighbour(site: &Site, address: &str) -> Value {
    let all = site.cluster.lab.cli_json(&["bgp", "--node", "h1"]).unwrap();
    let found = all.as_array().into_iter().flatten().find(|it| it["neighbour"] == address);
    found.cloned().unwrap_or(Value::Null)
}

/// It only connects, and tells a route with an attribute that nobody knows.
const EXABGP: &str = "neighbor 2001:db8::1 {
    router-id 192.0.2.77; local-address 2001:db8::fe:7; local-as 65077; peer-as 65001; hold-time 30;
    family { ipv6 unicast; }
    capability { route-refresh; graceful-restart 60; add-path send/receive; operational enable; }
    static {
        route 2001:db8:77::/48 next-hop 2001:db8::fe:7 community [65077:1] large-community [65077:1:1] attribute [0x63 0xc0 0x0102];
    }
}
";

#[test]
fn internal_neighbours_learn_preference_and_next_hops_and_exabgp_is_one_too() {
    let mut site = Site::new("bgp: internal");
    let dir = site.cluster.lab.dir().to_owned();
    site.router.ip("address add 2001:db8::fe:7/64 dev eth0 nodad").unwrap();
    let path = dir.join("h1.toml").display().to_string();
    let config = "[bgp]\nlocal-as = 65001\nannounce = \"all\"\n\
         [[bgp.neighbour]]\naddress = \"2001:db8::fe:1\"\nremote-as = 65001\nlocal-pref = 250\n\
         [[bgp.neighbour]]\naddress = \"2001:db8::fe:7\"\nremote-as = 65077\npassive = true\nlocal-pref = 250\n";
    fs::write(&path, config).unwrap();
    // It offers to send and take outbound route filters, which the agent does not know.
    let frr = site
        .router
        .frr_with(
            "router bgp 65001\n bgp router-id 192.0.2.200\n no bgp default ipv4-unicast\n\
             \x20neighbor 2001:db8::1 remote-as 65001\n neighbor 2001:db8::1 timers connect 1\n\
             \x20neighbor 2001:db8::1 update-source 2001:db8::fe:1\n\
             \x20address-family ipv6 unicast\n  neighbor 2001:db8::1 activate\n\
             \x20 neighbor 2001:db8::1 capability orf prefix-list both\n exit-address-family\nexit\n",
        )
        .unwrap();
    let exabgp = dir.join("exabgp.conf");
    fs::write(&exabgp, EXABGP).unwrap();
    let exabgp = site
        .router
        .spawn_with(
            "exabgp",
            &["exabgp", &exabgp.display().to_string()],
            &[
                ("exabgp.daemon.user", "root"),
                ("exabgp.api.cli", "false"),
                ("exabgp.log.destination", "stdout"),
                ("exabgp.log.routes", "true"),
                ("exabgp.log.message", "true"),
                ("exabgp.log.level", "DEBUG"),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned())),
        )
        .unwrap();
    site.start_host(0, &["--config", &path]);
    site.start_host(1, &[]);
    site.cluster.settle();

    let [own, other] = ["h1", "h2"].map(|name| site.cluster.prefix(name));
    let learnt = |prefix, hop: &str, words: &[&str]| {
        poll(&format!("FRR has {prefix}"), 20 * SECONDS, || {
            let output = frr.ask(&format!("show bgp ipv6 unicast {prefix}"))?;
            let missing: Vec<_> = words.iter().filter(|word| !output.contains(**word)).collect();
            ensure!(
                missing.is_empty() && output.contains(&format!("{hop} from 2001:db8::1")),
                "{missing:?}: {output}"
            );
            anyhow::Ok(())
        });
    };
    let internal = ["Local", "localpref 250", "internal"];
    learnt(own, "2001:db8::1", &internal);
    learnt(other, "2001:db8::2", &internal);
    poll("ExaBGP has both, and the next hop of each", 20 * SECONDS, || {
        let log = exabgp.log();
        let has = |prefix: &str, hop: &str| {
            log.lines().any(|line| line.ends_with(&format!("{prefix} next-hop {hop}")))
        };
        let both = has(&own.to_string(), "2001:db8::1") && has(&other.to_string(), "2001:db8::2");
        if both {
            Ok(())
        } else {
            Err(log.lines().filter(|line| line.contains("next-hop")).collect::<Vec<_>>().join("\n"))
        }
    });
    let it = neighbour(&site, "2001:db8::fe:7");
    assert_eq!((&it["state"], &it["error"]), (&"established".into(), &Value::Null), "{it}");
    assert!(it["received"].as_u64() >= Some(1), "{it}");

    // FRR asks again.
    let sent = neighbour(&site, "2001:db8::fe:1")["sent"].as_u64().unwrap();
    frr.ask("clear bgp ipv6 unicast 2001:db8::1 in").unwrap();
    poll("everything is announced again", 10 * SECONDS, || {
        let it = neighbour(&site, "2001:db8::fe:1");
        if it["sent"].as_u64() > Some(sent) { Ok(()) } else { Err(it.to_string()) }
    });
    learnt(own, "2001:db8::1", &internal);

    // Before it is withdrawn, it is the last choice.
    site.cluster.sextant(&["node", "drain", "h2", "--timeout", "20s"]);
    poll("h2's prefix is gone", 20 * SECONDS, || {
        let output = frr.ask("show bgp ipv6 unicast")?;
        ensure!(!output.contains(&other.to_string()) && output.contains(&own.to_string()), "{output}");
        anyhow::Ok(())
    });
}
