//! A kernel's IPv6 routes as text, read by `ip` so that the agent's netlink code does not check itself.

use std::{collections::BTreeSet, fmt, net::Ipv6Addr};

use anyhow::{Context, bail};
use serde_json::Value;
use sextant_proto::Prefix;

use super::namespace::Namespace;

/// The main table.
pub const MAIN: u32 = 254;
/// The table of the host's own addresses. It is always left out.
pub const LOCAL: u32 = 255;

/// A route, without attributes that change by themselves (expiry) or are irrelevant (preference, flags, the loopback device
/// of an unreachable route).
///
/// As text: `[type ]destination [via gateway] [dev name] proto name metric N [table N]`. With several next hops, each is
/// `nexthop via gateway dev name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// The destination.
    pub destination: Prefix,
    /// The kernel's route type (RTN_…): 1 unicast, 6 blackhole, 7 unreachable, ….
    pub kind: u8,
    /// The next hops, sorted; none for an unreachable route.
    pub hops: Vec<Hop>,
    /// The route protocol (rtm_protocol); Sextant's is 66.
    pub protocol: u8,
    /// Its metric.
    pub metric: u32,
    /// Its table.
    pub table: u32,
}

/// A next hop.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hop {
    /// The gateway; none if the destination is on-link.
    pub gateway: Option<Ipv6Addr>,
    /// The interface.
    pub link: String,
}

impl Namespace {
    /// All routes of all tables except the local one, as sorted text.
    ///
    /// # Errors
    /// If `ip` fails.
    pub fn routes(&self) -> anyhow::Result<Vec<String>> {
        Ok(texts(self.route_table()?))
    }

    /// The routes of this protocol, as [`Namespace::routes`].
    ///
    /// # Errors
    /// If `ip` fails.
    pub fn routes_of(&self, protocol: u8) -> anyhow::Result<Vec<String>> {
        let routes = self.route_table()?;
        Ok(texts(routes.into_iter().filter(|route| route.protocol == protocol)))
    }

    /// The routes of other protocols than Sextant's, as [`Namespace::routes`]. For a comparison, see [`difference`].
    ///
    /// # Errors
    /// If `ip` fails.
    pub fn foreign_routes(&self) -> anyhow::Result<Vec<String>> {
        let ours = sextant_proto::ROUTE_PROTOCOL;
        let routes = self.route_table()?;
        Ok(texts(routes.into_iter().filter(|route| route.protocol != ours)))
    }

    /// As [`Namespace::routes`], as data.
    ///
    /// # Errors
    /// If `ip` fails.
    pub fn route_table(&self) -> anyhow::Result<BTreeSet<Route>> {
        let text = self.ip("-6 -N -j route show table all")?;
        parse(&text).with_context(|| format!("routes of {}", self.name()))
    }
}

/// The routes only in `before` (`- route`) and only in `after` (`+ route`), one per line; empty if both are equal.
pub fn difference(before: &[String], after: &[String]) -> String {
    let gone = before.iter().filter(|route| !after.contains(route)).map(|route| format!("- {route}"));
    let new = after.iter().filter(|route| !before.contains(route)).map(|route| format!("+ {route}"));
    gone.chain(new).collect::<Vec<_>>().join("\n")
}

fn texts(routes: impl IntoIterator<Item = Route>) -> Vec<String> {
    routes.into_iter().map(|route| route.to_string()).collect()
}

/// Parses the output of `ip -6 -N -j route show table all`.
fn parse(text: &str) -> anyhow::Result<BTreeSet<Route>> {
    let Value::Array(entries) = serde_json::from_str(text)? else {
        bail!("the output of ip is not a list: {text}");
    };
    let routes = entries.iter().map(|entry| parse_route(entry).with_context(|| entry.to_string()));
    routes.filter(|route| !matches!(route, Ok(route) if route.table == LOCAL)).collect()
}

fn parse_route(entry: &Value) -> anyhow::Result<Route> {
    let kind = number(&entry["type"])?.unwrap_or(1);
    let mut hops = match &entry["nexthops"] {
        Value::Array(hops) => hops.iter().map(parse_hop).collect::<Result<Vec<_>, _>>()?,
        _ if kind == 1 => vec![parse_hop(entry)?],
        _ => Vec::new(),
    };
    hops.sort();
    Ok(Route {
        destination: parse_destination(entry["dst"].as_str().context("no destination")?)?,
        kind: u8::try_from(kind)?,
        hops,
        protocol: u8::try_from(number(&entry["protocol"])?.context("no protocol")?)?,
        metric: number(&entry["metric"])?.unwrap_or(0),
        table: number(&entry["table"])?.unwrap_or(MAIN),
    })
}

fn parse_hop(entry: &Value) -> anyhow::Result<Hop> {
    let gateway = entry["gateway"].as_str().map(str::parse).transpose()?;
    let link = entry["dev"].as_str().context("no interface")?.to_owned();
    Ok(Hop { gateway, link })
}

fn parse_destination(text: &str) -> anyhow::Result<Prefix> {
    match text {
        "default" => Ok(Prefix::new(Ipv6Addr::UNSPECIFIED, 0)?),
        _ if text.contains('/') => Ok(text.parse()?),
        _ => Ok(Prefix::new(text.parse()?, 128)?),
    }
}

/// `ip` prints some numbers as JSON numbers and some as strings.
fn number(value: &Value) -> anyhow::Result<Option<u32>> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.parse()?)),
        other => Ok(Some(u32::try_from(other.as_u64().context("not a number")?)?)),
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            1 => {}
            6 => f.write_str("blackhole ")?,
            7 => f.write_str("unreachable ")?,
            8 => f.write_str("prohibit ")?,
            other => write!(f, "type {other} ")?,
        }
        match self.destination.len() {
            0 => f.write_str("default")?,
            _ => write!(f, "{}", self.destination)?,
        }
        for hop in &self.hops {
            let word = if self.hops.len() > 1 { " nexthop" } else { "" };
            write!(f, "{word}{hop}")?;
        }
        match self.protocol {
            2 => f.write_str(" proto kernel")?,
            3 => f.write_str(" proto boot")?,
            4 => f.write_str(" proto static")?,
            9 => f.write_str(" proto ra")?,
            other => write!(f, " proto {other}")?,
        }
        write!(f, " metric {}", self.metric)?;
        match self.table {
            MAIN => Ok(()),
            other => write!(f, " table {other}"),
        }
    }
}

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        write!(f, " dev {}", self.link)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_parsed_and_printed() {
        // Written by `ip -6 -N -j route show table all` of iproute2 6.1.
        let text = r#"[
            {"dst":"2001:db8:5::/64","dev":"lo","table":"77","protocol":"4","metric":7,"flags":[],"pref":"medium"},
            {"type":"7","dst":"2001:db8::/32","dev":"lo","protocol":"66","metric":1024,"flags":[],"pref":"medium"},
            {"dst":"default","gateway":"2001:db8::1","dev":"eth0","protocol":"9","metric":1024,"expires":1790,
             "flags":[],"pref":"medium"},
            {"dst":"2001:db8:7::1","protocol":"66","metric":512,"flags":[],"pref":"medium","nexthops":[
             {"gateway":"2001:db8::3","dev":"eth0","weight":1,"flags":[]},
             {"gateway":"2001:db8::2","dev":"eth0","weight":1,"flags":[]}]},
            {"type":"2","dst":"::1","dev":"lo","table":"255","protocol":"2","metric":0,"flags":[],"pref":"medium"}]"#;
        assert_eq!(
            texts(parse(text).unwrap()),
            [
                "default via 2001:db8::1 dev eth0 proto ra metric 1024",
                "unreachable 2001:db8::/32 proto 66 metric 1024",
                "2001:db8:5::/64 dev lo proto static metric 7 table 77",
                "2001:db8:7::1/128 nexthop via 2001:db8::2 dev eth0 nexthop via 2001:db8::3 dev eth0 proto 66 metric 512",
            ]
        );
    }

    #[test]
    fn an_incomplete_route_is_an_error() {
        assert!(parse(r#"[{"dst":"default","dev":"eth0","metric":1}]"#).is_err());
    }

    #[test]
    fn the_difference_has_both_sides() {
        let (before, after) = (["a".to_owned(), "b".to_owned()], ["b".to_owned(), "c".to_owned()]);
        assert_eq!(difference(&before, &after), "- a\n+ c");
        assert_eq!(difference(&before, &before), "");
    }
}
