//! Listens for connections of neighbours, as soon as the port is free. While it is not, this host still connects to them.

use std::{future::pending, io, net::SocketAddr, sync::Arc, time::Duration};

use sextant_daemon::OncePerMinute;
use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, sleep_until},
};

use super::sockets;
use crate::{
    problems::Finding,
    settings::{BgpSettings, NeighbourSettings},
};

/// The first delay before another attempt to listen; it doubles up to the last one.
const FIRST_DELAY: Duration = Duration::from_secs(1);
const LAST_DELAY: Duration = Duration::from_secs(30);

/// The socket that neighbours connect to.
pub(super) struct Listening {
    settings: Arc<BgpSettings>,
    listener: Option<TcpListener>,
    trouble: Option<io::Error>,
    delay: Duration,
    again_at: Instant,
    lines: OncePerMinute,
}

/// What came of the wait.
pub(super) enum Listened {
    /// A neighbour has connected.
    Accepted(TcpStream, SocketAddr),
    /// An attempt to listen has succeeded or failed.
    Tried,
}

impl Listening {
    /// Tries to listen at once, unless `listen-port` is 0.
    pub(super) fn new(settings: Arc<BgpSettings>) -> Self {
        let mut listening = Self {
            settings,
            listener: None,
            trouble: None,
            delay: FIRST_DELAY,
            again_at: Instant::now(),
            lines: OncePerMinute::default(),
        };
        listening.open();
        listening
    }

    /// The next connection, or attempt to listen. Cancel safe.
    pub(super) async fn next(&mut self) -> Listened {
        let Some(listener) = &self.listener else {
            if self.settings.listen_port == 0 {
                pending::<()>().await;
            }
            sleep_until(self.again_at).await;
            self.open();
            return Listened::Tried;
        };
        loop {
            match listener.accept().await {
                Ok((stream, from)) => return Listened::Accepted(stream, from),
                Err(error) => {
                    if let Some(suppressed) = self.lines.admit(&error.to_string(), Instant::now()) {
                        tracing::warn!(%error, suppressed, "BGP connection cannot be accepted");
                    }
                    tokio::time::sleep(FIRST_DELAY).await;
                }
            }
        }
    }

    /// Connections of neighbours are signed with their present passwords from now on.
    pub(super) fn sign(&mut self) {
        let signed = self.listener.as_ref().map(|it| sockets::sign_all(it, &self.settings.neighbours));
        if let Some(Err(error)) = signed {
            tracing::warn!(%error, "BGP passwords cannot be changed; listening anew");
            self.listener = None;
            self.open();
        }
    }

    fn open(&mut self) {
        if self.settings.listen_port == 0 {
            return;
        }
        match sockets::listen(&self.settings) {
            Ok(listener) => (self.listener, self.trouble, self.delay) = (Some(listener), None, FIRST_DELAY),
            Err(error) => {
                self.trouble = Some(error);
                self.again_at = Instant::now() + self.delay;
                self.delay = (self.delay * 2).min(LAST_DELAY);
            }
        }
    }

    /// What is wrong, if it cannot listen.
    pub(super) fn finding(&self) -> Option<Finding> {
        Some(finding(&self.settings, self.trouble.as_ref()?))
    }
}

fn finding(settings: &BgpSettings, error: &io::Error) -> Finding {
    let need = settings.neighbours.iter().filter(|neighbour| neighbour.passive);
    let need: Vec<_> = need.map(NeighbourSettings::name).collect();
    let cost = match need.is_empty() {
        true => "no router can connect to this host; it still connects to its neighbours".to_owned(),
        false => format!("no router can connect to this host; there is no session with {}", need.join(", ")),
    };
    let port = settings.listen_port;
    let fix = match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "stop the other BGP daemon that listens at port {port} (`ss -ltnp sport = :{port}`), or set [bgp] listen-port = 0 in \
             agent.toml if this host only connects"
        ),
        io::ErrorKind::PermissionDenied => {
            "give the agent CAP_NET_BIND_SERVICE, or set [bgp] listen-port = 0 in agent.toml if \
                                            this host only connects"
                .to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            "add the address that the neighbours have as source to this host, or correct source in agent.toml"
                .to_owned()
        }
        _ => {
            "it is tried again; set [bgp] listen-port = 0 in agent.toml if this host only connects".to_owned()
        }
    };
    Finding::new("bgp-port", format!("[bgp] listen-port {port}: {error}: {cost}"), fix)
}
