//! An input: a place, and what happens there. As text, an event is a line; `#` begins a comment.

use std::{fmt, net::Ipv6Addr, str::FromStr};

use crate::{
    message::Mac,
    proxy::{Answer, Bridge, Place, Source, Uplink},
};

/// The links, by their indices.
pub(super) const UPLINKS: [u32; 2] = [2, 3];
pub(super) const BRIDGES: [u32; 2] = [7, 8];
/// The link-layer addresses of the host.
pub(super) const OWN: [Mac; 4] =
    [[2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 3], [2, 0, 0, 0, 0, 7], [2, 0, 0, 0, 0, 8]];
/// For which the kernel answers.
pub(super) const OF_THE_KERNEL: &str = "2001:db8::c006";

/// Something that happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// A packet comes on a link, from this link-layer address.
    Packet { link: u32, from: Mac, packet: Vec<u8> },
    /// So many milliseconds go by.
    Wait(u64),
    /// A port of a bridge is gone, with the containers of this link-layer address, or with any.
    Gone { bridge: u32, mac: Option<Mac> },
    /// It was in use before this process.
    Adopted(Ipv6Addr),
}

/// Settings that are not the default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) all: bool,
    pub(super) overrides: bool,
    pub(super) from_target: bool,
    /// Only the kernel answers for what is known.
    pub(super) addresses: bool,
}

/// An input.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) settings: Settings,
    pub(super) events: Vec<Event>,
}

impl Case {
    /// Two uplinks, two bridges with a prefix each; the second prefix is not on-link on the second uplink.
    pub(super) fn place(&self) -> Place {
        let prefixes = ["2001:db8::c000/125", "2001:db8:0:0:8000::/80"].map(|text| text.parse().unwrap());
        let addr = |text: &str| text.parse().unwrap();
        let bridge = |at: usize, own: &str| Bridge {
            link: BRIDGES[at],
            mac: OWN[2 + at],
            source: addr(&format!("fe80::{}", BRIDGES[at])),
            prefixes: vec![prefixes[at]],
            own: vec![addr(own), addr(&format!("fe80::{}", BRIDGES[at]))],
        };
        let uplink = |at: usize| {
            let link = UPLINKS[at];
            Uplink { link, mac: OWN[at], source: addr(&format!("fe80::{link}")), kernel_hears: true }
        };
        let it = self.settings;
        Place {
            prefixes: prefixes.to_vec(),
            moved: Vec::new(),
            off_link: vec![(UPLINKS[1], prefixes[1])],
            uplinks: vec![uplink(0), uplink(1)],
            bridges: vec![bridge(0, "2001:db8::c001"), bridge(1, "2001:db8:0:0:8000::1")],
            answers: !it.addresses,
            answer: if it.all { Answer::All } else { Answer::Live },
            overrides: it.overrides,
            source: if it.from_target { Source::Target } else { Source::LinkLocal },
        }
    }

    /// As short as it still is like that.
    pub(super) fn shrunk(&self, is_so: impl Fn(&Self) -> bool) -> Self {
        let mut least = self.clone();
        let mut at = least.events.len();
        while let Some(before) = at.checked_sub(1) {
            at = before;
            let mut fewer = least.clone();
            fewer.events.remove(at);
            if is_so(&fewer) {
                least = fewer;
            }
        }
        least
    }
}

/// The address for which the kernel answers.
pub(super) fn of_the_kernel() -> Ipv6Addr {
    OF_THE_KERNEL.parse().unwrap()
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut case = Self::default();
        for line in text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()) {
            let words: Vec<_> = line.split_whitespace().collect();
            match words[..] {
                [] => {}
                ["settings", ref all @ ..] => case.settings = settings(all)?,
                _ => case.events.push(event(&words).ok_or_else(|| format!("no event: {line}"))?),
            }
        }
        Ok(case)
    }
}

fn settings(all: &[&str]) -> Result<Settings, String> {
    let mut it = Settings::default();
    for word in all {
        match *word {
            "all" => it.all = true,
            "override" => it.overrides = true,
            "from-target" => it.from_target = true,
            "addresses" => it.addresses = true,
            _ => return Err(format!("no setting: {word}")),
        }
    }
    Ok(it)
}

fn event(words: &[&str]) -> Option<Event> {
    Some(match words {
        ["link", link, "from", mac, packet @ ..] => {
            Event::Packet { link: link.parse().ok()?, from: mac_of(mac)?, packet: octets(&packet.concat())? }
        }
        ["wait", millis] => Event::Wait(millis.parse().ok()?),
        ["gone", bridge] => Event::Gone { bridge: bridge.parse().ok()?, mac: None },
        ["gone", bridge, mac] => Event::Gone { bridge: bridge.parse().ok()?, mac: Some(mac_of(mac)?) },
        ["adopted", target] => Event::Adopted(target.parse().ok()?),
        _ => return None,
    })
}

fn mac_of(text: &str) -> Option<Mac> {
    octets(&text.replace(':', ""))?.try_into().ok()
}

fn octets(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let it = self.settings;
        let all = [(it.all, "all"), (it.overrides, "override"), (it.from_target, "from-target")];
        let set: Vec<_> = all.into_iter().chain([(it.addresses, "addresses")]).filter(|it| it.0).collect();
        if !set.is_empty() {
            writeln!(f, "settings {}", set.iter().map(|it| it.1).collect::<Vec<_>>().join(" "))?;
        }
        self.events.iter().try_for_each(|event| writeln!(f, "{event}"))
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Packet { link, from, packet } => {
                let hex: String = packet.iter().map(|octet| format!("{octet:02x}")).collect();
                write!(f, "link {link} from {} {hex}", shown(*from))
            }
            Self::Wait(millis) => write!(f, "wait {millis}"),
            Self::Gone { bridge, mac: None } => write!(f, "gone {bridge}"),
            Self::Gone { bridge, mac: Some(mac) } => write!(f, "gone {bridge} {}", shown(*mac)),
            Self::Adopted(target) => write!(f, "adopted {target}"),
        }
    }
}

/// A link-layer address as text.
pub(super) fn shown(mac: Mac) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}
