//! Has two agents look at the way between them.
//!
//! Three rounds: each looks at its own host, then at the way to the other one's bridge, which it probes; then each tells
//! how many probes have arrived meanwhile. An agent that does not answer once is not asked again.

use std::net::Ipv6Addr;

use sextant_proto::{
    NodeName,
    convert::{address, octets},
    trace::{Check, Direction, Kind, Probe},
    v1::{self, answer, question::About},
};
use tonic::Status;

use super::{Rooms, questions, status::malformed};
use crate::trace::{End, Half, judge};

/// The way between two nodes, there and back.
pub(super) async fn trace(
    rooms: &Rooms,
    from: &NodeName,
    to: &NodeName,
) -> Result<v1::TraceResponse, Status> {
    if from == to {
        return Err(Status::invalid_argument(format!("both nodes are \"{from}\"; name two nodes")));
    }
    questions::exists(rooms, from)?;
    questions::exists(rooms, to)?;
    let (mut there, mut back) = (Side::new(rooms, from), Side::new(rooms, to));
    tokio::join!(there.look_at_host(), back.look_at_host());
    let (to_target, from_target) = (back.target(), there.target());
    tokio::join!(there.look_at_way(to, to_target), back.look_at_way(from, from_target));
    tokio::join!(there.count(), back.count());
    let directions = [direction(rooms, &there, &back)?, direction(rooms, &back, &there)?];
    let unasked = |side: &Side<'_>| {
        let why = side.half.missing.clone()?;
        Some(v1::Unasked { node: side.node.to_string(), why })
    };
    Ok(v1::TraceResponse {
        directions: directions.iter().map(Into::into).collect(),
        unasked: [&there, &back].into_iter().filter_map(unasked).collect(),
    })
}

/// One of the two nodes, and what its agent has told.
struct Side<'a> {
    rooms: &'a Rooms,
    node: &'a NodeName,
    host: Option<v1::HostLook>,
    way: Option<v1::WayLook>,
    /// The same counters as in `host`, afterwards.
    after: Option<v1::HostLook>,
    half: Half,
}

impl<'a> Side<'a> {
    fn new(rooms: &'a Rooms, node: &'a NodeName) -> Self {
        Self { rooms, node, host: None, way: None, after: None, half: Half::default() }
    }

    async fn look_at_host(&mut self) {
        if let Some(answer::About::Host(look)) = self.ask(About::Host(v1::HostQuestion::default())).await {
            self.half.host = look.checks.iter().cloned().map(Check::from).collect();
            self.host = Some(look);
        }
    }

    async fn look_at_way(&mut self, node: &NodeName, target: Option<Ipv6Addr>) {
        let Some(target) = target else { return };
        let question = v1::WayQuestion { node: node.to_string(), address: octets(target) };
        if let Some(answer::About::Way(look)) = self.ask(About::Way(question)).await {
            self.half.way = look.checks.iter().cloned().map(Check::from).collect();
            self.way = Some(look);
        }
    }

    async fn count(&mut self) {
        if let Some(answer::About::Host(look)) =
            self.ask(About::Host(v1::HostQuestion { only_count: true })).await
        {
            self.after = Some(look);
        }
    }

    async fn ask(&mut self, about: About) -> Option<answer::About> {
        if self.half.missing.is_some() {
            return None;
        }
        match questions::ask(self.rooms, self.node, about).await {
            Ok(answer) => Some(answer),
            Err(status) => {
                self.half.missing = Some(status.message().to_owned());
                None
            }
        }
    }

    /// Where to probe it: its bridge's address, or what that should be.
    fn target(&self) -> Option<Ipv6Addr> {
        let told = self.host.as_ref().and_then(|host| address(&host.bridge_address).ok());
        told.or_else(|| {
            self.rooms.index.read(|state| {
                let node = &state.nodes().get(self.node)?.record;
                Some(node.container_prefix.unwrap_or(node.prefix).first_host())
            })
        })
    }

    /// How many probes of this kind have arrived, others' of the same kind among them.
    fn arrived(&self, kind: Kind) -> Option<u32> {
        let (before, after) = (self.host.as_ref()?, self.after.as_ref()?);
        let count = match kind {
            Kind::None => return None,
            Kind::Echo => after.echo_requests.saturating_sub(before.echo_requests),
            Kind::StrayDatagram => after.stray_datagrams.saturating_sub(before.stray_datagrams),
        };
        u32::try_from(count).ok()
    }
}

fn direction(rooms: &Rooms, from: &Side<'_>, to: &Side<'_>) -> Result<Direction, Status> {
    let with_probe = |side: &Side<'_>| {
        let probe = side.way.as_ref().and_then(|way| way.probe.clone()).map(Probe::try_from).transpose();
        Ok::<_, Status>(Half { probe: probe.map_err(malformed)?, ..side.half.clone() })
    };
    let (begin, end) = (with_probe(from)?, with_probe(to)?);
    let probe = begin.probe.as_ref();
    let arrived = probe.and_then(|probe| Some(to.arrived(probe.kind)?.min(probe.sent)));
    let whose = |addr: Ipv6Addr| {
        rooms.index.read(|state| {
            let mut peers = state.peers().values();
            peers
                .find(|peer| peer.prefix.contains(addr) || peer.next_hops.contains(&addr))
                .map(|peer| peer.name.clone())
        })
    };
    Ok(judge(End { node: from.node, half: &begin }, End { node: to.node, half: &end }, arrived, whose))
}
