//! A trace of the path between two nodes, or between containers on them, with both agents.
//!
//! Three rounds: each agent checks its own host, then the path to the other one's bridge, which it probes; then each reports
//! how many probes have arrived meanwhile. An agent that does not answer gets no further questions.

use std::net::Ipv6Addr;

use sextant_proto::{
    NodeName, PoolName, Prefix,
    convert::{address, octets},
    trace::{Check, Direction, Kind, Probe, State},
    v1::{self, answer, question::About},
};
use tonic::Status;

use super::{
    Services,
    ends::{self, End},
    questions,
    status::malformed,
};
use crate::trace::{End as PathEnd, Half, judge};

/// The path between two ends, in both directions; in each pool that both have a prefix of, else between their primary prefixes.
pub(super) async fn trace(services: &Services, from: &str, to: &str) -> Result<v1::TraceResponse, Status> {
    let (from, to) = (ends::resolve(services, from).await?, ends::resolve(services, to).await?);
    if from.node == to.node {
        return Err(Status::invalid_argument(same_node(&from, &to)));
    }
    let pools = shared_pools(services, &from, &to);
    if let Some(end) = [&from, &to].into_iter().find(|end| pools.is_empty() && end.container.is_some()) {
        return Err(Status::failed_precondition(no_shared_address(end)));
    }
    let mut response = v1::TraceResponse::default();
    let paths: Vec<_> = pools
        .iter()
        .flat_map(|shared| {
            let paths = ends::paths((&from, shared.from), (&to, shared.to));
            paths.into_iter().map(move |path| (&shared.pool, path))
        })
        .collect();
    for (pool, (from, to)) in &paths {
        let of_pool = trace_in(services, from, to, Some(pool)).await?;
        let named = |direction: v1::Direction| match pools.len() {
            1 => direction,
            _ => v1::Direction { pool: pool.to_string(), ..direction },
        };
        response.directions.extend(of_pool.directions.into_iter().map(named));
        // An agent that has not answered once is asked no more.
        if !of_pool.unasked.is_empty() {
            response.unasked = of_pool.unasked;
            break;
        }
    }
    if pools.is_empty() { trace_in(services, &from, &to, None).await } else { Ok(response) }
}

fn same_node(from: &End, to: &End) -> String {
    match (&from.container, &to.container) {
        (None, None) => format!("both nodes are \"{}\"; name two nodes", from.node),
        _ => format!(
            "both ends are on node \"{}\": the path between them leaves no host; name ends on two nodes",
            from.node
        ),
    }
}

fn no_shared_address(end: &End) -> String {
    let addresses = end.container.iter().flat_map(|it| &it.addresses);
    let addresses: Vec<_> = addresses.map(|(network, addr)| format!("{addr} of network {network}")).collect();
    format!(
        "container {} on node \"{}\" has no address in a pool that both nodes have a prefix of; it has {}",
        end.container_name().unwrap_or_default(),
        end.node,
        addresses.join(", ")
    )
}

/// A pool that both ends have a prefix of, with these.
struct Shared {
    pool: PoolName,
    from: Prefix,
    to: Prefix,
}

/// The pools that both ends have a prefix of, and their containers an address; the first one's primary pool first.
fn shared_pools(services: &Services, from: &End, to: &End) -> Vec<Shared> {
    services.index.read(|state| {
        let (Some(at_from), Some(at_to)) = (state.peers().get(&from.node), state.peers().get(&to.node))
        else {
            return Vec::new();
        };
        let has = |end: &End, prefix| end.container.is_none() || end.address_in(prefix).is_some();
        let shared = at_from.claims.iter().filter_map(|claim| {
            let other = at_to.claim_in(&claim.pool)?;
            let (pool, from_prefix, to_prefix) = (claim.pool.clone(), claim.prefix, other.prefix);
            (has(from, from_prefix) && has(to, to_prefix)).then_some(Shared {
                pool,
                from: from_prefix,
                to: to_prefix,
            })
        });
        shared.collect()
    })
}

async fn trace_in(
    services: &Services,
    from: &End,
    to: &End,
    pool: Option<&PoolName>,
) -> Result<v1::TraceResponse, Status> {
    let (mut there, mut back) = (Side::new(services, from, pool), Side::new(services, to, pool));
    let (at_from, at_to) = (there.target(), back.target());
    tokio::join!(there.check_host(at_to), back.check_host(at_from));
    let (to_target, from_target) = (back.target(), there.target());
    tokio::join!(there.check_path(&to.node, to_target), back.check_path(&from.node, from_target));
    tokio::join!(there.count(), back.count());
    let directions = [direction(services, &there, &back)?, direction(services, &back, &there)?];
    let unasked = |side: &Side<'_>| {
        let why = side.half.missing.clone()?;
        Some(v1::Unasked { node: side.end.node.to_string(), why })
    };
    Ok(v1::TraceResponse {
        directions: directions.iter().map(Into::into).collect(),
        unasked: [&there, &back].into_iter().filter_map(unasked).collect(),
    })
}

/// One of the two ends, with the answers of its node's agent.
struct Side<'a> {
    services: &'a Services,
    end: &'a End,
    /// The pool whose prefixes are probed; `None`: each node's primary one.
    pool: Option<&'a PoolName>,
    host: Option<v1::HostLook>,
    path: Option<v1::WayLook>,
    /// The counters of `host` after the probes.
    after: Option<v1::HostLook>,
    half: Half,
}

impl<'a> Side<'a> {
    fn new(services: &'a Services, end: &'a End, pool: Option<&'a PoolName>) -> Self {
        Self { services, end, pool, host: None, path: None, after: None, half: Half::default() }
    }

    /// `from` is the address that packets of the other end have.
    async fn check_host(&mut self, from: Option<Ipv6Addr>) {
        let pool = self.pool.map(ToString::to_string).unwrap_or_default();
        let container = self.end.container.as_ref().and_then(|_| self.target());
        let [from, to] = [from, container].map(|addr| addr.map(octets).unwrap_or_default());
        let question = v1::HostQuestion { only_count: false, pool, from, to };
        if let Some(answer::About::Host(observed)) = self.ask(About::Host(question)).await {
            self.half.host = observed.checks.iter().cloned().map(Check::from).collect();
            self.half.arriving = observed.arriving.iter().cloned().map(Check::from).collect();
            self.host = Some(observed);
        }
    }

    async fn check_path(&mut self, node: &NodeName, target: Option<Ipv6Addr>) {
        let Some(target) = target else { return };
        let question = v1::WayQuestion { node: node.to_string(), address: octets(target) };
        if let Some(answer::About::Way(observed)) = self.ask(About::Way(question)).await {
            self.half.path = observed.checks.iter().cloned().map(Check::from).collect();
            self.path = Some(observed);
        }
    }

    async fn count(&mut self) {
        if let Some(answer::About::Host(observed)) =
            self.ask(About::Host(v1::HostQuestion { only_count: true, ..Default::default() })).await
        {
            self.after = Some(observed);
        }
    }

    async fn ask(&mut self, about: About) -> Option<answer::About> {
        if self.half.missing.is_some() {
            return None;
        }
        match questions::ask(self.services, &self.end.node, about).await {
            Ok(answer) => Some(answer),
            Err(status) => {
                self.half.missing = Some(status.message().to_owned());
                None
            }
        }
    }

    /// The address to probe: that of its container; else the address of its bridge, or the address that the bridge should have.
    fn target(&self) -> Option<Ipv6Addr> {
        let reported = self.host.as_ref().and_then(|host| address(&host.bridge_address).ok());
        self.services.index.read(|state| {
            let node = &state.nodes().get(&self.end.node)?.record;
            let in_pool = self.pool.and_then(|pool| node.claim_in(pool));
            let claim = in_pool.or(node.claims.first())?;
            if self.end.container.is_some() {
                return self.end.address_in(claim.prefix);
            }
            if reported.is_none() && self.has_no_bridge() {
                return None;
            }
            // An agent of an earlier version reports the address in its only prefix.
            let reported = reported.filter(|address| claim.prefix.contains(*address));
            Some(
                reported.unwrap_or_else(|| {
                    claim.container_prefixes.first().unwrap_or(&claim.prefix).first_host()
                }),
            )
        })
    }

    /// Whether its agent says that nothing there answers probes: Docker's IPAM driver has no network yet.
    fn has_no_bridge(&self) -> bool {
        self.half.host.iter().any(|check| check.what == "bridge" && check.state == State::Silent)
    }

    /// The number of received probes of this kind; other packets of the same kind are included.
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

fn direction(services: &Services, from: &Side<'_>, to: &Side<'_>) -> Result<Direction, Status> {
    let with_probe = |side: &Side<'_>| {
        let probe = side.path.as_ref().and_then(|path| path.probe.clone()).map(Probe::try_from).transpose();
        Ok::<_, Status>(Half { probe: probe.map_err(malformed)?, ..side.half.clone() })
    };
    let (source, destination) = (with_probe(from)?, with_probe(to)?);
    let probe = source.probe.as_ref();
    // A host does not count what it forwards to its containers.
    let counted = probe.filter(|_| to.end.container.is_none());
    let arrived = counted.and_then(|probe| Some(to.arrived(probe.kind)?.min(probe.sent)));
    let node_of = |addr: Ipv6Addr| {
        services.index.read(|state| {
            let mut peers = state.peers().values();
            peers
                .find(|peer| {
                    let holds = peer.claims.iter().any(|claim| claim.prefix.contains(addr));
                    holds || peer.next_hops.contains(&addr)
                })
                .map(|peer| peer.name.clone())
        })
    };
    let at = |side: &'_ Side<'_>| side.end.node.clone();
    let (start, end) = (at(from), at(to));
    let judged = judge(
        PathEnd { node: &start, half: &source },
        PathEnd { node: &end, half: &destination },
        arrived,
        node_of,
    );
    let (from_container, to_container) = (from.end.container_name(), to.end.container_name());
    Ok(Direction { from_container, to_container, ..judged })
}
