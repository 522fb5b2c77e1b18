//! What keeps neighbours from reaching this host's containers, as the agent and `sextant-agent doctor` see it. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
};

use sextant_ndp::{message::Mac, proxy::Source};
use sextant_proto::{Prefix, counted, link_name_word, ndp::mac_text};

use super::processes::OtherProxy;
use crate::{
    host::sysctl_argument,
    kernel::{Kernel, KernelError, ProxyEntry},
    problems::Finding,
};

/// So many addresses are named.
const NAMED: usize = 3;

/// A sysctl that the kernel's answers depend on, with a wrong value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WrongSysctl {
    path: String,
    value: String,
}

/// The wrong ones of these uplinks, and of all interfaces.
///
/// # Errors
/// If the kernel cannot be read.
pub(crate) fn wrong_sysctls(
    kernel: &dyn Kernel,
    uplinks: &[String],
) -> Result<Vec<WrongSysctl>, KernelError> {
    let proxying = uplinks.iter().map(String::as_str).chain(["all"]);
    let proxying = proxying.map(|name| (format!("net/ipv6/conf/{name}/proxy_ndp"), "1"));
    let delays = uplinks.iter().map(|name| (format!("net/ipv6/neigh/{name}/proxy_delay"), "0"));
    let mut wrong = Vec::new();
    for (path, wanted) in proxying.chain(delays) {
        let value = kernel.sysctl(&path)?;
        wrong.extend(value.filter(|value| value != wanted).map(|value| WrongSysctl { path, value }));
    }
    Ok(wrong)
}

/// The findings about these sysctls.
pub(crate) fn of_sysctls(wrong: &[WrongSysctl]) -> Vec<Finding> {
    let one = |WrongSysctl { path, value }: &WrongSysctl| {
        let name = sysctl_argument(path);
        let agent = "a running agent that is not paused restores it: see its log for what changes it";
        if path.ends_with("proxy_delay") {
            let saw = format!("{name} is {value}: the kernel answers neighbour solicitations late");
            return Finding::new("ndp-proxy-delay", saw, format!("sysctl -w {name}=0; {agent}")).about(name);
        }
        let what = match path.as_str() {
            "net/ipv6/conf/all/proxy_ndp" => {
                "by which neighbours check that an address of a container is still there"
            }
            _ => "for addresses of containers there",
        };
        let saw = format!("{name} is {value}: the kernel does not answer neighbour solicitations {what}");
        Finding::unready("ndp-proxying-off", saw, format!("sysctl -w {name}=1; {agent}")).about(name)
    };
    wrong.iter().map(one).collect()
}

/// The addresses in use without an entry of the kernel on one of the uplinks where they are to be answered for.
pub(crate) fn missing(
    in_use: &BTreeSet<Ipv6Addr>,
    uplinks: &BTreeMap<u32, String>,
    entries: &[ProxyEntry],
    is_answered: impl Fn(u32, Ipv6Addr) -> bool,
) -> BTreeSet<(Ipv6Addr, String)> {
    let there: BTreeSet<_> = entries.iter().map(|it| (it.link, it.addr)).collect();
    let lacks = |addr: &Ipv6Addr, link: &u32| is_answered(*link, *addr) && !there.contains(&(*link, *addr));
    let lacks = &lacks;
    let of = |(link, name)| {
        in_use.iter().filter(move |addr| lacks(addr, link)).map(move |addr| (*addr, String::clone(name)))
    };
    uplinks.iter().flat_map(of).collect()
}

/// The finding about missing entries.
pub(crate) fn of_missing(missing: &BTreeSet<(Ipv6Addr, String)>) -> Option<Finding> {
    let (addr, link) = missing.first()?;
    let entries: Vec<_> = missing.iter().map(|(addr, link)| format!("{addr} on {link}")).collect();
    let saw = format!(
        "the kernel has no proxy entry for {} of a container: {}",
        counted(missing.len(), "address"),
        named(&entries)
    );
    let fix = format!(
        "a running agent adds them, unless it is paused or the host is drained: see `sextant status` and its log; by hand: ip -6 \
         neighbour add proxy {addr} dev {link} protocol 66"
    );
    Some(Finding::new("ndp-entry-missing", saw, fix))
}

/// Entries of others for addresses of these prefixes, on the interfaces that `name` knows: the kernel answers by them whether or not a
/// container has the address.
pub(crate) fn foreign<'a>(
    prefixes: &[Prefix],
    entries: impl Iterator<Item = &'a ProxyEntry>,
    name: impl Fn(u32) -> Option<&'a str>,
) -> Option<Finding> {
    let foreign =
        entries.filter(|it| !it.is_ours() && prefixes.iter().any(|prefix| prefix.contains(it.addr)));
    let foreign: Vec<_> = foreign.filter_map(|it| Some((it.addr, name(it.link)?))).collect();
    let entries: Vec<_> = foreign.iter().map(|(addr, link)| format!("{addr} on {link}")).collect();
    let addresses: BTreeSet<_> = foreign.iter().map(|(addr, _)| addr).collect();
    let saw = format!(
        "another process has added proxy entries for {} of this host's prefixes: {}",
        counted(addresses.len(), "address"),
        named(&entries)
    );
    let command = |(addr, link): &(Ipv6Addr, &str)| {
        format!("`ip -6 neighbour del proxy {addr} dev {}`", link_name_word(link))
    };
    let commands: Vec<_> = foreign.iter().take(NAMED).map(command).collect();
    let others = if foreign.len() > NAMED { ", and the others likewise" } else { "" };
    let fix = format!(
        "stop what adds them, and remove them: {}{others}; the agent adds its own",
        commands.join(", ")
    );
    (!foreign.is_empty()).then(|| Finding::new("ndp-foreign-entry", saw, fix))
}

/// Another host answers for addresses of this one.
pub(crate) fn others(others: &BTreeMap<Ipv6Addr, Mac>) -> Option<Finding> {
    let (addr, mac) = others.first_key_value()?;
    let more = match others.len() {
        1 => String::new(),
        count => format!(", and for {} more", count - 1),
    };
    let saw = format!(
        "the host with MAC address {} advertises {addr}, which is a container's of this host{more}",
        mac_text(*mac)
    );
    let fix = "find that host on the link (ip -6 neighbour), and stop its proxy (ndppd, proxy_ndp), or give that address up there";
    Some(Finding::new("ndp-other-answers", saw, fix))
}

/// NDP proxies on this host whose rules overlap with these prefixes, or cannot be read.
pub(crate) fn other_proxies(found: &[OtherProxy], prefixes: &[Prefix]) -> Vec<Finding> {
    let overlaps = |rule: &Prefix| prefixes.iter().any(|it| it.covers(*rule) || rule.covers(*it));
    let of = |it: &OtherProxy| {
        let OtherProxy { name, pid, config, prefixes: rules } = it;
        let config = config.display();
        let saw = match rules {
            Some(rules) => {
                let rule = rules.iter().find(|rule| overlaps(rule))?;
                format!(
                    "{name} (process {pid}) answers neighbour solicitations for containers, too: rule {rule} in {config}"
                )
            }
            None => format!(
                "{name} (process {pid}) runs on this host, and may answer for containers, too: its rules in {config} cannot be read"
            ),
        };
        let fix = format!(
            "stop {name}, or remove the rules for the container prefixes from {config}: the agent answers"
        );
        Some(Finding::new("ndp-other-proxy", saw, fix).about(pid.to_string()))
    };
    found.iter().filter_map(of).collect()
}

/// Neighbours that go on asking for addresses although these are answered for.
pub(crate) fn unheeded(unheeded: &BTreeMap<Ipv6Addr, Mac>, source: Source) -> Option<Finding> {
    let (addr, mac) = unheeded.first_key_value()?;
    let more = match unheeded.len() {
        1 => String::new(),
        count => format!(", and {} more", counted(count - 1, "address")),
    };
    let saw = format!(
        "the neighbour with MAC address {} goes on soliciting {addr}{more}, although this host answers: its advertisements do not arrive",
        mac_text(*mac)
    );
    let by_mac = "let the provider permit the MAC address of the uplink";
    let fix = match source {
        Source::LinkLocal => format!(
            "if the provider drops advertisements by their source address: set [ndp] source = \"target\" in agent.toml; if by the MAC \
             address: {by_mac}"
        ),
        Source::Target => format!("{by_mac}; look for a firewall on the way that drops ICMPv6 type 136"),
    };
    Some(Finding::new("ndp-unheeded", saw, fix))
}

/// The agent with this process id may not hear solicitations.
pub(crate) fn no_capability(whose: &str) -> Finding {
    let saw =
        format!("{whose} has no CAP_NET_RAW: it hears no neighbour solicitation, and asks no container");
    let fix = "add CAP_NET_RAW to AmbientCapabilities and CapabilityBoundingSet of its systemd unit, and AF_PACKET to \
               RestrictAddressFamilies (docs/ndp-proxy.md, Privileges); or run it as root";
    Finding::unready("ndp-not-heard", saw, fix)
}

fn named(all: &[String]) -> String {
    let more = if all.len() > NAMED { format!(" and {} more", all.len() - NAMED) } else { String::new() };
    format!("{}{more}", all[..all.len().min(NAMED)].join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::RouteProtocol;

    fn addr(n: u16) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0xc000 + n)
    }

    #[test]
    fn sysctls_are_named_with_their_fix() {
        let wrong = |path: &str, value: &str| WrongSysctl { path: path.into(), value: value.into() };
        let found = of_sysctls(&[
            wrong("net/ipv6/conf/eth0/proxy_ndp", "0"),
            wrong("net/ipv6/conf/all/proxy_ndp", "0"),
            wrong("net/ipv6/neigh/eth0/proxy_delay", "80"),
            wrong("net/ipv6/conf/eth0.7/proxy_ndp", "0"),
        ]);
        let fixes: Vec<_> = found.iter().map(|it| it.fix.split(';').next().unwrap()).collect();
        let expected = [
            "sysctl -w net.ipv6.conf.eth0.proxy_ndp=1",
            "sysctl -w net.ipv6.conf.all.proxy_ndp=1",
            "sysctl -w net.ipv6.neigh.eth0.proxy_delay=0",
            "sysctl -w net/ipv6/conf/eth0.7/proxy_ndp=1",
        ];
        assert_eq!(fixes, expected);
        assert_eq!(found.iter().map(|it| it.unready).collect::<Vec<_>>(), [true, true, false, true]);
    }

    #[test]
    fn each_uplink_needs_an_entry_of_each_address() {
        let uplinks = [(2, "eth0".to_owned()), (3, "eth1".to_owned())].into();
        let entries =
            [ProxyEntry::ours(2, addr(1)), ProxyEntry::ours(3, addr(1)), ProxyEntry::ours(2, addr(2))];
        let in_use = [addr(1), addr(2)].into();
        assert_eq!(missing(&in_use, &uplinks, &entries, |link, _| link == 2), [].into());
        let missing = missing(&in_use, &uplinks, &entries, |_, _| true);
        assert_eq!(missing, [(addr(2), "eth1".to_owned())].into());
        let finding = of_missing(&missing).unwrap();
        assert!(
            finding.saw.ends_with("for 1 address of a container: 2001:db8::c002 on eth1"),
            "{}",
            finding.saw
        );
        assert_eq!(of_missing(&[].into()), None);
        let many: BTreeSet<_> = (1..9).map(|n| (addr(n), "eth0".to_owned())).collect();
        let saw = of_missing(&many).unwrap().saw;
        assert!(saw.contains("8 addresses of a container") && saw.ends_with("and 5 more"), "{saw}");
    }

    #[test]
    fn anothers_entries_are_named_with_the_commands_that_remove_them() {
        let of = |link, n| ProxyEntry { protocol: RouteProtocol(0), ..ProxyEntry::ours(link, addr(n)) };
        let found = |entries: &[ProxyEntry]| {
            let name = |link| (link != 9).then_some(if link == 2 { "eth0" } else { "eth1" });
            let prefixes = ["2001:db8::c000/125".parse().unwrap()];
            foreign(&prefixes, entries.iter(), name).map(|it| (it.saw, it.fix))
        };
        assert_eq!(found(&[ProxyEntry::ours(2, addr(1)), of(2, 8), of(9, 1)]), None);
        let (saw, fix) = found(&[of(2, 1), of(3, 1)]).unwrap();
        assert!(
            saw.ends_with(
                "for 1 address of this host's prefixes: 2001:db8::c001 on eth0, 2001:db8::c001 on eth1"
            ),
            "{saw}"
        );
        let commands = "remove them: `ip -6 neighbour del proxy 2001:db8::c001 dev eth0`, `ip -6 neighbour del proxy 2001:db8::c001 \
                        dev eth1`; the agent";
        assert!(fix.contains(commands), "{fix}");
        let (saw, fix) = found(&(1..=5).map(|n| of(2, n)).collect::<Vec<_>>()).unwrap();
        assert!(
            saw.ends_with(" and 2 more") && fix.contains("c003 dev eth0`, and the others likewise"),
            "{saw} {fix}"
        );
    }

    #[test]
    fn only_a_proxy_for_the_same_prefix_is_reported() {
        let proxy = |rules: Option<&str>| OtherProxy {
            name: "ndppd",
            pid: 7,
            config: "/etc/ndppd.conf".into(),
            prefixes: rules.map(|rule| vec![rule.parse().unwrap()]),
        };
        let found = |rules| other_proxies(&[proxy(rules)], &["2001:db8::c000/125".parse().unwrap()]).len();
        assert_eq!(found(Some("2001:db8:1::/64")), 0);
        assert_eq!((found(Some("2001:db8::/64")), found(Some("2001:db8::c002/127")), found(None)), (1, 1, 1));
    }

    #[test]
    fn the_setting_against_filters_is_named_unless_it_is_set() {
        let unheeded = |source| super::unheeded(&[(addr(3), [2; 6])].into(), source).unwrap();
        assert!(unheeded(Source::LinkLocal).fix.contains("source = \"target\""));
        assert!(!unheeded(Source::Target).fix.contains("source ="));
        assert!(
            unheeded(Source::Target)
                .saw
                .contains("02:02:02:02:02:02 goes on soliciting 2001:db8::c003, although")
        );
    }
}
