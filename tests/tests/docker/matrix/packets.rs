//! Sends packets, and answers them with the address that they come from.

use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use sextant_tests::{MILLISECONDS, SECONDS};

use super::table::Packet;

/// A port that is published, one that is not, and a published one on which nothing listens.
pub const PUBLISHED: u16 = 8000;
pub const UNPUBLISHED: u16 = 8001;
pub const SILENT: u16 = 8002;

/// The arguments of a container that publishes them. The ports of the host have other numbers, among them the unpublished one.
pub const PUBLISH: [&str; 6] = ["-p", "8001:8000", "-p", "8001:8000/udp", "-p", "8003:8002/udp"];

/// What has come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Nothing,
    /// An answer to `ping`.
    Echo,
    /// An ICMPv6 error: no such port.
    Refused,
    /// The address that the packet had as its source.
    From(String),
}

/// Asks from the network namespace of the calling thread.
pub fn ask(packet: Packet, to: IpAddr) -> Answer {
    let port = |published| if published { PUBLISHED } else { UNPUBLISHED };
    match packet {
        Packet::Tcp { published } => by_tcp(SocketAddr::new(to, port(published))),
        Packet::Udp { published } => by_udp(SocketAddr::new(to, port(published))),
        Packet::Refused => by_udp(SocketAddr::new(to, SILENT)),
        Packet::Echo => {
            let ping = Command::new("ping").args(["-c", "1", "-W", "1", &to.to_string()]).output();
            if ping.unwrap().status.success() { Answer::Echo } else { Answer::Nothing }
        }
    }
}

fn by_tcp(to: SocketAddr) -> Answer {
    let Ok(mut stream) = TcpStream::connect_timeout(&to, SECONDS) else { return Answer::Nothing };
    stream.set_read_timeout(Some(SECONDS)).unwrap();
    let mut text = String::new();
    match stream.read_to_string(&mut text) {
        Ok(1..) => Answer::From(text),
        _ => Answer::Nothing,
    }
}

fn by_udp(to: SocketAddr) -> Answer {
    let any = if to.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(any).unwrap();
    socket.set_read_timeout(Some(SECONDS)).unwrap();
    let mut text = [0; 64];
    let answer = socket.connect(to).and_then(|()| socket.send(b"who")).and_then(|_| socket.recv(&mut text));
    match answer {
        Ok(length) => Answer::From(String::from_utf8_lossy(&text[..length]).into_owned()),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Answer::Refused,
        Err(_) => Answer::Nothing,
    }
}

/// Answers at the ports of a network namespace until it is dropped.
pub struct Server {
    ended: Arc<AtomicBool>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

impl Server {
    /// In the namespace of the calling thread.
    pub fn start() -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        for port in [PUBLISHED, UNPUBLISHED] {
            let (listener, socket) = (TcpListener::bind(("::", port)), UdpSocket::bind(("::", port)));
            let (listener, socket) = (listener.unwrap(), socket.unwrap());
            listener.set_nonblocking(true).unwrap();
            socket.set_nonblocking(true).unwrap();
            let ended = Arc::clone(&ended);
            thread::spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    if !(accepted(&listener) | received(&socket)) {
                        thread::sleep(10 * MILLISECONDS);
                    }
                }
            });
        }
        Self { ended }
    }
}

/// The source as text, without the prefix of IPv4 addresses on a socket of IPv6.
fn shown(from: SocketAddr) -> String {
    from.ip().to_canonical().to_string()
}

/// Whether there was a connection. The other side may be gone.
fn accepted(listener: &TcpListener) -> bool {
    let Ok((mut stream, from)) = listener.accept() else { return false };
    let _gone = stream.write_all(shown(from).as_bytes());
    true
}

/// Whether there was a datagram. The other side may be gone.
fn received(socket: &UdpSocket) -> bool {
    let Ok((_, from)) = socket.recv_from(&mut [0; 8]) else { return false };
    let _gone = socket.send_to(shown(from).as_bytes(), from);
    true
}
