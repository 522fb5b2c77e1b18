//! A neighbour made of octets: what real daemons never do.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    time::Duration,
};

use anyhow::{Context, ensure};
use sextant_tests::{Host, MILLISECONDS, SECONDS, poll};

/// A connection to h1's speaker, opened from a router.
pub struct Raw(TcpStream);

/// A whole message around `body`.
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(19 + body.len()).unwrap();
    [&[0xff; 16][..], &length.to_be_bytes(), &[kind], body].concat()
}

pub fn keepalive() -> Vec<u8> {
    message(4, &[])
}

/// AS 65000's OPEN: IPv6 unicast, AS numbers of four octets, and these capabilities more.
pub fn open(hold_time: u16, identifier: [u8; 4], more: &[u8]) -> Vec<u8> {
    open_of(65000, hold_time, identifier, more)
}

/// As [`open`], of another AS.
pub fn open_of(asn: u16, hold_time: u16, identifier: [u8; 4], more: &[u8]) -> Vec<u8> {
    let ([a, b], [high, low]) = (asn.to_be_bytes(), hold_time.to_be_bytes());
    let capabilities = [&[1, 4, 0, 2, 0, 1, 65, 4, 0, 0, a, b][..], more].concat();
    let len = u8::try_from(capabilities.len()).unwrap();
    let fixed = [&[4, a, b, high, low][..], &identifier, &[len + 2, 2, len]].concat();
    message(1, &[fixed, capabilities].concat())
}

/// An UPDATE that announces 2001:db8:N::/48 by way of the router, with one attribute more.
pub fn update(n: u16, attribute: &[u8]) -> Vec<u8> {
    let hop = "2001:db8::fe:1".parse::<std::net::Ipv6Addr>().unwrap().octets();
    let prefix = [&[48, 0x20, 0x01, 0x0d, 0xb8][..], &n.to_be_bytes()].concat();
    let reach = [&[0, 2, 1, 16][..], &hop, &[0], &prefix].concat();
    let head = [0x80, 14, u8::try_from(reach.len()).unwrap()];
    let path = [0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe8];
    let attributes = [&head[..], &reach, &path, attribute].concat();
    message(2, &[&[0, 0][..], &u16::try_from(attributes.len()).unwrap().to_be_bytes(), &attributes].concat())
}

impl Raw {
    /// Connects from `router` to h1.
    pub fn connect(router: &Host) -> Self {
        Self::connect_to("[2001:db8::1]:179", router)
    }

    pub fn connect_to(target: &str, from: &Host) -> Self {
        poll("a speaker takes a connection", 20 * SECONDS, || {
            let stream = from.enter(|| TcpStream::connect(target))??;
            stream.set_read_timeout(Some(10 * SECONDS))?;
            stream.set_nodelay(true)?;
            anyhow::Ok(Self(stream))
        })
    }

    /// A connection that h1 has opened.
    pub fn of(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(10 * SECONDS)).unwrap();
        Self(stream)
    }

    /// Until the session stands.
    pub fn establish(router: &Host, hold_time: u16, more: &[u8]) -> Self {
        let mut raw = Self::connect(router);
        raw.say(&[open(hold_time, [192, 0, 2, 200], more), keepalive()].concat()).unwrap();
        let (opened, kept) = (raw.hear().unwrap(), raw.hear().unwrap());
        assert_eq!((opened.0, kept.0), (1, 4), "an OPEN and a KEEPALIVE: {opened:?}, {kept:?}");
        raw
    }

    pub fn say(&mut self, octets: &[u8]) -> io::Result<()> {
        self.0.write_all(octets)
    }

    /// One octet after the other.
    pub fn drip(&mut self, octets: &[u8], pause: Duration) {
        for octet in octets {
            self.say(&[*octet]).unwrap();
            std::thread::sleep(pause);
        }
    }

    /// The next message: its kind and body.
    pub fn hear(&mut self) -> anyhow::Result<(u8, Vec<u8>)> {
        let mut header = [0; 19];
        self.0.read_exact(&mut header).context("its next message")?;
        let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
        ensure!(header[..16] == [0xff; 16] && (19..=4096).contains(&length), "no header: {header:?}");
        let mut body = vec![0; length - 19];
        self.0.read_exact(&mut body)?;
        Ok((header[18], body))
    }

    /// Passes over what is said until a NOTIFICATION: its code and subcode; and then the end.
    pub fn hear_the_end(&mut self) -> [u8; 2] {
        loop {
            let (kind, body) = self.hear().unwrap();
            if kind == 3 {
                let end = self.0.read(&mut [0; 1]);
                assert!(
                    matches!(&end, Ok(0))
                        || matches!(&end, Err(error) if error.kind() == io::ErrorKind::ConnectionReset),
                    "it closes the connection: {end:?}"
                );
                return [body[0], body[1]];
            }
        }
    }

    /// No more from here.
    pub fn shut(&self) {
        self.0.shutdown(Shutdown::Write).unwrap();
    }

    /// Whether it says nothing but these kinds for a while.
    pub fn says_only(&mut self, kinds: &[u8], during: Duration) {
        self.0.set_read_timeout(Some(during)).unwrap();
        while let Ok((kind, body)) = self.hear() {
            assert!(kinds.contains(&kind), "kind {kind}: {body:?}");
        }
        self.0.set_read_timeout(Some(10 * SECONDS)).unwrap();
    }

    /// Ends the connection by a reset, in the middle of what is under way.
    pub fn reset(self) {
        let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
        nix::sys::socket::setsockopt(&self.0, nix::sys::socket::sockopt::Linger, &linger).unwrap();
    }
}

/// How long a peer that drips waits between octets.
pub const DRIP: Duration = MILLISECONDS;
