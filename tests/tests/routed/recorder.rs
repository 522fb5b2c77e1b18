//! Records what real daemons say, for the codec's tests in `agent/src/bgp/wire/recorded`.

use std::{fmt::Write as _, fs, path::PathBuf};

use sextant_tests::{Host, Lab, SECONDS};

use crate::raw::{Raw, keepalive, open_of};

const FRR: &str = "router bgp 65000
 bgp router-id 192.0.2.15
 no bgp default ipv4-unicast
 no bgp ebgp-requires-policy
 no bgp network import-check
 bgp graceful-restart
 neighbor 2001:db8::1 remote-as 65001
 neighbor 2001:db8::1 passive
 address-family ipv6 unicast
  neighbor 2001:db8::1 activate
  neighbor 2001:db8::1 route-map out out
  network 2001:db8:f:1::/64
  network 2001:db8:f:8000::/49
  network 2001:db8:f::f/128
  network ::/0
 exit-address-family
exit
ipv6 prefix-list plain permit 2001:db8:f:1::/64
route-map out permit 10
 match ipv6 address prefix-list plain
exit
route-map out permit 20
 set community 65000:7 graceful-shutdown no-export
 set large-community 65000:1:2 65000:3:4
 set metric 50
 set as-path prepend 65000 4200000000
exit
";

const BIRD: &str = "router id 192.0.2.11;
protocol device { }
protocol static { ipv6;
  route 2001:db8:b:1::/64 unreachable;
  route 2001:db8:b:8000::/49 unreachable {
    bgp_community.add((65000,9)); bgp_large_community.add((65000,1,9)); bgp_med = 7;
  };
  route 2001:db8:b::b/128 unreachable;
}
protocol bgp peer {
  local 2001:db8::fe:1 as 65000; neighbor 2001:db8::1 as 65001; passive; graceful restart on;
  ipv6 { import none; export all; };
}
";

/// All that the router's daemon says to h1 of its two kinds of routes and End-of-RIB, one message a line.
fn record(host: &Host, name: &str, config: &str) {
    let mut raw = Raw::connect_to("[2001:db8::fe:1]:179", host);
    // Graceful restart too, so that it tells the end.
    raw.say(&[open_of(65001, 90, [192, 0, 2, 1], &[64, 6, 0, 120, 0, 2, 1, 0]), keepalive()].concat())
        .unwrap();
    // FRR may tell the end first.
    let (mut lines, mut updates, mut ended) = (String::new(), 0, false);
    while updates < 2 || !ended {
        let (kind, body) = raw.hear().unwrap();
        let whole = crate::raw::message(kind, &body);
        let hex: String = whole.iter().map(|octet| format!("{octet:02x}")).collect();
        writeln!(lines, "{hex}").unwrap();
        let end = |head: &[u8]| body[4..] == [head, &[0, 2, 1]].concat();
        match kind {
            2 if end(&[0x80, 15, 3]) || end(&[0x90, 15, 0, 3]) => ended = true,
            2 => updates += 1,
            _ => {}
        }
    }
    let quoted: String = config.lines().map(|line| format!("# {line}\n")).collect();
    let command = "# cargo test -p sextant-tests --test routed -- --ignored record_what_daemons_say\n";
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../agent/src/bgp/wire/recorded").join(name);
    fs::write(&path, format!("{command}{quoted}{lines}")).unwrap();
}

#[test]
#[ignore = "writes into the tree"]
fn record_what_daemons_say() {
    let lab = Lab::new("record").unwrap();
    let (router, host) = (lab.router().unwrap(), lab.host("h1").unwrap());
    let frr = router.frr_with(FRR).unwrap();
    // Routes are there before the session, so that they come in order.
    sextant_tests::poll("FRR's own routes", 10 * SECONDS, || {
        let output = frr.ask("show bgp ipv6 unicast")?;
        anyhow::ensure!(output.contains("2001:db8:f::f/128"), "{output}");
        anyhow::Ok(())
    });
    record(&host, "frr.hex", FRR);
    frr.bgpd.kill().unwrap();
    let _bird = router.bird_with(BIRD).unwrap();
    record(&host, "bird.hex", BIRD);
}
