use sextant_proto::{Epoch, Incarnation, Pool, Revision};

use super::*;
use crate::wanted::tests::{made, wanted};

fn claim(pool: &str, of: &str, prefix: &str) -> Claim {
    let prefix: Prefix = prefix.parse().unwrap();
    let pool = Pool::new(pool.parse().unwrap(), of.parse().unwrap(), prefix.len().into(), 80).unwrap();
    let epoch = Epoch { incarnation: Incarnation::random(), revision: Revision(1) };
    Claim { prefix, epoch, pool }
}

pub(crate) fn claims() -> Vec<Claim> {
    vec![claim("main", "2001:db8::/32", "2001:db8:1::/64"), claim("ula", "fd00::/48", "fd00:0:0:7::/64")]
}

pub(crate) fn further(name: &str) -> Further {
    Further { name: name.into(), bridge: format!("sx-{name}"), pool: None, length: None }
}

fn network(name: &str, prefix: &str) -> Network {
    let prefix = prefix.parse().unwrap();
    made(&crate::wanted::Wanted { name: name.into(), prefix, ..wanted() })
}

fn space<'a>(claims: &'a [Claim], networks: &'a [Network]) -> Space<'a> {
    Space { claims, networks, reserved: &[] }
}

fn shown(parts: &Parts) -> Vec<String> {
    parts.0.iter().map(|(name, part)| format!("{name} {}", part.prefix)).collect()
}

/// The parts of these networks, with no trouble.
fn assigned(before: &Parts, names: &[&str], networks: &[Network]) -> Parts {
    let further: Vec<_> = names.iter().map(|name| further(name)).collect();
    let claims = claims();
    let (parts, troubles) = before.assigned(&further, &space(&claims, networks));
    assert_eq!(troubles, []);
    parts
}

const DB: &str = "db 2001:db8:1:0:1::/80";
const CACHE: &str = "cache 2001:db8:1:0:2::/80";

#[test]
fn a_part_stays_whatever_becomes_of_the_list() {
    let both = assigned(&Parts::default(), &["db", "cache"], &[]);
    assert_eq!(shown(&both), [CACHE, DB]);
    assert_eq!(assigned(&both, &["cache", "db"], &[]), both, "another order");
    let more = assigned(&both, &["new", "cache", "db"], &[]);
    assert_eq!(shown(&more), [CACHE, DB, "new 2001:db8:1:0:3::/80"]);
    let fewer = assigned(&more, &["new", "cache"], &[]);
    assert_eq!(shown(&fewer), [CACHE, "new 2001:db8:1:0:3::/80"]);
    let again = assigned(&fewer, &["new", "cache", "later"], &[]);
    assert_eq!(shown(&again), [CACHE, "later 2001:db8:1:0:1::/80", "new 2001:db8:1:0:3::/80"]);
}

#[test]
fn a_network_that_no_setting_names_keeps_its_part_while_it_stands() {
    let before = assigned(&Parts::default(), &["db", "cache"], &[]);
    let stands = [network("db", "2001:db8:1:0:1::/80")];
    let after = assigned(&before, &["cache", "new"], &stands);
    assert_eq!(shown(&after), [CACHE, DB, "new 2001:db8:1:0:3::/80"]);
    assert_eq!(shown(&assigned(&after, &["cache"], &[])), [CACHE]);
}

#[test]
fn lost_parts_are_those_that_the_networks_have() {
    let stands = [network("db", "2001:db8:1:0:5::/80"), network("theirs", "2001:db8:1:0:1::/80")];
    let found = assigned(&Parts::default(), &["new", "db"], &stands);
    assert_eq!(shown(&found), ["db 2001:db8:1:0:5::/80", "new 2001:db8:1:0:2::/80"]);
    // A network with a prefix that cannot be: of another host, of the bridge, of another length.
    for wrong in ["2001:db8:2:0:1::/80", "2001:db8:1::/80", "2001:db8:1:0:5::/96"] {
        let found = assigned(&Parts::default(), &["db"], &[network("db", wrong)]);
        assert_eq!(shown(&found), [DB], "{wrong}");
    }
}

#[test]
fn nothing_that_is_in_use_is_given() {
    let claims = claims();
    let reserved = ["2001:db8:1:0:1::/96".parse().unwrap()];
    let networks = [network("theirs", "2001:db8:1:0:2::/79")];
    let space = Space { reserved: &reserved, ..space(&claims, &networks) };
    let (parts, _) = Parts::default().assigned(&[further("db")], &space);
    assert_eq!(shown(&parts), ["db 2001:db8:1:0:4::/80"]);
    // What was stored before is left too.
    let (parts, _) = assigned(&Parts::default(), &["db"], &[]).assigned(&[further("db")], &space);
    assert_eq!(shown(&parts), ["db 2001:db8:1:0:4::/80"]);
}

#[test]
fn a_part_follows_its_host_prefix() {
    let before = assigned(&Parts::default(), &["db", "cache"], &[]);
    let moved = [claim("main", "2001:db8::/32", "2001:db8:9::/64")];
    let stands = [network("cache", "2001:db8:1:0:2::/80")];
    let cache = [further("cache"), further("db")];
    let (parts, _) = before.assigned(&cache, &space(&moved, &stands));
    assert_eq!(shown(&parts), ["cache 2001:db8:9:0:2::/80", "db 2001:db8:9:0:1::/80"]);
    assert_eq!(before.prefixes(&moved), []);
    // One of another length has other parts.
    let longer = [claim("main", "2001:db8::/32", "2001:db8:9:0:8000::/72")];
    let (parts, _) = before.assigned(&[further("db")], &space(&longer, &[]));
    assert_eq!(shown(&parts), ["db 2001:db8:9:0:8001::/80"]);
    // While there is no claim, nothing is forgotten.
    assert_eq!(before.assigned(&cache, &space(&[], &[])).0, before);
}

#[test]
fn a_network_may_have_another_length_and_another_pool() {
    let claims = claims();
    let small = Further { length: Some(112), ..further("small") };
    let ula = Further { pool: Some("ula".parse().unwrap()), ..further("ula") };
    let (parts, troubles) = Parts::default().assigned(&[small, ula, further("db")], &space(&claims, &[]));
    let expected = ["db 2001:db8:1:0:2::/80", "small 2001:db8:1:0:1::/112", "ula fd00:0:0:7:1::/80"];
    assert_eq!((shown(&parts), troubles), (expected.map(str::to_owned).to_vec(), vec![]));
    let prefixes: Vec<_> = parts.prefixes(&claims).iter().map(ToString::to_string).collect();
    assert_eq!(prefixes.len(), 3);
    // Another length is another part; the network that stands has the former one until it is replaced.
    let longer = Further { length: Some(96), ..further("db") };
    let stands = [network("db", "2001:db8:1:0:2::/80")];
    let (changed, _) = parts.assigned(&[longer], &space(&claims, &stands));
    assert_eq!(shown(&changed), ["db 2001:db8:1:0:1::/96"]);
    let elsewhere = Further { pool: Some("third".parse().unwrap()), ..further("db") };
    assert_eq!(parts.assigned(&[elsewhere], &space(&claims, &[])).1, [], "it waits for the claim");
}

#[test]
fn what_cannot_be_is_named_with_the_fix() {
    let claims = claims();
    let asked = |length: u8| Further { length: Some(length), ..further("db") };
    for wrong in [64, 60, 127] {
        let (parts, troubles) = Parts::default().assigned(&[asked(wrong)], &space(&claims, &[]));
        let [trouble] = &troubles[..] else { panic!("{wrong}: {parts:?}") };
        assert!(trouble.to_string().contains(&format!("network db cannot have a /{wrong} of")), "{trouble}");
        assert!(trouble.fix().contains("length = 65 to 126"), "{}", trouble.fix());
    }
    let full: Vec<_> = ["a", "b"].map(|name| Further { length: Some(65), ..further(name) }).to_vec();
    let (parts, troubles) = Parts::default().assigned(&full, &space(&claims, &[]));
    assert_eq!(shown(&parts), ["a 2001:db8:1:0:8000::/65"]);
    assert!(troubles[0].to_string().contains("no /65 of 2001:db8:1::/64"), "{}", troubles[0]);
    let whole = [Claim {
        pool: Pool::new("main".parse().unwrap(), "2001:db8::/32".parse().unwrap(), 64, 64).unwrap(),
        ..claims[0].clone()
    }];
    let (_, troubles) = Parts::default().assigned(&[further("db")], &space(&whole, &[]));
    assert!(troubles[0].to_string().contains("is the container prefix too"), "{}", troubles[0]);
}
