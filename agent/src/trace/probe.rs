//! Probes: the edge to their sockets, and to the kernel's counters of received ones.
//!
//! The agent sends ICMPv6 echo requests (RFC 4443 §4): through a ping socket if `net.ipv4.ping_group_range` permits it,
//! otherwise through a raw socket if the agent has CAP_NET_RAW. Without both, it sends UDP datagrams to an unused port, as
//! tracepath(8) does: "port unreachable" is an answer as well. No socket is bound to a device, since lookups for such a
//! socket ignore unreachable routes.

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

/// The number of probes.
const PROBES: usize = 3;
/// The interval between probes.
const INTERVAL: Duration = Duration::from_millis(100);
/// Timeout of the last answer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);
/// An unused port; the default of traceroute(8).
const STRAY_PORT: u16 = 33434;
// Types and codes of RFC 4443.
const ECHO_REQUEST: u8 = 128;
const ECHO_REPLY: u8 = 129;
const UNREACHABLE: u8 = 1;
const PORT_UNREACHABLE: u8 = 4;
/// `SO_EE_ORIGIN_ICMP6` of linux/errqueue.h.
const FROM_ICMPV6: u8 = 3;
/// Length of the payload: a nonce that identifies our probes, and the probe's number.
const PAYLOAD: usize = 16;

/// The kind of probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Echo,
    StrayDatagram,
}

/// The results of probes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Probe {
    /// None if no probe could be sent.
    pub(crate) kind: Option<Kind>,
    pub(crate) source: Option<Ipv6Addr>,
    pub(crate) target: Ipv6Addr,
    pub(crate) sent: usize,
    /// The round trip times of the answered ones.
    pub(crate) answered: Vec<Duration>,
    pub(crate) error: Option<ProbeError>,
}

/// An error that was received, or that prevented sending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProbeError {
    pub(crate) text: String,
    /// The sender of the error; none for this host's own kernel.
    pub(crate) from: Option<Ipv6Addr>,
    pub(crate) fix: &'static str,
}

/// The kernel's counters of received probes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) echo_requests: u64,
    pub(crate) stray_datagrams: u64,
}

impl Probe {
    /// That nothing was sent.
    pub(super) fn none(source: Option<Ipv6Addr>, target: Ipv6Addr) -> Self {
        Self { kind: None, source, target, sent: 0, answered: Vec::new(), error: None }
    }

    pub(super) fn all_answered(&self) -> bool {
        self.sent > 0 && self.answered.len() == self.sent
    }
}

/// Sends probes, and waits for their results. `own` are this host's addresses.
pub(super) async fn run(source: Option<Ipv6Addr>, target: Ipv6Addr, own: &[Ipv6Addr]) -> Probe {
    let mut probe = Probe::none(source, target);
    let Some(source) = source else {
        let text = "the bridge has no address to send probes from".to_owned();
        probe.error = Some(ProbeError { text, from: None, fix: "" });
        return probe;
    };
    match Prober::open(source, target) {
        Ok(mut prober) => {
            probe.kind = Some(prober.kind);
            prober.run(&mut probe).await;
            // Errors from own addresses come from this host's kernel.
            if let Some(error) = &mut probe.error {
                error.from = error.from.filter(|from| !own.contains(from));
            }
        }
        Err(errno) => probe.error = Some(unsendable(errno)),
    }
    probe
}

/// The received probes; zero if the kernel has no counters.
pub(super) fn received() -> Received {
    parse_counters(&fs::read_to_string("/proc/thread-self/net/snmp6").unwrap_or_default())
}

fn parse_counters(snmp6: &str) -> Received {
    let count = |name: &str| {
        let of_it = snmp6.lines().find_map(|line| line.strip_prefix(name));
        of_it.and_then(|rest| rest.trim().parse().ok()).unwrap_or(0)
    };
    Received { echo_requests: count("Icmp6InEchos "), stray_datagrams: count("Udp6NoPorts ") }
}

struct Prober {
    /// A socket of any protocol: waiting is the same for all datagram sockets.
    socket: UdpSocket,
    kind: Kind,
    target: Ipv6Addr,
    nonce: u64,
    sent_at: Vec<Instant>,
    /// The number of probes that were answered by an error.
    errors: usize,
}

/// A response to one of our probes.
#[derive(Debug, PartialEq, Eq)]
enum Response {
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
                probe.error.get_or_insert_with(|| unsendable(errno));
                break;
            }
            probe.sent += 1;
            let last = number + 1 == PROBES;
            let until = Instant::now() + if last { ANSWERED_WITHIN } else { INTERVAL };
            self.listen(until, last, probe).await;
        }
    }

    /// Sends a probe. A pending error of an earlier probe makes the first send fail, so it tries twice.
    fn send(&mut self, number: usize) -> Result<(), Errno> {
        let packet = packet(self.kind, self.nonce, number);
        self.sent_at.push(Instant::now());
        let fd = self.socket.as_raw_fd();
        let sent = send(fd, &packet, MsgFlags::empty()).or_else(|_| send(fd, &packet, MsgFlags::empty()));
        sent.map(drop)
    }

    /// Receives answers; after the last probe until all have arrived.
    async fn listen(&mut self, until: Instant, last: bool, probe: &mut Probe) {
        loop {
            while let Some(response) = self.next_response() {
                match response {
                    Response::Answer(number) => {
                        probe.answered.extend(self.sent_at.get(number).map(Instant::elapsed));
                    }
                    Response::Error { kind, code, from, .. } => {
                        self.errors += 1;
                        let text = icmp_error(kind, code);
                        probe.error = Some(ProbeError { text, from, fix: fix(kind, code) });
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

    /// The next response, if any; packets that do not concern our probes are ignored.
    fn next_response(&self) -> Option<Response> {
        loop {
            if let Ok(error) = self.socket.try_io(Interest::ERROR, || self.error()) {
                let Some(response) = error else { continue };
                return Some(self.interpret(response));
            }
            let mut buffer = [0; 256];
            match self.socket.try_recv(&mut buffer) {
                Ok(len) => {
                    if let Some(number) = answer(&buffer[..len], self.nonce) {
                        return Some(Response::Answer(number));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                // The same error is in the error queue.
                Err(_) => {}
            }
        }
    }

    /// "Port unreachable" is the answer to a stray datagram.
    fn interpret(&self, response: Response) -> Response {
        match response {
            Response::Error { kind: UNREACHABLE, code: PORT_UNREACHABLE, from, of: Some(number) }
                if self.kind == Kind::StrayDatagram && from == Some(self.target) =>
            {
                Response::Answer(number)
            }
            other => other,
        }
    }

    /// The first entry of the socket's error queue (IPV6_RECVERR in ipv6(7)), if it came from the network.
    fn error(&self) -> io::Result<Option<Response>> {
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
        Ok(error.map(|(kind, code, from)| Response::Error { kind, code, from, of }))
    }
}

/// The best socket that this process may open.
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

/// The kernel adds the checksum, and for a ping socket the identifier.
fn packet(kind: Kind, nonce: u64, number: usize) -> Vec<u8> {
    let sequence = number as u64;
    let payload = [nonce.to_be_bytes(), sequence.to_be_bytes()].concat();
    let [.., high, low] = nonce.to_be_bytes();
    match kind {
        Kind::Echo => [&[ECHO_REQUEST, 0, 0, 0, high, low, 0, number as u8][..], &payload].concat(),
        Kind::StrayDatagram => payload,
    }
}

/// The number of the probe that this packet answers.
fn answer(packet: &[u8], nonce: u64) -> Option<usize> {
    let (header, payload) = packet.split_first_chunk::<8>()?;
    (header[0] == ECHO_REPLY).then(|| number(payload, nonce)).flatten()
}

/// The number of the probe whose payload is in `bytes`.
fn number(bytes: &[u8], nonce: u64) -> Option<usize> {
    bytes.windows(PAYLOAD).find_map(|window| {
        let (ours, number) = window.split_first_chunk::<8>()?;
        let number = u64::from_be_bytes(number.try_into().ok()?);
        (*ours == nonce.to_be_bytes() && number < PROBES as u64).then_some(number as usize)
    })
}

fn unsendable(errno: Errno) -> ProbeError {
    let (text, fix) = match errno {
        Errno::EPERM => (
            "the kernel refuses to send probes: a firewall's OUTPUT chain drops them".to_owned(),
            "nft list ruleset: find and remove the rule that drops them",
        ),
        errno => (format!("the kernel refuses to send probes: {}", errno.desc()), ""),
    };
    ProbeError { text, from: None, fix }
}

/// The name of an ICMPv6 error in RFC 4443.
fn icmp_error(kind: u8, code: u8) -> String {
    let text = match (kind, code) {
        (UNREACHABLE, 0) => "no route to destination",
        (UNREACHABLE, 1) => "administratively prohibited",
        (UNREACHABLE, 2) => "beyond scope of source address",
        (UNREACHABLE, 3) => "address unreachable",
        (UNREACHABLE, PORT_UNREACHABLE) => "port unreachable",
        (UNREACHABLE, 5) => "source address failed ingress/egress policy",
        (UNREACHABLE, 6) => "reject route to destination",
        (2, _) => "packet too big",
        (3, _) => "hop limit exceeded: routing loop",
        _ => return format!("ICMPv6 type {kind} code {code}"),
    };
    format!("ICMPv6 {text}")
}

fn fix(kind: u8, code: u8) -> &'static str {
    match (kind, code) {
        (UNREACHABLE, 1 | PORT_UNREACHABLE | 5) => {
            "nft list ruleset: find and remove the rule that rejects them"
        }
        (UNREACHABLE, 0 | 6) => "ip -6 route get TO from FROM: find the route that refuses them",
        (3, _) => "ip -6 route: check the routes to both prefixes on each hop",
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
    fn counters_are_parsed() {
        let text =
            "Icmp6InEchos                    \t12\nIcmp6InEchoReplies              \t3\nUdp6NoPorts   \t4\n";
        assert_eq!(parse_counters(text), Received { echo_requests: 12, stray_datagrams: 4 });
        assert_eq!(parse_counters(""), Received::default());
    }

    #[test]
    fn answers_are_recognised() {
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
