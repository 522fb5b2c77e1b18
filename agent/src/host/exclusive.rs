//! One agent in a network namespace: two would take each other's routes for their own, by the protocol number, and remove them.
//!
//! The lock is a socket with an abstract name (unix(7)). Each network namespace has its own such names, whatever the mounts and
//! the process ids of the agents in it, and the kernel frees the name when its holder ends. Any user may take the name, so only a
//! holder that may change routes, as root or as the user of this process, keeps the agent from starting.

use std::{
    convert::Infallible,
    fmt, io,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener, UnixStream},
    },
    time::Duration,
};

use tokio::net::{UnixListener as Listener, UnixStream as Stream};

/// The abstract name of the socket.
const NAME: &str = "sextant-agent";
/// The pause after a failed accept: descriptors may have run out.
const PAUSE: Duration = Duration::from_secs(1);

/// The lock of the network namespace, held until it is dropped.
#[derive(Debug)]
pub struct Exclusive {
    /// None if an unprivileged process has the name.
    listener: Option<Listener>,
}

/// Why the lock is not granted.
#[derive(Debug, thiserror::Error)]
pub enum ExclusiveError {
    /// Another agent holds it.
    #[error(
        "another sextant-agent ({holder}) runs in this network namespace, and the routes of both have the same protocol number; \
         stop that one (e.g. systemctl stop sextant-agent), or run this one in another network namespace"
    )]
    Held {
        /// The process.
        holder: Holder,
    },
    /// The socket cannot be opened.
    #[error("cannot lock the network namespace (abstract socket \"{NAME}\"): {0}")]
    Io(#[from] io::Error),
}

/// The process that holds the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// Its process id; none if it is in another process namespace.
    pid: Option<i32>,
    uid: u32,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "process {pid}"),
            None => f.write_str("in a container"),
        }
    }
}

impl Exclusive {
    /// Locks the network namespace of this thread.
    ///
    /// # Errors
    /// [`ExclusiveError::Held`] with the process that holds the lock.
    pub fn lock() -> Result<Self, ExclusiveError> {
        let name = SocketAddr::from_abstract_name(NAME)?;
        let error = match UnixListener::bind_addr(&name) {
            Ok(listener) => {
                listener.set_nonblocking(true)?;
                return Ok(Self { listener: Some(Listener::from_std(listener)?) });
            }
            Err(error) => error,
        };
        if error.kind() != io::ErrorKind::AddrInUse {
            return Err(error.into());
        }
        let holder = holder(&name)?;
        if keeps_out(holder, nix::unistd::geteuid().as_raw()) {
            return Err(ExclusiveError::Held { holder });
        }
        tracing::warn!(
            %holder, uid = holder.uid, name = NAME,
            "abstract socket taken by an unprivileged process; a second agent would not be noticed"
        );
        Ok(Self { listener: None })
    }

    /// Holds the lock. Processes that ask for its holder are let go at once. Never ends.
    ///
    /// # Errors
    /// None.
    pub async fn hold(self) -> Result<(), Infallible> {
        let Some(listener) = self.listener else { return std::future::pending().await };
        loop {
            if listener.accept().await.is_err() {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Whether this holder may be an agent, for a process of the user `own`.
fn keeps_out(holder: Holder, own: u32) -> bool {
    holder.uid == 0 || holder.uid == own
}

/// The process that holds the socket.
fn holder(name: &SocketAddr) -> io::Result<Holder> {
    let stream = UnixStream::connect_addr(name)?;
    stream.set_nonblocking(true)?;
    let credentials = Stream::from_std(stream)?.peer_cred()?;
    Ok(Holder { pid: credentials.pid().filter(|pid| *pid > 0), uid: credentials.uid() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_may_change_routes_keeps_an_agent_out() {
        let of = |uid| Holder { pid: Some(7), uid };
        assert!(keeps_out(of(0), 0) && keeps_out(of(0), 990) && keeps_out(of(990), 990));
        assert!(!keeps_out(of(1000), 0) && !keeps_out(of(1000), 990));
    }

    #[test]
    fn the_refusal_names_the_process() {
        let error = |pid| ExclusiveError::Held { holder: Holder { pid, uid: 0 } }.to_string();
        assert!(error(Some(7)).contains("(process 7)"), "{}", error(Some(7)));
        assert!(error(None).contains("(in a container)"), "{}", error(None));
    }
}
