//! Other processes of this network namespace that matter to the answers: NDP proxies, and the agent itself.
//!
//! Whether a process is in this namespace is known to root only; an agent without privileges sees none.

use std::{
    fs,
    net::Ipv6Addr,
    path::{Path, PathBuf},
};

use sextant_proto::Prefix;

/// The NDP proxy of Debian, and the default place of its rules.
const NDPPD: &str = "ndppd";
const NDPPD_CONFIG: &str = "/etc/ndppd.conf";
/// Longer files are no rules.
const LONGEST: u64 = 1 << 20;

/// A running NDP proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OtherProxy {
    pub(crate) name: &'static str,
    pub(crate) pid: u32,
    /// Its rules.
    pub(crate) config: PathBuf,
    /// What it answers for; `None` if its rules cannot be read.
    pub(crate) prefixes: Option<Vec<Prefix>>,
}

/// The NDP proxies that run here.
pub(crate) fn other_proxies() -> Vec<OtherProxy> {
    let of = |pid| {
        let config = config(&fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default());
        let is_short = |path: &Path| fs::metadata(path).is_ok_and(|it| it.is_file() && it.len() < LONGEST);
        let text = Some(&config).filter(|path| is_short(path)).and_then(|path| fs::read_to_string(path).ok());
        OtherProxy { name: NDPPD, pid, config, prefixes: text.map(|text| rules(&text)) }
    };
    named(NDPPD).map(of).collect()
}

/// The texts of `/proc/PID/status` of the agents that run here, but for this process.
pub(crate) fn agents() -> Vec<(u32, String)> {
    let others = named("sextant-agent").filter(|pid| *pid != std::process::id());
    others.filter_map(|pid| Some((pid, fs::read_to_string(format!("/proc/{pid}/status")).ok()?))).collect()
}

/// The processes of this name in this network namespace.
fn named(name: &'static str) -> impl Iterator<Item = u32> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let own = fs::read_link("/proc/self/ns/net").ok();
    pids.filter(move |pid| {
        let is_named =
            || fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_end() == name);
        let is_here = || own.is_some() && fs::read_link(format!("/proc/{pid}/ns/net")).ok() == own;
        is_named() && is_here()
    })
}

/// The file with the rules, by the words of the command line.
fn config(command_line: &[u8]) -> PathBuf {
    let words: Vec<_> = command_line
        .split(|octet| *octet == 0)
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    let flag = words.iter().position(|word| word == "-c").and_then(|at| words.get(at + 1));
    PathBuf::from(flag.map_or(NDPPD_CONFIG, String::as_str))
}

/// The prefixes of its rules: `rule 2001:db8::/64 {`; a single address is one, too.
fn rules(text: &str) -> Vec<Prefix> {
    let lines = text.lines().map(|line| line.split(['#', ';']).next().unwrap_or_default());
    let words: Vec<_> = lines.flat_map(str::split_whitespace).collect();
    let named = words.windows(2).filter(|pair| pair[0] == "rule");
    let prefix = |text: &str| -> Option<Prefix> {
        let (addr, len) = text.split_once('/').unwrap_or((text, "128"));
        Prefix::containing(addr.parse::<Ipv6Addr>().ok()?, len.parse().ok()?)
    };
    named.filter_map(|pair| prefix(pair[1].trim_end_matches('{'))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_of_ndppd_are_read() {
        let text = "route-ttl 30000\nproxy eth0 {\n  router yes\n  rule 2001:db8::c000/125 {\n    static\n  }\n \
                    # rule 2001:db8:1::/64 { }\n  rule 2001:db8::d00d{\n  }\n  rule words { }\n}\n";
        let expected: Vec<Prefix> =
            ["2001:db8::c000/125", "2001:db8::d00d/128"].map(|prefix| prefix.parse().unwrap()).to_vec();
        assert_eq!(rules(text), expected);
        assert_eq!(config(b"/usr/sbin/ndppd\0-c\0/tmp/x.conf\0-d\0"), Path::new("/tmp/x.conf"));
        assert_eq!(config(b"ndppd\0"), Path::new(NDPPD_CONFIG));
    }
}
