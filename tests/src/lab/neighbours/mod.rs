//! Neighbour discovery by hand: an [`Asker`] sends solicitations, valid or not, and sees what answers them.

mod frame;

use std::{
    io::{self, ErrorKind, Read, Write},
    net::Ipv6Addr,
    os::fd::AsRawFd,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, bail};
use nix::{
    ifaddrs::getifaddrs,
    libc,
    sys::socket::{LinkAddr, bind},
};
use socket2::{Domain, Protocol, Socket, Type};

pub use frame::{Answer, Mac, Solicitation, link_layer_option, solicited_node};

use super::namespace::Namespace;

/// Frames that wait to be read.
const BUFFER: usize = 4 << 20;
const LONGEST: usize = 2048;

/// Somebody on the link of an interface.
#[derive(Debug)]
pub struct Asker {
    socket: Socket,
    /// The interface's link-layer address.
    pub mac: Mac,
    /// The address that it asks from.
    pub source: Ipv6Addr,
}

impl Namespace {
    /// Asks on this interface, from an address of it.
    ///
    /// # Errors
    /// If there is no such interface.
    pub fn asker(&self, interface: &str, source: Ipv6Addr) -> anyhow::Result<Asker> {
        self.enter(|| Asker::new(interface, source))?
    }
}

impl Asker {
    fn new(interface: &str, source: Ipv6Addr) -> anyhow::Result<Self> {
        let link = link_of(interface)?;
        let mac = link.addr().with_context(|| format!("{interface} has no link-layer address"))?;
        let protocol = (libc::ETH_P_IPV6 as u16).to_be();
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(i32::from(protocol))))?;
        socket.set_recv_buffer_size(BUFFER)?;
        // Its protocol is 0, so the kernel keeps that of the socket (packet(7)).
        bind(socket.as_raw_fd(), &link)?;
        Ok(Self { socket, mac, source })
    }

    /// A second user of the same socket, e.g. one that sends while the other reads.
    ///
    /// # Errors
    /// If the process has no descriptor left.
    pub fn also(&self) -> io::Result<Self> {
        Ok(Self { socket: self.socket.try_clone()?, mac: self.mac, source: self.source })
    }

    /// A valid solicitation.
    pub fn solicitation(&self, target: Ipv6Addr) -> Solicitation {
        Solicitation::new(self.mac, self.source, target)
    }

    /// Sends frames.
    ///
    /// # Errors
    /// If the link is down.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        (&self.socket).write_all(frame)
    }

    /// Sends it; returns the advertisements of its target that follow within this time.
    ///
    /// # Errors
    /// If the link is down.
    pub fn answers(&self, ask: &Solicitation, during: Duration) -> anyhow::Result<Vec<Answer>> {
        self.forget()?;
        self.send(&ask.octets())?;
        let (end, mut all) = (Instant::now() + during, Vec::new());
        while let Some(answer) = self.next(end)? {
            all.extend((answer.target == ask.target).then_some(answer));
        }
        Ok(all)
    }

    /// Sends it; returns the first advertisement of its target, and how long that took.
    ///
    /// # Errors
    /// If there is none within this time.
    pub fn ask(&self, ask: &Solicitation, within: Duration) -> anyhow::Result<(Answer, Duration)> {
        self.forget()?;
        let frame = ask.octets();
        let began = Instant::now();
        self.send(&frame)?;
        while let Some(answer) = self.next(began + within)? {
            if answer.target == ask.target {
                return Ok((answer, began.elapsed()));
            }
        }
        Err(anyhow!("{} is not answered for", ask.target))
    }

    /// The next advertisement, until `end`.
    ///
    /// # Errors
    /// If the link is gone.
    pub fn next(&self, end: Instant) -> anyhow::Result<Option<Answer>> {
        let mut frame = [0; LONGEST];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.socket.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            match (&self.socket).read(&mut frame) {
                Ok(len) => {
                    if let Some(answer) = frame::answer(&frame[..len]) {
                        return Ok(Some(answer));
                    }
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Ok(None);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => bail!(error),
            }
        }
    }

    /// Drops what was received before.
    ///
    /// # Errors
    /// If the link is gone.
    pub fn forget(&self) -> io::Result<()> {
        let mut frame = [0; LONGEST];
        self.socket.set_nonblocking(true)?;
        while (&self.socket).read(&mut frame).is_ok() {}
        self.socket.set_nonblocking(false)
    }
}

fn link_of(interface: &str) -> anyhow::Result<LinkAddr> {
    let mut all = getifaddrs()?.filter(|it| it.interface_name == interface);
    let link = all.find_map(|it| it.address?.as_link_addr().copied());
    link.with_context(|| format!("there is no interface {interface}"))
}
