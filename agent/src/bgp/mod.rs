//! A BGP-4 speaker for hosts: it announces to routers the prefixes of this host, or of all hosts.
//!
//! ```text
//! input (session) ─► paths ─► news ─► wire ─► sockets ─► router
//! ```
//!
//! One essential task, [`Speaker::run`]: it waits until the host is set up, then listens, keeps one task for each neighbour,
//! and has them announce the result of [`paths`]. A port that is taken costs the sessions that need it, and is tried again. Routes that neighbours announce go
//! to [`rib`]. The agent's end closes the connections without a NOTIFICATION, so that routers with graceful restart keep the
//! routes (DESIGN I5).

#[cfg(any(test, feature = "fake"))]
#[doc(hidden)]
pub mod fuzzing;
mod listening;
mod meters;
mod neighbour;
mod passwords;
pub mod paths;
mod peer;
mod restart;
mod rib;
mod sockets;
mod status;
mod wire;

use std::{
    collections::HashMap,
    convert::Infallible,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use sextant_proto::{BgpNeighbour, Claim, NodeId, NodeName, NodeState, Peer, Prefix};
use tokio::{
    net::TcpStream,
    sync::{mpsc, watch},
    task::JoinSet,
};

use crate::{
    bfd::{self, Bfd, BfdError},
    cluster::{Input, Verdicts},
    engine::Report,
    problems::{Component, Problems},
    routes::Imports,
    settings::{BgpSettings, Import, NeighbourSettings},
    state::{Exported, StateDir, StateError, boot_id},
};

use listening::{Listened, Listening};
pub use meters::Meters;
use neighbour::{Links, Local, Neighbour};
use passwords::Passwords;
use paths::{Cluster, Wanted};
use rib::{AdjRibIn, RibTask};
use status::Status;

/// Why the speaker cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The state directory.
    #[error(transparent)]
    State(#[from] StateError),
    /// The ways to neighbours cannot be watched.
    #[error(transparent)]
    Bfd(#[from] BfdError),
    /// A neighbour's task has panicked.
    #[error("a neighbour's task has ended: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// The speaker of this host.
pub struct Speaker {
    /// The `[bgp]` settings.
    pub settings: BgpSettings,
    /// This node.
    pub node: NodeName,
    /// The session's view of the cluster.
    pub input: watch::Receiver<Input>,
    /// Whether the host is set up.
    pub report: watch::Receiver<Report>,
    /// Verdicts on hosts without agents.
    pub verdicts: watch::Receiver<Arc<Verdicts>>,
    /// The states of the neighbours.
    pub status: watch::Sender<Vec<BgpNeighbour>>,
    /// Keeps the announced prefixes.
    pub state: Arc<StateDir>,
    /// The problems of this host.
    pub problems: Problems,
    /// Counters.
    pub meters: Meters,
    /// The routes that routers announce.
    pub imports: watch::Sender<Arc<Imports>>,
}

/// By the address and, where that does not say it, the interface of who knocks; an unspecified address is any on it.
type Acceptors = HashMap<(Ipv6Addr, Option<Arc<str>>), mpsc::Sender<TcpStream>>;

impl Speaker {
    /// Speaks, for as long as there is a session.
    ///
    /// # Errors
    /// An [`ExportError`].
    pub async fn run(mut self) -> Result<(), ExportError> {
        let before = self.state.exported()?;
        let mut remembered = before.as_ref().map(Exported::prefixes).unwrap_or_default();
        let Some(first) = self.wait_until_set_up(&remembered).await else { return Ok(()) };
        let boot = boot_id();
        let restart = restart::since(before.as_ref(), &boot);
        let bgp = Arc::new(self.settings.clone());
        let mut listening = Listening::new(bgp.clone());
        let mut passwords = Passwords::of(&bgp.neighbours);
        let (rekeyed_tx, rekeyed) = watch::channel(());
        let (wanted_tx, wanted) = watch::channel(first);
        let mut bfd = self.bfd()?;
        let mut tasks = JoinSet::new();
        let ribs = self.ribs(&mut tasks);
        let (node, report) = (self.node.clone(), self.report.clone());
        let local = Local {
            bgp,
            router_id: self.router_id()?,
            restart,
            node,
            wanted: wanted.clone(),
            report,
            rekeyed,
        };
        let acceptors = self.neighbours(&mut tasks, &local, bfd.as_ref(), ribs);
        loop {
            self.remember(&wanted, &boot, &mut remembered)?;
            let findings = listening.finding().into_iter().chain(bfd.as_mut().and_then(Bfd::finding));
            self.problems.report(Component::Bgp, findings.chain(passwords.findings()).collect());
            tokio::select! {
                changed = self.input.changed() => if changed.is_err() { return Ok(()) },
                Ok(()) = self.verdicts.changed() => {}
                listened = listening.next() => match listened {
                    Listened::Accepted(stream, from) => hand_over(stream, from, &acceptors),
                    Listened::Tried => {}
                },
                () = passwords.due() => if passwords.read_again() {
                    listening.sign();
                    rekeyed_tx.send_replace(());
                },
                changed = changed(&mut bfd) => changed?,
                Some(ended) = tasks.join_next() => match ended? {},
            }
            let now = self.wanted(&remembered);
            wanted_tx.send_if_modified(|before| {
                let changed = *before != now;
                *before = now;
                changed
            });
        }
    }

    /// The first paths. The prefixes that were announced before an agent's restart are announced at once, or are known to be
    /// released; otherwise the first End-of-RIB would withdraw them. `None` if the session has ended.
    async fn wait_until_set_up(&mut self, remembered: &[Prefix]) -> Option<Wanted> {
        loop {
            let wanted = self.wanted(remembered);
            let settled = {
                let input = self.input.borrow_and_update();
                let own = input.view.peer(&self.node).map(Peer::state);
                let gone = matches!(own, Some(NodeState::Draining | NodeState::Drained));
                let claimed = announced_claims(&input.claims, &self.settings);
                let was_announced = |prefix: &Prefix| remembered.contains(prefix);
                let announced = |prefix: &Prefix| wanted.paths.contains_key(prefix);
                let complete = claimed.iter().filter(|prefix| was_announced(prefix)).all(announced);
                gone || (complete && (own.is_some() || claimed.iter().any(announced)))
            };
            if settled && self.report.borrow_and_update().set_up {
                return Some(wanted);
            }
            tokio::select! {
                changed = self.input.changed() => changed.ok()?,
                changed = self.report.changed() => changed.ok()?,
            }
        }
    }

    fn wanted(&mut self, remembered: &[Prefix]) -> Wanted {
        let input = self.input.borrow_and_update().clone();
        let verdicts = self.verdicts.borrow_and_update().clone();
        let cluster = Cluster {
            node: &self.node,
            claims: &input.claims,
            view: &input.view,
            verdicts: &verdicts,
            withdrawn: input.withdrawn,
            remembered,
        };
        let own = input.view.peer(&self.node).map(Peer::state);
        let paths = paths::paths(&cluster, &self.settings);
        Wanted { paths, drained: own == Some(NodeState::Drained) }
    }

    fn neighbours(
        &self,
        tasks: &mut JoinSet<Infallible>,
        local: &Local,
        bfd: Option<&Bfd>,
        ribs: Vec<AdjRibIn>,
    ) -> Acceptors {
        let mut acceptors = Acceptors::new();
        let mut watched = 0..;
        let mut ribs = ribs.into_iter();
        for neighbour in &self.settings.neighbours {
            let (acceptor, incoming) = mpsc::channel(1);
            acceptors.insert((neighbour.address, neighbour.interface.clone()), acceptor);
            let status = Status::new(self.status.clone(), neighbour, &self.meters);
            let nth = neighbour.bfd.and_then(|_| watched.next());
            let session = nth.zip(bfd).and_then(|(nth, bfd)| bfd.session(nth));
            let imports = neighbour.accept.import != Import::None;
            let rib = imports.then(|| ribs.next()).flatten();
            let links = Links { incoming, status, bfd: session, rib };
            tasks.spawn(Neighbour::new(local.clone(), neighbour.clone(), links).run());
        }
        acceptors
    }

    /// One for each neighbour whose routes are imported; their task is started.
    fn ribs(&self, tasks: &mut JoinSet<Infallible>) -> Vec<AdjRibIn> {
        let accepts = self.settings.neighbours.iter().map(|neighbour| &neighbour.accept);
        let max: Vec<_> = accepts.filter(|it| it.import != Import::None).map(|it| it.max).collect();
        if max.is_empty() {
            return Vec::new();
        }
        let (task, ribs) = RibTask::new(self.settings.import_metric, &max, self.imports.clone());
        tasks.spawn(task.run());
        ribs
    }

    /// One session for each neighbour that wants it.
    fn bfd(&self) -> Result<Option<Bfd>, BfdError> {
        let peer = |neighbour: &NeighbourSettings| {
            neighbour.bfd.map(|timing| bfd::Peer { source: neighbour.source, timing })
        };
        let peers: Vec<_> = self.settings.neighbours.iter().filter_map(peer).collect();
        (!peers.is_empty()).then(|| Bfd::start(&peers)).transpose()
    }

    /// As configured, or state from the node id, which is as random and stays.
    fn router_id(&self) -> Result<Ipv4Addr, StateError> {
        let id: NodeId = self.state.node_id()?;
        let [a, b, c, d, ..] = id.octets();
        let state = Ipv4Addr::from_bits(u32::from_be_bytes([a, b, c, d]).max(1));
        Ok(self.settings.router_id.unwrap_or(state))
    }

    /// Keeps what is announced, for the agent after this one.
    fn remember(
        &self,
        wanted: &watch::Receiver<Wanted>,
        boot: &str,
        remembered: &mut Vec<Prefix>,
    ) -> Result<(), StateError> {
        let claimed: Vec<_> = self.input.borrow().claims.iter().map(|claim| claim.prefix).collect();
        let announced = |prefix: &Prefix| wanted.borrow().paths.get(prefix).is_some_and(|path| !path.leaving);
        *remembered = claimed.into_iter().filter(announced).collect();
        self.state.keep_exported(&Exported::new(boot, remembered))
    }
}

/// The prefixes of the claims in announced pools.
fn announced_claims(claims: &[Claim], settings: &BgpSettings) -> Vec<Prefix> {
    let announced = claims.iter().filter(|claim| paths::is_announced(&claim.pool.name, settings));
    announced.map(|claim| claim.prefix).collect()
}

/// Hands a connection to the neighbour that has opened it.
fn hand_over(stream: TcpStream, from: SocketAddr, acceptors: &Acceptors) {
    let Some((address, interface)) = sockets::opener(from) else { return };
    let anybody = (Ipv6Addr::UNSPECIFIED, interface.clone());
    let acceptor = acceptors.get(&(address, interface)).or_else(|| acceptors.get(&anybody));
    let taken = acceptor.map(|acceptor| acceptor.try_send(stream).is_ok());
    if taken != Some(true) {
        tracing::debug!(%address, "a BGP connection of nobody that is configured, or one too many");
    }
}

/// Waits until BFD can or cannot listen, or has ended. Cancel safe.
async fn changed(bfd: &mut Option<Bfd>) -> Result<(), BfdError> {
    match bfd {
        Some(bfd) => bfd.changed().await,
        None => std::future::pending().await,
    }
}
