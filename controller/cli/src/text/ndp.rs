//! What a host answers neighbour solicitations for, for people.

use sextant_proto::{
    counted,
    ndp::{By, Learnt, NdpAddress, NdpProxy, NdpUplink, mac_text},
};

use super::{age, table};

/// How a host answers: the settings, then a line for each uplink.
pub(super) fn summary(ndp: &NdpProxy) -> Vec<String> {
    let overrides = if ndp.overrides { ", override" } else { "" };
    let settings = format!(
        "mode {}, answer {}, source {}{overrides}: {} in use",
        ndp.mode,
        ndp.answer,
        ndp.source,
        counted(ndp.in_use as usize, "address")
    );
    std::iter::once(settings).chain(ndp.uplinks.iter().map(uplink)).collect()
}

fn uplink(it: &NdpUplink) -> String {
    let state = match (it.up, it.heard) {
        (false, _) => " (down)",
        (true, false) => " (not heard)",
        (true, true) => "",
    };
    let refused: Vec<_> = it.refused.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    let refused = if refused.is_empty() { "none".to_owned() } else { refused.join(", ") };
    format!(
        "{}{state}: proxy entries {}, groups {}; answered by the agent: multicast {}, unicast {}, dad {}; not: {refused}; advertised {}",
        it.interface, it.entries, it.groups, it.multicast, it.unicast, it.detection, it.advertised
    )
}

/// The addresses that are answered for, one in each line.
pub(crate) fn answered_for(ndp: &NdpProxy, now_unix_ms: u64) -> String {
    if ndp.addresses.is_empty() {
        return "no neighbour solicitation is answered: no address of a container is in use\n".to_owned();
    }
    let row = |it: &NdpAddress| {
        let since = known(it.since_unix_ms).map(|since| age(now_unix_ms, since));
        [
            it.address.to_string(),
            it.by.text().to_owned(),
            it.learnt.map(Learnt::text).unwrap_or_default().to_owned(),
            it.container.clone().or(it.mac.map(mac_text)).unwrap_or_default(),
            since.unwrap_or_default(),
        ]
    };
    let more = match ndp.more {
        0 => String::new(),
        more => format!("and {more} more\n"),
    };
    let header = ["ADDRESS", "ANSWERED-BY", "LEARNT", "CONTAINER", "SINCE"];
    format!("{}{more}", table::table(header, ndp.addresses.iter().map(row)))
}

/// Who answers for an address of `node`, on these uplinks; or why nobody does.
pub(super) fn explained(node: &str, it: &NdpAddress, uplinks: &[NdpUplink], now_unix_ms: u64) -> Vec<String> {
    let by = match it.by {
        By::Nobody => return reason(&format!("nobody answers on the link: {}", it.why), &it.fix),
        By::Kernel => "by the kernel's proxy entry",
        By::Agent => "by the agent",
    };
    let on = uplinks.iter().filter(|uplink| uplink.up).map(|uplink| match uplink.mac {
        Some(mac) => format!("{} ({})", uplink.interface, mac_text(mac)),
        None => uplink.interface.clone(),
    });
    let on: Vec<_> = on.collect();
    let since = known(it.since_unix_ms).map(|since| format!(", in use for {}", age(now_unix_ms, since)));
    let first = format!("{node} on {}, {by}{}", on.join(" and "), since.unwrap_or_default());
    let partly = (!it.why.is_empty()).then(|| it.why.clone());
    std::iter::once(first).chain(partly).collect()
}

fn reason(why: &str, fix: &str) -> Vec<String> {
    vec![if fix.is_empty() { why.to_owned() } else { format!("{why}; {fix}") }]
}

fn known(unix_ms: u64) -> Option<u64> {
    (unix_ms > 0).then_some(unix_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::sample;

    #[test]
    fn counts_have_a_line_for_each_uplink() {
        assert_eq!(
            summary(&sample::ndp()),
            [
                "mode prefix, answer live, source link-local: 3 addresses in use",
                "eth0: proxy entries 3, groups 3; answered by the agent: multicast 5, unicast 6, dad 1; not: kernel 40, elsewhere 2; \
                 advertised 6",
            ]
        );
        let mut down = sample::ndp();
        (down.uplinks[0].up, down.uplinks[0].refused) = (false, vec![]);
        let line = &summary(&down)[1];
        assert!(line.starts_with("eth0 (down): ") && line.contains("; not: none;"), "{line}");
        down.uplinks[0].up = true;
        down.uplinks[0].heard = false;
        assert!(summary(&down)[1].starts_with("eth0 (not heard): "));
    }

    #[test]
    fn each_address_has_a_line() {
        assert_eq!(
            answered_for(&sample::ndp(), sample::NOW),
            "ADDRESS         ANSWERED-BY  LEARNT     CONTAINER          SINCE\n\
             2001:db8::c001  kernel       bridge     -                  -\n\
             2001:db8::c002  kernel       engine     web                2m\n\
             2001:db8::c003  agent        neighbour  02:00:00:00:00:09  2m\n\
             and 4 more\n"
        );
        let none = NdpProxy { addresses: vec![], ..sample::ndp() };
        assert!(answered_for(&none, sample::NOW).starts_with("no neighbour solicitation is answered"));
    }

    #[test]
    fn an_address_is_explained() {
        let NdpProxy { addresses, uplinks, .. } = sample::ndp();
        let lines = |it: &NdpAddress| explained("host2", it, &uplinks, sample::NOW);
        let by_kernel = "host2 on eth0 (02:00:00:00:00:02), by the kernel's proxy entry, in use for 2m";
        assert_eq!(lines(&addresses[1]), [by_kernel]);
        let partly = NdpAddress { why: "eth1 is down".into(), ..addresses[2].clone() };
        let by_agent = "host2 on eth0 (02:00:00:00:00:02), by the agent, in use for 2m";
        assert_eq!(lines(&partly), [by_agent, "eth1 is down"]);
        let (why, fix) = ("eth0 is down".to_owned(), "repair the link".to_owned());
        let nobody = NdpAddress { by: By::Nobody, why, fix, ..addresses[2].clone() };
        assert_eq!(lines(&nobody), ["nobody answers on the link: eth0 is down; repair the link"]);
    }
}
