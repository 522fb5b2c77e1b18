//! Probes: the edge to their sockets, and to the kernel's count of those that arrive.
//!
//! ICMPv6 echo requests (RFC 4443 §4) where the agent may send them: as a ping socket, where `net.ipv4.ping_group_range`
//! allows it, else as a raw one, where the agent has CAP_NET_RAW. Where it may do neither, it sends UDP datagrams to a port
//! that nobody listens on, as tracepath(8) does: that the port is unreachable is as good an answer. No socket is bound to a
//! device: such a one passes over unreachable routes.

use std::{
    fs, io,
    io::IoSliceMut,
    net::{Ipv6Addr, SocketAddrV6},
    os::fd::{AsRawFd, OwnedFd},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6, bind,
        connect, recvmsg, send, setsockopt, socket, sockopt::Ipv6RecvErr,
    },
};
use tokio::{
    io::Interest,
    net::UdpSocket,
    time::{Instant, timeout_at},
};

/// How many are sent.
const PROBES: usize = 3;
/// From one to the next.
const INTERVAL: Duration = Duration::from_millis(100);
/// How long the last one's answer may take.
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);
/// Where nobody listens, as traceroute(8) has it.
const STRAY_PORT: u16 = 33434;
// Types and codes of RFC 4443.
const ECHO_REQUEST: u8 = 128;
const ECHO_REPLY: u8 = 129;
const UNREACHABLE: u8 = 1;
const PORT_UNREACHABLE: u8 = 4;
/// `SO_EE_ORIGIN_ICMP6` of linux/errqueue.h.
const FROM_ICMPV6: u8 = 3;
/// What tells our probes from others', and its number.
const PAYLOAD: usize = 16;

/// What kind of probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Echo,
    StrayDatagram,
}

/// What became of probes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Probe {
    /// None if none could be sent at all.
    pub(crate) kind: Option<Kind>,
    pub(crate) source: Option<Ipv6Addr>,
    pub(crate) target: Ipv6Addr,
    pub(crate) sent: usize,
    /// The round trips of those that were answered.
    pub(crate) answered: Vec<Duration>,
    pub(crate) trouble: Option<Trouble>,
}

/// An error that came back, or that kept them from being sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) what: String,
    /// Whose word it is; none for this host's own kernel.
    pub(crate) from: Option<Ipv6Addr>,
    pub(crate) mend: &'static str,
}

/// What a kernel has received since it was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) echo_requests: u64,
    pub(crate) stray_datagrams: u64,
}

impl Probe {
    pub(super) fn all_answered(&self) -> bool {
        self.sent > 0 && self.answered.len() == self.sent
    }
}

/// Sends probes, and waits for what comes of them. `own` are this host's addresses.
pub(super) async fn run(source: Option<Ipv6Addr>, target: Ipv6Addr, own: &[Ipv6Addr]) -> Probe {
    let mut probe = Probe { kind: None, source, target, sent: 0, answered: Vec::new(), trouble: None };
    let Some(source) = source else {
        let what = "the bridge has no address to send them from".to_owned();
        probe.trouble = Some(Trouble { what, from: None, mend: "" });
        return probe;
    };
    match Prober::open(source, target) {
        Ok(mut prober) => {
            probe.kind = Some(prober.kind);
            prober.run(&mut probe).await;
            // An error of this host's own is its kernel's word.
            if let Some(trouble) = &mut probe.trouble {
                trouble.from = trouble.from.filter(|from| !own.contains(from));
            }
        }
        Err(errno) => probe.trouble = Some(unsendable(errno)),
    }
    probe
}

/// What has arrived here; nothing where the kernel does not tell.
pub(super) fn received() -> Received {
    counted(&fs::read_to_string("/proc/thread-self/net/snmp6").unwrap_or_default())
}

fn counted(snmp6: &str) -> Received {
    let count = |name: &str| {
        let of_it = snmp6.lines().find_map(|line| line.strip_prefix(name));
        of_it.and_then(|rest| rest.trim().parse().ok()).unwrap_or(0)
    };
    Received { echo_requests: count("Icmp6InEchos "), stray_datagrams: count("Udp6NoPorts ") }
}

struct Prober {
    /// Of whatever protocol: to wait for it, all datagram sockets are the same.
    socket: UdpSocket,
    kind: Kind,
    target: Ipv6Addr,
    nonce: u64,
    sent_at: Vec<Instant>,
    /// How many were answered by an error.
    errors: usize,
}

/// What came back for one of ours.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Answer(usize),
    Error { kind: u8, code: u8, from: Option<Ipv6Addr>, of: Option<usize> },
}

impl Prober {
    fn open(source: Ipv6Addr, target: Ipv6Addr) -> Result<Self, Errno> {
        let (kind, socket) = permitted()?;
        let port = if kind == Kind::StrayDatagram { STRAY_PORT } else { 0 };
        setsockopt(&socket, Ipv6RecvErr, &true)?;
        bind(socket.as_raw_fd(), &SockaddrIn6::from(SocketAddrV6::new(source, 0, 0, 0)))?;
        connect(socket.as_raw_fd(), &SockaddrIn6::from(SocketAddrV6::new(target, port, 0, 0)))?;
        let socket = UdpSocket::from_std(socket.into()).map_err(|error| errno_of(&error))?;
        Ok(Self { socket, kind, target, nonce: rand::random(), sent_at: Vec::new(), errors: 0 })
    }

    async fn run(&mut self, probe: &mut Probe) {
        for number in 0..PROBES {
            if let Err(errno) = self.send(number) {
                probe.trouble.get_or_insert_with(|| unsendable(errno));
                break;
            }
            probe.sent += 1;
            let last = number + 1 == PROBES;
            let until = Instant::now() + if last { ANSWERED_WITHIN } else { INTERVAL };
            self.listen(until, last, probe).await;
        }
    }

    /// Sends one. An error that is still to be told of an earlier one is not this one's.
    fn send(&mut self, number: usize) -> Result<(), Errno> {
        let packet = packet(self.kind, self.nonce, number);
        self.sent_at.push(Instant::now());
        let fd = self.socket.as_raw_fd();
        let sent = send(fd, &packet, MsgFlags::empty()).or_else(|_| send(fd, &packet, MsgFlags::empty()));
        sent.map(drop)
    }

    /// Listens for answers; at the last probe until there is nothing left to come.
    async fn listen(&mut self, until: Instant, last: bool, probe: &mut Probe) {
        loop {
            while let Some(heard) = self.hear() {
                match heard {
                    Heard::Answer(number) => {
                        probe.answered.extend(self.sent_at.get(number).map(Instant::elapsed));
                    }
                    Heard::Error { kind, code, from, .. } => {
                        self.errors += 1;
                        let what = words(kind, code);
                        probe.trouble = Some(Trouble { what, from, mend: mend(kind, code) });
                    }
                }
            }
            if last && probe.answered.len() + self.errors >= probe.sent {
                return;
            }
            match timeout_at(until, self.socket.ready(Interest::READABLE | Interest::ERROR)).await {
                Ok(Ok(_)) => {}
                _ => return,
            }
        }
    }

    /// What has come, if anything; what is not about our probes is passed over.
    fn hear(&self) -> Option<Heard> {
        loop {
            if let Ok(error) = self.socket.try_io(Interest::ERROR, || self.error()) {
                let Some(heard) = error else { continue };
                return Some(self.understand(heard));
            }
            let mut buffer = [0; 256];
            match self.socket.try_recv(&mut buffer) {
                Ok(len) => {
                    if let Some(number) = answer(&buffer[..len], self.nonce) {
                        return Some(Heard::Answer(number));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                // An error that is in the queue too.
                Err(_) => {}
            }
        }
    }

    /// That nobody listens there is what a stray datagram is to find out.
    fn understand(&self, heard: Heard) -> Heard {
        match heard {
            Heard::Error { kind: UNREACHABLE, code: PORT_UNREACHABLE, from, of: Some(number) }
                if self.kind == Kind::StrayDatagram && from == Some(self.target) =>
            {
                Heard::Answer(number)
            }
            other => other,
        }
    }

    /// What is first in the socket's queue of errors (IPV6_RECVERR in ip(7)), if it came over the network.
    fn error(&self) -> io::Result<Option<Heard>> {
        let mut packet = [0; 512];
        let mut control = nix::cmsg_space!(nix::libc::sock_extended_err, nix::libc::sockaddr_in6);
        let mut parts = [IoSliceMut::new(&mut packet)];
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        let received =
            recvmsg::<SockaddrIn6>(self.socket.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
        let len = received.bytes;
        let error = received.cmsgs()?.find_map(|message| match message {
            ControlMessageOwned::Ipv6RecvErr(error, from) if error.ee_origin == FROM_ICMPV6 => {
                let from = from.map(|from| Ipv6Addr::from(from.sin6_addr.s6_addr));
                Some((error.ee_type, error.ee_code, from))
            }
            _ => None,
        });
        let of = number(&packet[..len.min(512)], self.nonce);
        Ok(error.map(|(kind, code, from)| Heard::Error { kind, code, from, of }))
    }
}

/// The best socket that this process may have.
fn permitted() -> Result<(Kind, OwnedFd), Errno> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let open = |kind, protocol| socket(AddressFamily::Inet6, kind, flags, protocol);
    let echo =
        open(SockType::Datagram, SockProtocol::IcmpV6).or_else(|_| open(SockType::Raw, SockProtocol::IcmpV6));
    match echo {
        Ok(socket) => Ok((Kind::Echo, socket)),
        Err(_) => Ok((Kind::StrayDatagram, open(SockType::Datagram, SockProtocol::Udp)?)),
    }
}

/// The kernel fills in the checksum, and for a ping socket the identifier.
fn packet(kind: Kind, nonce: u64, number: usize) -> Vec<u8> {
    let sequence = number as u64;
    let payload = [nonce.to_be_bytes(), sequence.to_be_bytes()].concat();
    let [.., high, low] = nonce.to_be_bytes();
    match kind {
        Kind::Echo => [&[ECHO_REQUEST, 0, 0, 0, high, low, 0, number as u8][..], &payload].concat(),
        Kind::StrayDatagram => payload,
    }
}

/// The number of the probe that this is the answer to.
fn answer(packet: &[u8], nonce: u64) -> Option<usize> {
    let (header, payload) = packet.split_first_chunk::<8>()?;
    (header[0] == ECHO_REPLY).then(|| number(payload, nonce)).flatten()
}

/// The number of the probe whose payload is somewhere in `bytes`.
fn number(bytes: &[u8], nonce: u64) -> Option<usize> {
    bytes.windows(PAYLOAD).find_map(|window| {
        let (ours, number) = window.split_first_chunk::<8>()?;
        let number = u64::from_be_bytes(number.try_into().ok()?);
        (*ours == nonce.to_be_bytes() && number < PROBES as u64).then_some(number as usize)
    })
}

fn unsendable(errno: Errno) -> Trouble {
    let (what, mend) = match errno {
        Errno::EPERM => (
            "the kernel refuses to send them: a firewall's OUTPUT chain drops them".to_owned(),
            "nft list ruleset: find and take away what drops there",
        ),
        errno => (format!("the kernel refuses to send them: {}", errno.desc()), ""),
    };
    Trouble { what, from: None, mend }
}

/// An ICMPv6 error as RFC 4443 calls it.
fn words(kind: u8, code: u8) -> String {
    let text = match (kind, code) {
        (UNREACHABLE, 0) => "no route to destination",
        (UNREACHABLE, 1) => "administratively prohibited",
        (UNREACHABLE, 2) => "beyond scope of source address",
        (UNREACHABLE, 3) => "address unreachable",
        (UNREACHABLE, PORT_UNREACHABLE) => "port unreachable",
        (UNREACHABLE, 5) => "source address failed ingress/egress policy",
        (UNREACHABLE, 6) => "reject route to destination",
        (2, _) => "packet too big",
        (3, _) => "hop limit exceeded: the packets go round in a circle",
        _ => return format!("ICMPv6 type {kind} code {code}"),
    };
    format!("ICMPv6 {text}")
}

fn mend(kind: u8, code: u8) -> &'static str {
    match (kind, code) {
        (UNREACHABLE, 1 | PORT_UNREACHABLE | 5) => "nft list ruleset: find and take away what rejects there",
        (UNREACHABLE, 0 | 6) => "ip -6 route get TO from FROM: find the route that refuses there",
        (3, _) => "ip -6 route: look at the routes to both prefixes on each hop",
        _ => "",
    }
}

fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_found() {
        let text =
            "Icmp6InEchos                    \t12\nIcmp6InEchoReplies              \t3\nUdp6NoPorts   \t4\n";
        assert_eq!(counted(text), Received { echo_requests: 12, stray_datagrams: 4 });
        assert_eq!(counted(""), Received::default());
    }

    #[test]
    fn answers_are_told_from_others() {
        let mut echo = packet(Kind::Echo, 77, 2);
        assert_eq!(answer(&echo, 77), None, "a request is no answer");
        echo[0] = ECHO_REPLY;
        assert_eq!((answer(&echo, 77), answer(&echo, 78), answer(&echo[..20], 77)), (Some(2), None, None));
        // An error repeats the whole packet.
        let repeated = [&[0; 48][..], &packet(Kind::StrayDatagram, 77, 1)].concat();
        assert_eq!(number(&repeated, 77), Some(1));
    }

    #[tokio::test]
    async fn loopback_answers() {
        let here = Ipv6Addr::LOCALHOST;
        let before = received();
        let probe = run(Some(here), here, &[here]).await;
        let kind = probe.kind.unwrap();
        assert!(probe.all_answered() && probe.sent == PROBES, "{probe:?}");
        let (now, count) = (received(), PROBES as u64);
        match kind {
            Kind::Echo => assert!(now.echo_requests >= before.echo_requests + count, "{before:?} {now:?}"),
            Kind::StrayDatagram => assert!(now.stray_datagrams >= before.stray_datagrams + count),
        }
    }
}
