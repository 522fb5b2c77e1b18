//! A router that ends a session says why: that decides how soon it is tried again, and stays visible. And the source of a session.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    time::{Duration, Instant},
};

use anyhow::ensure;
use sextant_tests::{SECONDS, poll, try_poll};

use crate::{
    raw::{Raw, keepalive, message, open},
    site::Site,
};

/// h1, which connects to the router, and the router's socket.
struct Bed {
    site: Site,
    listener: TcpListener,
}

impl Bed {
    fn new(test: &str) -> Self {
        let mut site = Site::new(test);
        let path = site.cluster.lab.dir().join("h1.toml").display().to_string();
        let neighbour = "[[bgp.neighbour]]\naddress = \"2001:db8::fe:1\"\nremote-as = 65000\n";
        fs::write(&path, format!("[bgp]\nlocal-as = 65001\n{neighbour}")).unwrap();
        let listener = site.router.enter(|| TcpListener::bind("[2001:db8::fe:1]:179")).unwrap().unwrap();
        listener.set_nonblocking(true).unwrap();
        // The kernel prefers the address that has more bits in common with the router's.
        site.cluster.hosts[0].ip("address add 2001:db8::fe:9/64 dev eth0 nodad").unwrap();
        site.start_host(0, &["--config", &path]);
        site.becomes("h1", "ready");
        Self { site, listener }
    }

    /// The next connection of h1.
    fn accept(&self, within: Duration) -> Option<TcpStream> {
        let stream = try_poll(within, || self.listener.accept()).ok()?.0;
        stream.set_nonblocking(false).unwrap();
        Some(stream)
    }

    /// A session that h1 opens.
    fn session(&self) -> Raw {
        let mut raw = Raw::of(self.accept(20 * SECONDS).expect("h1 connects"));
        establish(&mut raw);
        self.shows("established", "");
        raw
    }

    fn shows(&self, state: &str, error: &str) {
        poll(&format!("the router is {state}, \"{error}\""), 10 * SECONDS, || {
            let all = self.site.cluster.lab.cli_json(&["bgp", "--node", "h1"])?;
            let shown = all[0]["error"].as_str().unwrap_or_default();
            ensure!(all[0]["state"] == state && shown.contains(error), "{all}");
            anyhow::Ok(())
        });
    }
}

fn establish(raw: &mut Raw) {
    raw.say(&[open(90, [192, 0, 2, 200], &[]), keepalive()].concat()).unwrap();
    let (opened, kept) = (raw.hear().unwrap(), raw.hear().unwrap());
    assert_eq!((opened.0, kept.0), (1, 4), "an OPEN and a KEEPALIVE: {opened:?}, {kept:?}");
}

/// A Cease with this subcode, and a text (RFC 9003).
fn cease(subcode: u8, text: &str) -> Vec<u8> {
    let len = u8::try_from(text.len()).unwrap();
    message(3, &[&[6, subcode, len][..], text.as_bytes()].concat())
}

#[test]
fn after_a_shutdown_by_the_router_it_is_tried_again_slowly_and_its_words_stay() {
    let bed = Bed::new("bgp: shut down");
    let mut raw = bed.session();
    let began = Instant::now();
    raw.say(&cease(2, "maintenance until four")).unwrap();
    drop(raw);
    bed.shows("connecting", "maintenance until four");
    assert!(bed.accept(12 * SECONDS).is_none(), "it connects after {:?}", began.elapsed());
    bed.shows("connecting", "maintenance until four");
    // A router that wants a session gets it at once.
    let stream = bed.site.router.enter(|| TcpStream::connect("[2001:db8::1]:179")).unwrap().unwrap();
    let mut raw = Raw::of(stream);
    establish(&mut raw);
    bed.shows("established", "");
}

#[test]
fn after_a_reset_by_the_router_it_is_tried_again_soon() {
    let bed = Bed::new("bgp: reset");
    let mut raw = bed.session();
    raw.say(&cease(4, "new filters")).unwrap();
    drop(raw);
    bed.shows("connecting", "new filters");
    drop(bed.accept(5 * SECONDS).expect("it connects again"));
    // What breaks later does not hide the words.
    bed.shows("connecting", "new filters");
    let _raw = bed.session();
}

#[test]
fn a_session_has_the_address_that_peers_have_as_next_hop() {
    let bed = Bed::new("bgp: source");
    let stream = bed.accept(20 * SECONDS).expect("h1 connects");
    let node = bed.site.cluster.node("h1");
    let source = stream.peer_addr().unwrap().ip().to_string();
    assert_eq!(node["next_hops"][0], source.as_str(), "{node}");
}
