//! One neighbour: carries out what the state machine says, and tells the neighbour what should be announced.
//!
//! The state machine (RFC 4271 §8) comes from `rustbgpd-fsm`; it holds one connection. A second one, which the neighbour has
//! opened meanwhile, has one of its own until one of both is closed ([`collision`]).

mod acting;
mod collision;
mod finding;
mod learning;
mod shutting;
mod telling;
mod way;

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use futures::future::{BoxFuture, OptionFuture};
use rustbgpd_fsm::{Event, PeerConfig, Session, SessionState, TimerType};
use rustbgpd_wire::{Afi, Message, OpenMessage, Safi, UpdateMessage};
use sextant_proto::NodeName;
use tokio::{
    net::TcpStream,
    sync::{mpsc, watch},
    time::Instant,
};

use collision::Rival;

use super::{
    paths::{Paths, Wanted},
    peer::bfd::{self as watched, Watched},
    peer::open::{self as opening, Restart},
    peer::timers::{Timers, expiry, until},
    rib::Learner,
    sockets,
    sockets::connection::{self, Connection},
    sockets::discovery::{self, Discovery},
    status::{Status, words},
    wire::decode::{Misread, Treatment, asks_for_ours, read_update},
};
use crate::{
    bfd::Health,
    settings::{BgpSettings, NeighbourSettings},
};

/// What all neighbours' tasks share.
#[derive(Debug, Clone)]
pub(super) struct Ours {
    pub(super) bgp: Arc<BgpSettings>,
    pub(super) router_id: Ipv4Addr,
    pub(super) restart: Restart,
    pub(super) node: NodeName,
    pub(super) wanted: watch::Receiver<Wanted>,
}

/// Whom one neighbour's task works with.
pub(super) struct Around {
    /// Connections that the neighbour opens.
    pub(super) incoming: mpsc::Receiver<TcpStream>,
    /// Where it is told what is known of it.
    pub(super) status: Status,
    /// Whether the way to it works.
    pub(super) watched: Option<Watched>,
    /// Who takes in what it announces, if that is wanted.
    pub(super) learner: Option<Learner>,
}

pub(super) struct Neighbour {
    bgp: Arc<BgpSettings>,
    settings: NeighbourSettings,
    restart: Restart,
    config: PeerConfig,
    fsm: Session,
    connection: Option<Connection>,
    /// We have opened it.
    dialed: bool,
    /// A second connection, opened by the neighbour.
    rival: Option<Box<Rival>>,
    established_at: Option<Instant>,
    /// When a connection should have become a session.
    due_at: Option<Instant>,
    dialing: OptionFuture<BoxFuture<'static, io::Result<TcpStream>>>,
    incoming: mpsc::Receiver<TcpStream>,
    node: NodeName,
    wanted: watch::Receiver<Wanted>,
    /// The host is drained.
    shut: bool,
    told: Paths,
    timers: Timers,
    start_at: Option<Instant>,
    failures: u32,
    four_octet_as: bool,
    status: Status,
    watched: Option<Watched>,
    /// What the neighbour has opened over a way that has failed.
    parked: Option<TcpStream>,
    learner: Option<Learner>,
    router_id: Ipv4Addr,
    discovery: Option<Discovery>,
}

enum Happening {
    Dialed(io::Result<TcpStream>),
    Incoming(TcpStream),
    Read(io::Result<usize>),
    RivalRead(io::Result<usize>),
    Wanted,
    Timer(TimerType),
    Way(Health),
    Found(io::Result<Ipv6Addr>),
    Due,
    Start,
}

impl Neighbour {
    pub(super) fn new(
        ours: Ours,
        settings: NeighbourSettings,
        Around { incoming, status, watched, learner }: Around,
    ) -> Self {
        let config = opening::config(&ours.bgp, &settings, ours.router_id);
        let sought = settings.interface.clone().filter(|_| settings.address.is_unspecified());
        let discovery = sought.map(Discovery::new);
        let drained = ours.wanted.borrow().drained;
        let mut neighbour = Self {
            bgp: ours.bgp,
            node: ours.node,
            shut: false,
            settings,
            restart: ours.restart,
            fsm: Session::new(config.clone()),
            config,
            connection: None,
            dialed: false,
            rival: None,
            established_at: None,
            due_at: None,
            dialing: None.into(),
            incoming,
            wanted: ours.wanted,
            told: Paths::new(),
            timers: Timers::default(),
            start_at: Some(Instant::now()),
            failures: 0,
            four_octet_as: true,
            status,
            watched,
            parked: None,
            learner,
            router_id: ours.router_id,
            discovery,
        };
        if drained {
            neighbour.stay_shut();
        }
        neighbour
    }

    /// Speaks with the neighbour, for ever.
    pub(super) async fn run(mut self) -> Infallible {
        loop {
            let happening = self.next().await;
            self.take(happening).await;
            self.take_rival().await;
        }
    }

    async fn next(&mut self) -> Happening {
        let timer = self.timers.next();
        tokio::select! {
            Some(dialed) = &mut self.dialing => {
                self.dialing = None.into();
                Happening::Dialed(dialed)
            }
            Some(stream) = self.incoming.recv() => Happening::Incoming(stream),
            read = connection::read(&mut self.connection) => Happening::Read(read),
            read = collision::read(&mut self.rival) => Happening::RivalRead(read),
            Ok(()) = self.wanted.changed() => Happening::Wanted,
            health = watched::changed(&mut self.watched) => Happening::Way(health),
            found = discovery::heard(&mut self.discovery) => Happening::Found(found),
            timer = expiry(timer) => Happening::Timer(timer),
            () = until(self.due_at) => Happening::Due,
            () = until(self.start_at) => Happening::Start,
        }
    }

    async fn take(&mut self, happening: Happening) {
        match happening {
            Happening::Start => {
                self.start_at = None;
                self.aim();
                self.feed(Event::ManualStart).await;
                if let Some(stream) = self.parked.take() {
                    self.incoming(stream).await;
                }
            }
            Happening::Dialed(Ok(stream)) => self.connected(stream, Event::TcpConnectionConfirmed).await,
            Happening::Dialed(Err(error)) => self.failed(&error).await,
            Happening::Incoming(stream) if self.shut => drop(stream),
            Happening::Incoming(stream) => self.incoming(stream).await,
            Happening::Read(Ok(0)) => {
                let closed =
                    io::Error::new(io::ErrorKind::UnexpectedEof, "the neighbour closed the connection");
                self.failed(&closed).await;
            }
            Happening::Read(Ok(_)) => self.messages().await,
            Happening::Read(Err(error)) => self.failed(&error).await,
            Happening::RivalRead(read) => self.rival_was_read(read).await,
            Happening::Wanted => self.follow_wanted().await,
            Happening::Timer(timer) => self.expired(timer).await,
            Happening::Due => {
                self.due_at = None;
                self.status.error(sockets::no_session(&self.settings));
            }
            Happening::Way(health) => self.way(health).await,
            Happening::Found(found) => self.found(found).await,
        }
    }

    async fn expired(&mut self, timer: TimerType) {
        self.timers.set(timer, None);
        let event = match timer {
            TimerType::Hold => {
                let agreed = self.fsm.negotiated().map(|session| session.hold_time);
                if let (Some(connection), None) = (&self.connection, agreed) {
                    connection.take_back();
                }
                self.status.error(match agreed {
                    Some(secs) => format!("nothing heard for the hold time of {secs} s"),
                    None => "it has not said who it is".to_owned(),
                });
                Event::HoldTimerExpires
            }
            TimerType::Keepalive => Event::KeepaliveTimerExpires,
            _ => Event::ConnectRetryTimerExpires,
        };
        self.feed(event).await;
    }

    async fn failed(&mut self, error: &io::Error) {
        self.status.error(error.to_string());
        self.feed(Event::TcpConnectionFails).await;
    }

    async fn connected(&mut self, stream: TcpStream, event: Event) {
        if self.connection.is_some()
            || !matches!(self.fsm.state(), SessionState::Connect | SessionState::Active)
        {
            return;
        }
        (self.dialing, self.dialed) = (None.into(), matches!(event, Event::TcpConnectionConfirmed));
        self.connection = Some(Connection::new(stream));
        self.feed(event).await;
    }

    async fn messages(&mut self) {
        while let Some(connection) = &mut self.connection {
            match connection.next_message() {
                Ok(Some(message)) => self.message(message).await,
                Ok(None) => return,
                Err(error) => {
                    self.status.error(format!("it sent what cannot be read: {error}"));
                    self.feed(match error {
                        Misread::Answered(error) => Event::DecodeError(error),
                        Misread::Notification(_) => Event::TcpConnectionFails,
                    })
                    .await;
                }
            }
        }
    }

    async fn message(&mut self, message: Message) {
        match message {
            Message::Open(open) => self.open(open).await,
            Message::Keepalive => self.feed(Event::KeepaliveReceived).await,
            Message::Notification(notification) => {
                self.status.notified(false);
                // Of two connections one is closed: that is as it should be.
                if self.rival.is_none() {
                    self.status.error(format!("it ended the session: {}", words(&notification)));
                }
                self.feed(Event::NotificationReceived(notification)).await;
            }
            Message::Update(update) => self.update(&update).await,
            Message::RouteRefresh(refresh) => {
                self.feed(Event::RouteRefreshReceived { afi: Afi::Ipv6, safi: Safi::Unicast }).await;
                if asks_for_ours(&refresh) {
                    self.told.clear();
                    self.tell_news().await;
                }
            }
            _ => {}
        }
    }

    async fn update(&mut self, update: &UpdateMessage) {
        self.status.received();
        let Some(between) = self.voice().map(|voice| voice.between()) else { return };
        match read_update(update, between) {
            Ok(read) => {
                if !read.faults.is_empty() {
                    let outcome = match read.treatment {
                        Treatment::AsWithdrawal => "what it announces counts as withdrawn",
                        Treatment::AttributesDiscarded | Treatment::Taken => "it is taken without that",
                    };
                    let faults = read.faults.join("; ");
                    self.status.error(format!("it sent an UPDATE that is wrong ({faults}): {outcome}"));
                }
                self.feed(Event::UpdateReceived).await;
                self.learn(&read).await;
            }
            Err(error) => {
                self.status.error(format!("it sent what cannot be read: {error}"));
                self.feed(Event::DecodeError(error)).await;
            }
        }
    }

    async fn open(&mut self, open: OpenMessage) {
        let (theirs, configured) = (open.four_byte_as(), self.settings.remote_as);
        self.feed(Event::OpenReceived(open)).await;
        if theirs != configured {
            self.status.error(format!("it is AS {theirs}, not {configured}; mend remote-as in agent.toml"));
        }
    }
}
