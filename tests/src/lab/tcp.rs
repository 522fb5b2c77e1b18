//! TCP connections between containers. They check the peer's address, so that address translation on the path is noticed.

use std::{
    io::{Read, Write},
    net::{SocketAddr, SocketAddrV6, TcpListener, TcpStream},
    time::Duration,
};

use anyhow::{Context, ensure};

use super::{
    host::Container,
    poll::{SECONDS, try_poll},
};

const TIMEOUT: Duration = SECONDS;

/// Connects from each container to each other one and sends some octets. Returns a line `from → to: error` for each pair that
/// fails.
///
/// # Errors
/// If a container cannot listen.
pub fn tcp_matrix(containers: &[Container]) -> anyhow::Result<String> {
    let mut failures = Vec::new();
    for to in containers {
        let listener = to.enter(|| TcpListener::bind((to.address(), 0)))??;
        listener.set_nonblocking(true)?;
        for from in containers.iter().filter(|from| from.name() != to.name()) {
            if let Err(error) = connect(from, &listener) {
                failures.push(format!("{} → {}: {error:#}", from.name(), to.name()));
            }
        }
    }
    Ok(failures.join("\n"))
}

fn connect(from: &Container, listener: &TcpListener) -> anyhow::Result<()> {
    let target = listener.local_addr()?;
    let source = SocketAddr::V6(SocketAddrV6::new(from.address(), 0, 0, 0));
    let mut near = from.enter(|| TcpStream::connect_timeout(&target, TIMEOUT))?.context("connect")?;
    let (mut far, peer) = try_poll(TIMEOUT, || listener.accept()).context("accept")?;
    ensure!(peer.ip() == source.ip(), "the peer is seen as {peer} instead of {source}");
    far.set_nonblocking(false)?;
    let sent = rand::random::<[u8; 16]>();
    near.write_all(&sent)?;
    let mut received = [0; 16];
    far.set_read_timeout(Some(TIMEOUT))?;
    far.read_exact(&mut received).context("read")?;
    ensure!(received == sent, "sent {sent:?}, received {received:?}");
    Ok(())
}
