//! What changes: containers come and go, neighbours flood, links and programs fail.

use std::{
    net::Ipv6Addr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use sextant_tests::{BRIDGE, SECONDS, link_layer_option, try_poll};

use super::{Row, scene::Scene};

/// A new container is reached (from when its address is usable), and one that has ended is no more answered for.
const NEW: Duration = Duration::from_millis(300);
const GONE: Duration = Duration::from_secs(2);
const FLOOD: u32 = 50_000;
/// How often others ask meanwhile.
const ASKS: usize = 20;
/// What a scan of a prefix may cost.
const SCANNED_KIB: u64 = 16 << 10;
/// Neighbours of a link that do not answer.
const SCANNED_NEIGHBOURS: usize = 300;

pub(super) fn rows() -> Vec<Row> {
    vec![
        Row::new(
            "a container that has never sent anything is answered for",
            "static address, `nodad`",
            |scene| scene.answer(&scene.asker.solicitation(scene.silent.address())).map(drop),
        ),
        Row::new("new containers within 0.3 s, without an operator", "who starts them uses them", |scene| {
            for number in 0..5 {
                let container = scene.host.container(&format!("new{number}"))?;
                scene.asker.ask(&scene.asker.solicitation(container.address()), NEW)?;
            }
            Ok(())
        })
        .by_load(),
        Row::new("a new address is advertised to nodes and routers", "RFC 9131 §6.1.2", advertised),
        Row::new("no answer: an address whose container ended 2 s ago", "RFC 4861 §7.2.8", |scene| {
            let container = scene.speaking("gone")?;
            let ask = scene.asker.solicitation(container.address());
            scene.answer(&ask).context("while it lives")?;
            scene.end(&container);
            thread::sleep(GONE);
            scene.no_answer(&ask)
        }),
        Row::new("the host is in the groups of addresses in use", "RFC 4861 §7.2.1, MLD", |scene| {
            ensure!(scene.is_in_group(scene.container.address())?, "it is not");
            Ok(())
        }),
        Row::new("the host leaves them after the end of a container", "RFC 3810 §6.1", |scene| {
            let container = scene.speaking("left")?;
            try_poll(5 * SECONDS, || in_group(scene, container.address(), true))?;
            scene.end(&container);
            try_poll(5 * SECONDS, || in_group(scene, container.address(), false))
        }),
        Row::new(
            "50,000 solicitations a second of one neighbour cost others nothing",
            "RFC 6583 §6",
            flooded,
        )
        .by_load(),
        Row::new("a scan of the prefix leaves nothing behind", "RFC 6583 §5", scanned).by_load(),
        Row::new("answers again within 5 s after its link was down", "flaps of a switch's port", |scene| {
            let host = &scene.host;
            host.ip("link set eth0 down")?;
            host.ip("link set eth0 up")?;
            host.ip(&format!("address replace {}/64 dev eth0 nodad", host.address()))?;
            let again = try_poll(5 * SECONDS, || scene.asker.ask(&scene.ask(), SECONDS));
            scene.add_by_hand(&scene.container)?;
            again.map(drop)
        }),
        Row::new(
            "multicast solicitation is answered while the program is dead",
            "flows outlast it",
            |scene| {
                scene.kill()?;
                scene.answer(&scene.ask()).map(drop)
            },
        ),
        Row::new("unicast solicitation is answered while the program is dead", "RFC 4861 §7.3.3", |scene| {
            scene.answer(&scene.ask().unicast(scene.mac()?)).map(drop)
        }),
    ]
}

fn in_group(scene: &Scene, address: Ipv6Addr, expected: bool) -> anyhow::Result<()> {
    ensure!(scene.is_in_group(address)? == expected, "the opposite of {expected}");
    Ok(())
}

fn advertised(scene: &mut Scene) -> anyhow::Result<()> {
    scene.asker.forget()?;
    let container = scene.speaking("shown")?;
    let (end, mut groups) = (Instant::now() + 2 * SECONDS, Vec::new());
    while let Some(it) = scene.asker.next(end)? {
        if it.target == container.address() && !it.solicited {
            groups.push(it.destination.to_string());
        }
    }
    ensure!(["ff02::1", "ff02::2"].iter().all(|it| groups.iter().any(|group| group == it)), "{groups:?}");
    Ok(())
}

/// The neighbour asks for addresses that no container has, so that each costs the most.
fn flooded(scene: &mut Scene) -> anyhow::Result<()> {
    let mac = [2, 0x66, 0, 0, 0, 1];
    let flooder = |number: u32| {
        let mut ask = scene.asker.solicitation(scene.unused(10 + number % 20_000));
        (ask.from, ask.options) = (mac, link_layer_option(mac));
        ask.octets()
    };
    thread::scope(|scope| {
        let flood = scope.spawn(|| scene.flood(FLOOD, 4 * SECONDS, flooder));
        thread::sleep(SECONDS);
        let answers = (0..ASKS).map(|_| scene.asker.ask(&scene.ask(), SECONDS)).filter(Result::is_ok).count();
        flood.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        ensure!(answers == ASKS, "{answers} of {ASKS} answers");
        Ok(())
    })
}

fn scanned(scene: &mut Scene) -> anyhow::Result<()> {
    let before = scene.memory()?;
    scene.flood(FLOOD, 4 * SECONDS, |number| {
        scene.asker.solicitation(scene.unused(30_000 + number)).octets()
    })?;
    let grown = scene.memory()?.saturating_sub(before);
    let neighbours = scene.host.ip(&format!("-6 neighbour show dev {BRIDGE}"))?.lines().count();
    ensure!(grown < SCANNED_KIB, "{grown} KiB more memory");
    ensure!(neighbours < SCANNED_NEIGHBOURS, "{neighbours} neighbours");
    scene.answer(&scene.ask()).map(drop)
}
