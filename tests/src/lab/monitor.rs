//! Records every change of a namespace's IPv6 routes, with the time of the kernel's notification.
//!
//! One thread per monitor reads a netlink socket and adds timestamps, about ten microseconds after the change unless the CPUs
//! are busy. A query of the monitor first sends a no-op message over the same socket. The kernel queues the answer after all
//! earlier notifications, so the absence of changes is certain.

use std::{
    collections::HashMap,
    fmt,
    net::Ipv6Addr,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, bail};
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{
    RouteNetlinkMessage,
    route::{RouteAddress, RouteAttribute, RouteFlags, RouteMessage},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::{
    net::if_::if_indextoname,
    sys::socket::{setsockopt, sockopt},
};
use sextant_proto::Prefix;

use super::{
    namespace::Namespace,
    routes::{Hop, LOCAL, Route},
};

/// RTMGRP_IPV6_ROUTE of linux/rtnetlink.h.
const IPV6_ROUTES: u32 = 0x400;
/// Enough for the notifications of some 100,000 routes while the thread waits for a CPU.
const RECEIVE_BUFFER: usize = 64 << 20;
/// How long the kernel may take to answer the no-op.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The sequence number of the no-op that ends the thread.
const STOP: u32 = u32::MAX;

/// A change of one route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteEvent {
    /// When the notification was read, by the clock of log lines.
    pub at: SystemTime,
    /// Whether the route was removed; otherwise it was added, changed or replaced.
    pub gone: bool,
    /// The route.
    pub route: Route,
}

impl RouteEvent {
    /// The time from `earlier` to this change.
    ///
    /// # Panics
    /// If the change was before `earlier`.
    #[track_caller]
    pub fn after(&self, earlier: SystemTime) -> Duration {
        self.at
            .duration_since(earlier)
            .unwrap_or_else(|error| panic!("{self}: {:?} too early", error.duration()))
    }

    /// Microseconds since 1970.
    pub fn micros(&self) -> u128 {
        self.at.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros()
    }
}

impl fmt::Display for RouteEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.gone { '-' } else { '+' };
        write!(f, "{} {sign} {}", self.micros(), self.route)
    }
}

/// Records the route changes of a namespace from its start on; the local table is left out.
#[derive(Debug)]
pub struct RouteMonitor {
    name: String,
    socket: Arc<Socket>,
    record: Arc<Record>,
    queries: AtomicU32,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

#[derive(Debug, Default)]
struct Record {
    seen: Mutex<Seen>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Seen {
    events: Vec<RouteEvent>,
    answered: u32,
    failed: Option<String>,
}

impl RouteMonitor {
    /// Starts recording. All changes after its return are recorded.
    ///
    /// # Errors
    /// If the namespace is gone.
    pub fn start(namespace: &Namespace) -> anyhow::Result<Self> {
        let socket = Arc::new(namespace.enter(listen)?.context("netlink socket")?);
        let record = Arc::<Record>::default();
        let reader =
            Reader { socket: Arc::clone(&socket), record: Arc::clone(&record), names: HashMap::new() };
        let inside = namespace.clone();
        Ok(Self {
            name: namespace.name().to_owned(),
            socket,
            record,
            queries: AtomicU32::new(0),
            thread: Some(std::thread::spawn(move || inside.enter(|| reader.run()))),
        })
    }

    /// All changes up to this call.
    ///
    /// # Errors
    /// If the socket's buffer overran, or the thread has ended.
    pub fn events(&self) -> anyhow::Result<Vec<RouteEvent>> {
        let number = self.queries.fetch_add(1, Ordering::Relaxed) + 1;
        self.socket.send(&noop(number), 0)?;
        let seen = self.wait(ANSWER_TIMEOUT, |seen| (seen.answered >= number).then(|| seen.events.clone()));
        seen.with_context(|| format!("route monitor of {}", self.name))
    }

    /// Checks that no route changed after the first `skip` changes.
    ///
    /// # Errors
    /// If one did, with each change; or as [`RouteMonitor::events`].
    pub fn quiet_since(&self, skip: usize) -> anyhow::Result<()> {
        let events = self.events()?;
        let changes: Vec<_> = events.iter().skip(skip).map(ToString::to_string).collect();
        if !changes.is_empty() {
            bail!("routes of {} changed:\n{}", self.name, changes.join("\n"));
        }
        Ok(())
    }

    /// Waits for the first change for which `wanted` is true.
    ///
    /// # Errors
    /// On the deadline, with the changes so far; or as [`RouteMonitor::events`].
    pub fn wait_for(
        &self,
        deadline: Duration,
        wanted: impl Fn(&RouteEvent) -> bool,
    ) -> anyhow::Result<RouteEvent> {
        let found = self.wait(deadline, |seen| seen.events.iter().find(|event| wanted(event)).cloned());
        found.with_context(|| format!("route monitor of {}", self.name))
    }

    /// Waits until a route to `destination` is first added.
    ///
    /// # Errors
    /// As [`RouteMonitor::wait_for`].
    pub fn added(&self, destination: Prefix, deadline: Duration) -> anyhow::Result<RouteEvent> {
        self.wait_for(deadline, |event| !event.gone && event.route.destination == destination)
    }

    /// Waits until a route to `destination` is first removed.
    ///
    /// # Errors
    /// As [`RouteMonitor::wait_for`].
    pub fn removed(&self, destination: Prefix, deadline: Duration) -> anyhow::Result<RouteEvent> {
        self.wait_for(deadline, |event| event.gone && event.route.destination == destination)
    }

    fn wait<T>(&self, deadline: Duration, mut found: impl FnMut(&Seen) -> Option<T>) -> anyhow::Result<T> {
        let end = Instant::now() + deadline;
        let mut seen = self.record.lock();
        loop {
            if let Some(failed) = &seen.failed {
                bail!("{failed}");
            }
            if let Some(value) = found(&seen) {
                return Ok(value);
            }
            let Some(left) = end.checked_duration_since(Instant::now()) else {
                let events: Vec<_> = seen.events.iter().map(ToString::to_string).collect();
                bail!("no such change after {deadline:?}; changes:\n{}", events.join("\n"));
            };
            let waited = self.record.changed.wait_timeout(seen, left);
            seen = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for RouteMonitor {
    fn drop(&mut self) {
        let stopped = self.socket.send(&noop(STOP), 0).is_ok();
        if let Some(thread) = self.thread.take().filter(|_| stopped) {
            let _ = thread.join();
        }
    }
}

impl Record {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

fn listen() -> anyhow::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER)?;
    socket.bind(&SocketAddr::new(0, IPV6_ROUTES))?;
    Ok(socket)
}

/// A message that does nothing and is acknowledged: NLMSG_NOOP with NLM_F_REQUEST | NLM_F_ACK.
fn noop(number: u32) -> Vec<u8> {
    let mut message = 16_u32.to_ne_bytes().to_vec();
    message.extend(1_u16.to_ne_bytes());
    message.extend(5_u16.to_ne_bytes());
    message.extend(number.to_ne_bytes());
    message.extend(0_u32.to_ne_bytes());
    message
}

/// The thread: it runs in the namespace, so that interface indices are those of the namespace.
struct Reader {
    socket: Arc<Socket>,
    record: Arc<Record>,
    names: HashMap<u32, String>,
}

impl Reader {
    fn run(mut self) {
        loop {
            let received = self.socket.recv_from_full();
            let at = SystemTime::now();
            let outcome =
                received.map_err(anyhow::Error::from).and_then(|(bytes, _)| self.process(&bytes, at));
            match outcome {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    self.record.change(|seen| seen.failed = Some(format!("changes were lost: {error:#}")));
                    return;
                }
            }
        }
    }

    /// Processes the messages of one datagram; false at the message to stop.
    fn process(&mut self, mut bytes: &[u8], at: SystemTime) -> anyhow::Result<bool> {
        while !bytes.is_empty() {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes)?;
            let len = usize::try_from(message.header.length)?.next_multiple_of(4);
            bytes = bytes.get(len..).unwrap_or_default();
            match message.payload {
                NetlinkPayload::Error(_) if message.header.sequence_number == STOP => return Ok(false),
                NetlinkPayload::Error(_) => {
                    let number = message.header.sequence_number;
                    self.record.change(|seen| seen.answered = seen.answered.max(number));
                }
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(route)) => {
                    self.record(at, false, &route)?
                }
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelRoute(route)) => {
                    self.record(at, true, &route)?
                }
                _ => {}
            }
        }
        Ok(true)
    }

    fn record(&mut self, at: SystemTime, gone: bool, message: &RouteMessage) -> anyhow::Result<()> {
        let route = self.route(message)?;
        if route.table != LOCAL && !message.header.flags.contains(RouteFlags::Cloned) {
            self.record.change(|seen| seen.events.push(RouteEvent { at, gone, route }));
        }
        Ok(())
    }

    fn route(&mut self, message: &RouteMessage) -> anyhow::Result<Route> {
        let header = &message.header;
        let mut destination = Ipv6Addr::UNSPECIFIED;
        let (mut table, mut metric) = (u32::from(header.table), 0);
        let mut hops = Vec::new();
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(RouteAddress::Inet6(address)) => destination = *address,
                RouteAttribute::Table(number) => table = *number,
                RouteAttribute::Priority(number) => metric = *number,
                RouteAttribute::MultiPath(list) => {
                    let each = list.iter().map(|hop| self.hop(hop.interface_index, &hop.attributes));
                    hops.extend(each);
                }
                RouteAttribute::Oif(index) => hops.push(self.hop(*index, &message.attributes)),
                _ => {}
            }
        }
        let kind = u8::from(header.kind);
        hops.retain(|_| kind == 1);
        hops.sort();
        Ok(Route {
            destination: Prefix::new(destination, header.destination_prefix_length)?,
            kind,
            hops,
            protocol: header.protocol.into(),
            metric,
            table,
        })
    }

    fn hop(&mut self, index: u32, attributes: &[RouteAttribute]) -> Hop {
        let gateway = attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Gateway(RouteAddress::Inet6(address)) => Some(*address),
            _ => None,
        });
        let link = self.name_of(index);
        Hop { gateway, link }
    }

    /// Looks up the name each time, since links are renamed. A removed link keeps its last name.
    fn name_of(&mut self, index: u32) -> String {
        if let Ok(name) = if_indextoname(index) {
            self.names.insert(index, name.to_string_lossy().into_owned());
        }
        self.names.get(&index).cloned().unwrap_or_else(|| format!("if{index}"))
    }
}
