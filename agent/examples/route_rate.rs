//! Compares the speed of `apply` with bare sends of the same messages.
//!
//! `cargo run --release --example route_rate [ROUTES] [ROUNDS]`, as root. Each measurement has its own network namespace.

use std::{
    net::Ipv6Addr,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteType},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::sched::{CloneFlags, unshare};
use sextant_agent::kernel::{Change, Kernel, NetlinkKernel, NextHop, OwnRoute, RouteKey, RouteTarget, Scope};
use sextant_proto::Prefix;

const MAIN: u32 = 254;
const METRIC: u32 = 512;
/// Messages in a bare send; only the last of all asks for an acknowledgement.
const MESSAGES_PER_SEND: usize = 1024;
const GATEWAY: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let routes: u32 = arguments.next().map_or(Ok(100_000), |text| text.parse())?;
    let rounds: u32 = arguments.next().map_or(Ok(5), |text| text.parse())?;
    let (mut bare, mut applied) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        bare.push(in_namespace(move |link| bare_sends(routes, link))?);
        applied.push(in_namespace(move |link| apply(routes, link))?);
        println!(
            "round {round}: bare sends {:.0?}, apply {:.0?}",
            bare[bare.len() - 1],
            applied[applied.len() - 1]
        );
    }
    let (bare, applied) = (median(bare), median(applied));
    let ratio = applied.as_secs_f64() / bare.as_secs_f64();
    println!("{routes} routes, medians: bare sends {bare:.0?}, apply {applied:.0?}, ratio {ratio:.2}");
    Ok(())
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort_unstable();
    all.get(all.len() / 2).copied().unwrap_or_default()
}

/// Measures on a thread in a new network namespace with an uplink; the argument is the uplink's index.
fn in_namespace(
    measure: impl FnOnce(u32) -> anyhow::Result<Duration> + Send + 'static,
) -> anyhow::Result<Duration> {
    let run = move || {
        unshare(CloneFlags::CLONE_NEWNET).context("cannot create a network namespace; run as root")?;
        for line in [
            "link add up0 type veth peer name far0",
            "link set far0 up",
            "link set up0 up",
            "addr add 2001:db8::1/64 dev up0 nodad",
        ] {
            let done = Command::new("ip").args(line.split(' ')).status()?;
            ensure!(done.success(), "ip {line} failed");
        }
        let index = std::fs::read_to_string("/proc/thread-self/net/igmp6")?;
        let up0 = index.lines().map(str::split_whitespace).find_map(|mut words| {
            let index = words.next()?;
            (words.next()? == "up0").then(|| index.parse().ok())?
        });
        measure(up0.context("up0 has no index")?)
    };
    std::thread::spawn(run).join().map_err(|_| anyhow::anyhow!("the measurement panicked"))?
}

fn apply(routes: u32, link: u32) -> anyhow::Result<Duration> {
    let changes: Vec<Change> = (0..routes).map(|n| Change::Add(route(n, link))).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let kernel = NetlinkKernel::open()?;
        let start = Instant::now();
        let results = kernel.apply(&changes).await?;
        let took = start.elapsed();
        ensure!(results.iter().all(Result::is_ok), "not all routes were added");
        check(&kernel, routes).await?;
        Ok(took)
    })
}

fn bare_sends(routes: u32, link: u32) -> anyhow::Result<Duration> {
    let messages: Vec<Vec<u8>> = (0..routes).map(|n| encoded(&route(n, link), n + 1 == routes)).collect();
    let sends: Vec<Vec<u8>> = messages.chunks(MESSAGES_PER_SEND).map(|chunk| chunk.concat()).collect();
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let start = Instant::now();
    for send in &sends {
        socket.send(send, 0)?;
    }
    let (answer, _) = socket.recv_from_full()?;
    let took = start.elapsed();
    ensure!(answer[16..20] == [0; 4], "a route was refused");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { check(&NetlinkKernel::open()?, routes).await })?;
    Ok(took)
}

async fn check(kernel: &NetlinkKernel, routes: u32) -> anyhow::Result<()> {
    let start = Instant::now();
    let found = kernel.routes(Scope::Ours).await?.len();
    println!("  dump of {found} routes: {:.0?}", start.elapsed());
    ensure!(found == routes as usize, "{found} of {routes} routes are there");
    Ok(())
}

fn route(n: u32, link: u32) -> OwnRoute {
    let hop = NextHop { gateway: Some(GATEWAY), link, onlink: false };
    let bits = Ipv6Addr::new(0x2001, 0xdb9, 0, 0, 0, 0, 0, 0).to_bits() | u128::from(n) << 64;
    let destination = Prefix::containing(Ipv6Addr::from_bits(bits), 64).expect("64 is a prefix length");
    OwnRoute {
        key: RouteKey { table: MAIN, destination, metric: METRIC },
        target: RouteTarget::Via([hop].into()),
    }
}

/// The message of `apply`, encoded by `netlink-packet-route`.
fn encoded(route: &OwnRoute, last: bool) -> Vec<u8> {
    let RouteTarget::Via(hops) = &route.target else {
        return Vec::new();
    };
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet6;
    message.header.destination_prefix_length = route.key.destination.len();
    message.header.table = MAIN as u8;
    message.header.protocol = RouteProtocol::Other(sextant_proto::ROUTE_PROTOCOL);
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![
        RouteAttribute::Destination(RouteAddress::Inet6(route.key.destination.addr())),
        RouteAttribute::Table(MAIN),
        RouteAttribute::Priority(METRIC),
    ];
    for hop in hops {
        message.attributes.push(RouteAttribute::Gateway(RouteAddress::Inet6(hop.gateway.unwrap_or(GATEWAY))));
        message.attributes.push(RouteAttribute::Oif(hop.link));
    }
    let mut message = NetlinkMessage::from(RouteNetlinkMessage::NewRoute(message));
    message.header.flags = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL | if last { NLM_F_ACK } else { 0 };
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}
