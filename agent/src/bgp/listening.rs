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

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, TcpListener as Occupant};

    use super::*;
    use crate::{
        bgp::wire::encode::tests::neighbour,
        settings::{Announce, PoolsSettings},
    };

    fn settings(listen_port: u16) -> Arc<BgpSettings> {
        Arc::new(BgpSettings {
            local_as: 65001,
            router_id: None,
            listen_port,
            announce: Announce::Own,
            import_metric: 768,
            pools: PoolsSettings::default(),
            neighbours: vec![NeighbourSettings { source: Some(Ipv6Addr::LOCALHOST), ..neighbour(65002) }],
        })
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_port_nothing_is_opened_now_or_later() {
        let mut it = Listening::new(settings(0));
        let hour = Duration::from_secs(3600);
        assert!(tokio::time::timeout(hour, it.next()).await.is_err());
        assert!(it.listener.is_none() && it.finding().is_none());
    }

    #[tokio::test]
    async fn a_taken_port_is_reported_and_tried_again_ever_less_often_until_it_is_free() {
        let occupant = Occupant::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
        let mut it = Listening::new(settings(occupant.local_addr().unwrap().port()));
        let finding = it.finding().unwrap();
        assert!(
            finding.what == "bgp-port" && finding.fix.contains("stop the other BGP daemon"),
            "{finding:?}"
        );
        assert_eq!(it.delay, FIRST_DELAY * 2);
        for _ in 0..10 {
            it.open();
        }
        assert_eq!(it.delay, LAST_DELAY);
        drop(occupant);
        it.open();
        assert!(it.finding().is_none() && it.listener.is_some());
    }
}
