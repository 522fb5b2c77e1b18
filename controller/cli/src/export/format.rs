//! The formats: how each writes a route, takes it back, and is read again.

use std::net::Ipv6Addr;

use clap::ValueEnum;
use sextant_proto::Prefix;

use super::{Changes, Routes, Towards};

/// The configuration of a router.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Commands of `ip -6 -batch FILE`
    Iproute2,
    /// A file that BIRD 2 includes
    Bird,
    /// Commands of FRR's vtysh
    Frr,
    /// Set commands of Junos
    Junos,
    /// Commands of Cisco IOS
    Ios,
}

/// A line of an earlier export that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "line {number} is no route of this format: \"{line}\"; name the file of a whole export in the same format"
)]
pub(crate) struct ReadError {
    number: usize,
    line: String,
}

const JUNOS: &str = "routing-options rib inet6.0 static route";

impl Format {
    /// All routes.
    pub(crate) fn write(self, routes: &Routes) -> String {
        let lines: String =
            routes.iter().map(|(prefix, towards)| self.add(*prefix, *towards) + "\n").collect();
        match self {
            Self::Bird => format!("protocol static sextant {{\n\tipv6;\n{lines}}}\n"),
            _ => lines,
        }
    }

    /// What makes the former routes these: commands, or for BIRD, which compares by itself, all routes.
    pub(crate) fn write_changes(self, changes: &Changes, routes: &Routes) -> String {
        if matches!(self, Self::Bird) {
            let (removed, added) = (changes.removed.iter(), changes.added.iter());
            let comment = |sign, (prefix, towards): &(Prefix, Towards)| {
                format!("# {sign}{}\n", self.add(*prefix, *towards).trim_start())
            };
            let removed: String = removed.map(|it| comment('-', it)).collect();
            let added: String = added.map(|it| comment('+', it)).collect();
            return removed + &added + &self.write(routes);
        }
        // Until the former next hop goes, packets take either.
        let (last, first): (Vec<_>, Vec<_>) = changes.removed.iter().partition(|it| changes.moves(it));
        let remove = |it: &&(Prefix, Towards)| self.remove(it.0, it.1) + "\n";
        let add = |it: &(Prefix, Towards)| self.add(it.0, it.1) + "\n";
        let (first, added): (String, String) =
            (first.iter().map(remove).collect(), changes.added.iter().map(add).collect());
        match self {
            // What is set replaces what was.
            Self::Iproute2 => first + &added,
            // All is changed at once.
            Self::Junos => changes.removed.iter().map(|it| remove(&it)).collect::<String>() + &added,
            _ => first + &added + &last.iter().map(remove).collect::<String>(),
        }
    }

    /// The routes of an earlier export.
    ///
    /// # Errors
    /// At the first line that is neither a route nor a comment.
    pub(crate) fn read(self, text: &str) -> Result<Routes, ReadError> {
        let mut routes = Routes::new();
        for (at, line) in text.lines().enumerate() {
            let words: Vec<_> = line.split_whitespace().collect();
            let is_frame = matches!(self, Self::Bird)
                && matches!(words[..], ["protocol", "static", _, "{"] | ["ipv6;"] | ["}"]);
            if words.is_empty() || words[0].starts_with(['#', '!']) || is_frame {
                continue;
            }
            let route = self.route(&words);
            let (prefix, towards) =
                route.ok_or_else(|| ReadError { number: at + 1, line: line.to_owned() })?;
            routes.insert(prefix, towards);
        }
        Ok(routes)
    }

    fn add(self, prefix: Prefix, towards: Towards) -> String {
        match (self, towards) {
            (Self::Iproute2, Towards::Host(hop)) => format!("route replace {prefix} via {hop} proto static"),
            (Self::Iproute2, Towards::Discard) => format!("route replace unreachable {prefix} proto static"),
            (Self::Bird, Towards::Host(hop)) => format!("\troute {prefix} via {hop};"),
            (Self::Bird, Towards::Discard) => format!("\troute {prefix} unreachable;"),
            (Self::Frr, Towards::Host(hop)) | (Self::Ios, Towards::Host(hop)) => {
                format!("ipv6 route {prefix} {hop}")
            }
            (Self::Frr, Towards::Discard) => format!("ipv6 route {prefix} reject"),
            (Self::Ios, Towards::Discard) => format!("ipv6 route {prefix} Null0"),
            (Self::Junos, Towards::Host(hop)) => format!("set {JUNOS} {prefix} next-hop {hop}"),
            (Self::Junos, Towards::Discard) => format!("set {JUNOS} {prefix} reject"),
        }
    }

    fn remove(self, prefix: Prefix, towards: Towards) -> String {
        match (self, towards) {
            (Self::Iproute2, Towards::Host(hop)) => format!("route del {prefix} via {hop} proto static"),
            (Self::Iproute2, Towards::Discard) => format!("route del unreachable {prefix} proto static"),
            (Self::Junos, _) => format!("delete {JUNOS} {prefix}"),
            (Self::Frr | Self::Ios | Self::Bird, _) => format!("no {}", self.add(prefix, towards)),
        }
    }

    /// The route of a line that [`Self::add`] has written.
    fn route(self, words: &[&str]) -> Option<(Prefix, Towards)> {
        let host = |prefix: &str, hop: &str| {
            let hop: Ipv6Addr = hop.trim_end_matches(';').parse().ok()?;
            Some((prefix.parse().ok()?, Towards::Host(hop)))
        };
        let discard = |prefix: &str| Some((prefix.parse().ok()?, Towards::Discard));
        match (self, words) {
            (Self::Iproute2, ["route", "replace", "unreachable", prefix, "proto", "static"]) => {
                discard(prefix)
            }
            (Self::Iproute2, ["route", "replace", prefix, "via", hop, "proto", "static"]) => {
                host(prefix, hop)
            }
            (Self::Bird, ["route", prefix, "unreachable;"]) => discard(prefix),
            (Self::Bird, ["route", prefix, "via", hop]) => host(prefix, hop),
            (Self::Frr, ["ipv6", "route", prefix, "reject"]) => discard(prefix),
            (Self::Ios, ["ipv6", "route", prefix, "Null0"]) => discard(prefix),
            (Self::Frr | Self::Ios, ["ipv6", "route", prefix, hop]) => host(prefix, hop),
            (Self::Junos, ["set", a, b, c, d, e, prefix, rest @ ..])
                if [*a, *b, *c, *d, *e].join(" ") == JUNOS =>
            {
                match rest {
                    ["reject"] => discard(prefix),
                    ["next-hop", hop] => host(prefix, hop),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(all: &[(&str, Option<&str>)]) -> Routes {
        let towards =
            |hop: &Option<&str>| hop.map_or(Towards::Discard, |hop| Towards::Host(hop.parse().unwrap()));
        all.iter().map(|(prefix, hop)| (prefix.parse().unwrap(), towards(hop))).collect()
    }

    fn some() -> Routes {
        routes(&[("2001:db8:8000::/40", None), ("2001:db8:8000:1::/64", Some("2001:db8::1"))])
    }

    #[test]
    fn each_format_is_read_as_it_was_written() {
        for format in Format::value_variants() {
            let text = format.write(&some());
            assert_eq!(format.read(&text), Ok(some()), "{text}");
            assert_eq!(format.read(""), Ok(Routes::new()));
            let with_comments = format!("# a comment\n\n{text}! another\n");
            assert_eq!(format.read(&with_comments), Ok(some()));
            let nothing = Changes::between(&some(), &some());
            let unchanged = format.write_changes(&nothing, &some());
            assert_eq!(unchanged, if *format == Format::Bird { text } else { String::new() });
        }
    }

    #[test]
    fn what_is_no_route_is_named() {
        let of_changes = Format::Frr
            .read("ipv6 route 2001:db8:1::/64 2001:db8::1\nno ipv6 route 2001:db8:2::/64 2001:db8::2\n");
        let error = of_changes.unwrap_err().to_string();
        assert!(error.starts_with("line 2 is no route of this format: \"no ipv6 route"), "{error}");
        for format in Format::value_variants() {
            for other in Format::value_variants() {
                let read = format.read(&other.write(&some()));
                let alike = format == other
                    || matches!((format, other), (Format::Frr, Format::Ios) | (Format::Ios, Format::Frr));
                assert!(alike || read.is_err(), "{format:?} takes {other:?}");
            }
        }
    }

    #[test]
    fn changes_in_each_format() {
        let now = routes(&[
            ("2001:db8:8000:1::/64", Some("2001:db8::9")),
            ("2001:db8:8000:2::/64", Some("2001:db8::2")),
        ]);
        let changes = Changes::between(&some(), &now);
        let text = |format: Format| format.write_changes(&changes, &now);
        assert_eq!(
            text(Format::Iproute2),
            "route del unreachable 2001:db8:8000::/40 proto static\n\
             route replace 2001:db8:8000:1::/64 via 2001:db8::9 proto static\n\
             route replace 2001:db8:8000:2::/64 via 2001:db8::2 proto static\n"
        );
        assert_eq!(
            text(Format::Frr),
            "no ipv6 route 2001:db8:8000::/40 reject\n\
             ipv6 route 2001:db8:8000:1::/64 2001:db8::9\n\
             ipv6 route 2001:db8:8000:2::/64 2001:db8::2\n\
             no ipv6 route 2001:db8:8000:1::/64 2001:db8::1\n"
        );
        assert_eq!(text(Format::Ios), text(Format::Frr).replace("reject", "Null0"));
        assert_eq!(
            text(Format::Junos),
            "delete routing-options rib inet6.0 static route 2001:db8:8000::/40\n\
             delete routing-options rib inet6.0 static route 2001:db8:8000:1::/64\n\
             set routing-options rib inet6.0 static route 2001:db8:8000:1::/64 next-hop 2001:db8::9\n\
             set routing-options rib inet6.0 static route 2001:db8:8000:2::/64 next-hop 2001:db8::2\n"
        );
        assert_eq!(
            text(Format::Bird),
            "# -route 2001:db8:8000::/40 unreachable;\n\
             # -route 2001:db8:8000:1::/64 via 2001:db8::1;\n\
             # +route 2001:db8:8000:1::/64 via 2001:db8::9;\n\
             # +route 2001:db8:8000:2::/64 via 2001:db8::2;\n\
             protocol static sextant {\n\tipv6;\n\t\
                 route 2001:db8:8000:1::/64 via 2001:db8::9;\n\t\
                 route 2001:db8:8000:2::/64 via 2001:db8::2;\n}\n"
        );
    }
}
