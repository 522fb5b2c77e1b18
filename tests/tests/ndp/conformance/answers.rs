//! Solicitations that are answered, and what the answers are like.

use std::{net::Ipv6Addr, time::Duration};

use anyhow::ensure;
use sextant_tests::{Answer, MILLISECONDS, SECONDS, Solicitation};

use super::{Row, scene::Scene};

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// To all nodes of a link of Ethernet.
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
/// The tag of priority 5.
const PRIORITY: u16 = 5 << 13;
/// Somebody asks, and the answer comes.
const AT_ONCE: Duration = Duration::from_millis(100);

pub(super) fn rows() -> Vec<Row> {
    vec![
        Row::new("multicast solicitation for an address in use is answered", "RFC 4861 §7.2.4", |scene| {
            scene.answer(&scene.ask()).map(drop)
        }),
        Row::new("unicast solicitation is answered", "RFC 4861 §7.3.3", |scene| {
            scene.answer(&unicast(scene)?).map(drop)
        }),
        Row::new("unicast solicitation without link-layer address is answered", "RFC 4861 §4.3", |scene| {
            scene.answer(&Solicitation { options: Vec::new(), ..unicast(scene)? }).map(drop)
        }),
        Row::new("unknown option is skipped", "RFC 4861 §4.6", |scene| {
            let unknown = [253, 1, 0, 0, 0, 0, 0, 0].to_vec();
            let options = [unknown, scene.ask().options].concat();
            scene.answer(&Solicitation { options, ..scene.ask() }).map(drop)
        }),
        Row::new("a hundred unknown options are skipped", "RFC 4861 §4.6", |scene| {
            let unknown = [253, 1, 0, 0, 0, 0, 0, 0].repeat(100);
            let options = [unknown, scene.ask().options].concat();
            scene.answer(&Solicitation { options, ..scene.ask() }).map(drop)
        }),
        Row::new("a nonce is skipped", "RFC 7527 §4.1", |scene| {
            let nonce = [14, 1, 1, 2, 3, 4, 5, 6].to_vec();
            let options = [scene.ask().options, nonce].concat();
            scene.answer(&Solicitation { options, ..scene.ask() }).map(drop)
        }),
        Row::new("octets after the packet are padding", "RFC 2464 §3", |scene| {
            scene.answer(&Solicitation { padding: 40, ..scene.ask() }).map(drop)
        }),
        Row::new("a tag with a priority and no VLAN is no other link", "IEEE 802.1Q §6.9", |scene| {
            scene.answer(&Solicitation { vlan: Some(PRIORITY), ..scene.ask() }).map(drop)
        }),
        Row::new("a sender of another prefix of the link is answered", "RFC 5942 §4", |scene| {
            let source = "2001:db8:77::5".parse()?;
            let route = format!("-6 route replace {source}/128 dev eth0");
            scene.host.ip(&route)?;
            scene.outsider.ip(&format!("address replace {source}/128 dev eth0 nodad"))?;
            scene.answer(&Solicitation { source, ..scene.ask() }).map(drop)
        }),
        Row::new("answer: within 100 ms", "one host answers: no delay", |scene| {
            let slowest = slowest(scene, 10)?;
            ensure!(slowest < AT_ONCE, "{slowest:?}");
            Ok(())
        })
        .by_load(),
        Row::new("answer: exactly one", "RFC 9161", |scene| {
            let all = scene.asker.answers(&scene.ask(), SECONDS)?;
            ensure!(all.len() == 1, "{} answers", all.len());
            Ok(())
        }),
        Row::new("answer: solicited flag set", "RFC 4861 §7.2.4", |scene| is(scene, |it, _| it.solicited)),
        Row::new("answer: router flag set, since the host forwards", "RFC 4861 §4.4", |scene| {
            is(scene, |it, _| it.router)
        }),
        Row::new("answer: override flag clear, since a proxy answers", "RFC 4861 §7.2.8", |scene| {
            is(scene, |it, _| !it.overrides)
        }),
        Row::new("answer: the host's link-layer address as the target's", "RFC 4861 §4.4", |scene| {
            let mac = scene.mac()?;
            is(scene, |it, _| it.mac == Some(mac))
        }),
        Row::new("answer: hop limit 255", "RFC 4861 §4.4", |scene| is(scene, |it, _| it.hop_limit == 255)),
        Row::new("answer: right checksum", "RFC 4443 §2.3", |scene| is(scene, |it, _| it.checksum)),
        Row::new("answer: only to who has asked", "RFC 4861 §7.2.4", |scene| {
            is(scene, |it, scene| it.destination == scene.asker.source && it.to == scene.asker.mac)
        }),
        Row::new("answer: from the host's own link-layer address", "hosters' filters", |scene| {
            let mac = scene.mac()?;
            is(scene, |it, _| it.from == mac)
        }),
        Row::new("answer: from an address of the host on this link", "RFC 4861 §4.4", |scene| {
            let own = scene.host.ip("-6 -o address show dev eth0")?;
            let all: Vec<_> = own.split(' ').filter_map(|it| it.split_once('/')?.0.parse().ok()).collect();
            is(scene, |it, _| all.contains(&it.source))
        }),
    ]
}

/// Of duplicate address detection.
pub(super) fn rows_of_probes() -> Vec<Row> {
    vec![
        Row::new("a probe for an address in use is answered", "RFC 4862 §5.4.3", |scene| {
            scene.answer(&scene.ask().probe()).map(drop)
        }),
        Row::new("answer to a probe: to all nodes", "RFC 4861 §7.2.4", |scene| {
            let answer = scene.answer(&scene.ask().probe())?;
            ensure!(answer.destination == ALL_NODES && answer.to == ALL_NODES_MAC, "{answer:?}");
            Ok(())
        }),
        Row::new("answer to a probe: solicited flag clear", "RFC 4861 §7.2.4", |scene| {
            let answer = scene.answer(&scene.ask().probe())?;
            ensure!(!answer.solicited, "{answer:?}");
            Ok(())
        }),
    ]
}

fn unicast(scene: &Scene) -> anyhow::Result<Solicitation> {
    Ok(scene.ask().unicast(scene.mac()?))
}

/// The longest time of some answers, one after another.
fn slowest(scene: &Scene, times: u32) -> anyhow::Result<Duration> {
    let mut slowest = MILLISECONDS;
    for _ in 0..times {
        slowest = slowest.max(scene.asker.ask(&scene.ask(), 2 * SECONDS)?.1);
    }
    Ok(slowest)
}

/// Whether an answer is like that.
fn is(scene: &Scene, condition: impl Fn(&Answer, &Scene) -> bool) -> anyhow::Result<()> {
    let answer = scene.answer(&scene.ask())?;
    ensure!(condition(&answer, scene), "{answer:?}");
    Ok(())
}
