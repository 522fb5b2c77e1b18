//! A network namespace for each test, and functions for its routes.

use std::{
    io::Write as _,
    net::Ipv6Addr,
    process::{Command, Stdio},
};

use nix::sched::{CloneFlags, unshare};
use sextant_agent::kernel::{
    Change, Kernel, NetlinkKernel, NextHop, OwnRoute, Route, RouteKey, RouteTarget, Scope,
};

/// The main table.
pub const MAIN: u32 = 254;
/// The metric of peers.
pub const METRIC: u32 = 512;

/// Runs a test on a thread of its own, in a network namespace of its own with an uplink: `up0` has `2001:db8::1/64`, and
/// its other end `far0` is up.
pub fn with_uplink<F: AsyncFnOnce(NetlinkKernel, u32) + Send + 'static>(test: F) {
    in_namespace(async || {
        ip("link add up0 type veth peer name far0");
        ip("link set far0 up");
        ip("link set up0 up");
        ip("addr add 2001:db8::1/64 dev up0 nodad");
        let kernel = NetlinkKernel::open().unwrap();
        let up0 = link_index(&kernel, "up0").await;
        test(kernel, up0).await;
    });
}

/// Runs a test on a thread of its own, in a network namespace of its own.
pub fn in_namespace<F: AsyncFnOnce() + Send + 'static>(test: F) {
    let run = move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace of its own; run this as root");
        ip("link set lo up");
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build().unwrap().block_on(test());
    };
    if let Err(panic) = std::thread::spawn(run).join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs `ip -6` with arguments; returns its output.
pub fn ip(arguments: &str) -> String {
    try_ip(arguments).unwrap_or_else(|error| panic!("ip -6 {arguments}: {error}"))
}

/// Runs `ip -6` with arguments; returns its output, or its error message.
pub fn try_ip(arguments: &str) -> Result<String, String> {
    run(&format!("-6 {arguments}"))
}

/// Runs `ip` with arguments; returns its output, or its error message.
pub fn run(arguments: &str) -> Result<String, String> {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap())
    } else {
        Err(String::from_utf8(output.stderr).unwrap())
    }
}

/// Runs lines of `ip -6 -batch`, and blocks the calling thread.
pub fn ip_batch(lines: impl Iterator<Item = String>) {
    let mut ip = Command::new("ip").args(["-6", "-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = ip.stdin.take().unwrap();
    for line in lines {
        writeln!(stdin, "{line}").unwrap();
    }
    drop(stdin);
    assert!(ip.wait().unwrap().success());
}

/// The index of a link.
pub async fn link_index(kernel: &NetlinkKernel, name: &str) -> u32 {
    let links = kernel.links().await.unwrap();
    links.iter().find(|link| link.name == name).unwrap_or_else(|| panic!("no {name} in {links:?}")).index
}

/// A route of the main table through gateways.
pub fn via(destination: &str, gateways: &[&str], link: u32) -> OwnRoute {
    let hops = gateways.iter().map(|gateway| NextHop {
        gateway: Some(gateway.parse().unwrap()),
        link,
        onlink: false,
    });
    OwnRoute { key: key(destination), target: RouteTarget::Via(hops.collect()) }
}

/// An unreachable route of the main table.
pub fn unreachable(destination: &str) -> OwnRoute {
    OwnRoute { key: key(destination), target: RouteTarget::Unreachable }
}

/// The key of a route of the main table.
pub fn key(destination: &str) -> RouteKey {
    RouteKey { table: MAIN, destination: destination.parse().unwrap(), metric: METRIC }
}

/// The `n`-th of many /64.
pub fn nth_destination(n: u32) -> String {
    let [high, low] = [n >> 16, n & 0xffff];
    format!("{}/64", Ipv6Addr::from([0x2001, 0xdb9, high as u16, low as u16, 0, 0, 0, 0]))
}

/// Applies changes, which must all succeed.
pub async fn done(kernel: &NetlinkKernel, changes: &[Change]) {
    for (change, result) in changes.iter().zip(kernel.apply(changes).await.unwrap()) {
        assert_eq!(result, Ok(()), "{change:?}");
    }
}

/// The errnos of changes; 0 for success.
pub async fn errnos(kernel: &dyn Kernel, changes: &[Change]) -> Vec<i32> {
    let results = kernel.apply(changes).await.unwrap();
    results.into_iter().map(|result| result.err().map_or(0, |errno| errno.code)).collect()
}

/// Our routes.
pub async fn ours(kernel: &dyn Kernel) -> Vec<OwnRoute> {
    let mut routes = kernel.routes(Scope::Ours).await.unwrap();
    routes.sort_by_key(|route| route.key);
    routes.into_iter().map(|Route { key, target, .. }| OwnRoute { key, target }).collect()
}
