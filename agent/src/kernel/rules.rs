//! The rules of the routing policy as data.

use sextant_proto::Prefix;

/// A rule of the IPv6 routing policy (ip-rule(8)). The kernel evaluates rules in ascending order of priority.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// Its priority, which `ip` calls preference.
    pub priority: u32,
    /// The source prefix that it matches.
    pub from: Option<Prefix>,
    /// The destination prefix that it matches.
    pub to: Option<Prefix>,
    /// It has more conditions, e.g. a mark, an interface or a port; or it is inverted (`not`).
    pub conditional: bool,
    /// The interface that packets come in by (`iif`); `lo` for those of this host itself.
    pub iif: Option<String>,
    /// It matches the packets that its conditions do not (`not`).
    pub inverted: bool,
    /// Its further conditions.
    pub further: Further,
    /// Its action.
    pub action: RuleAction,
    /// Routes of this prefix length or shorter are ignored (`suppress_prefixlength`).
    pub suppress_prefix_len: Option<u32>,
}

/// The conditions of a rule other than addresses and the incoming interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Further {
    /// Which ordinary packets meet them.
    pub met_by: Share,
    /// As `ip rule` takes them, e.g. `fwmark 0x1/0xff`; empty without any.
    pub words: String,
}

/// A share of packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Share {
    /// All of them.
    #[default]
    All,
    /// Some of them.
    Some,
    /// None of them.
    None,
}

impl Share {
    /// The packets of both shares: a part of each, where they are parts.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::None, _) | (_, Self::None) => Self::None,
            (Self::All, Self::All) => Self::All,
            _ => Self::Some,
        }
    }

    /// The other packets.
    #[must_use]
    pub fn inverted(self) -> Self {
        match self {
            Self::All => Self::None,
            Self::Some => Self::Some,
            Self::None => Self::All,
        }
    }
}

/// The action of a rule (FR_ACT_*).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RuleAction {
    /// Looks the destination up in this table; without a match, the next rule is evaluated.
    Table(u32),
    /// Rejects or drops: `unreachable`, `prohibit`, `blackhole`.
    Refuse(&'static str),
    /// The next rule is the first one of this priority or a higher one.
    Goto(u32),
    /// An action that decides nothing.
    #[default]
    Other,
}
