//! The nodes that a join token is for: a name, or a pattern with one `*`. Pure.

use std::{fmt, str::FromStr};

use sextant_proto::{NodeName, quoted};

/// The nodes that a token is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodePattern {
    /// This one.
    One(NodeName),
    /// All whose names begin and end so.
    Several(String, String),
}

/// A text that is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" names no nodes; give the name of a node, or one with a single *, e.g. 'web-*'")]
pub struct PatternError(String);

impl NodePattern {
    /// Whether the node is one of them.
    pub fn includes(&self, node: &NodeName) -> bool {
        match self {
            Self::One(name) => name == node,
            Self::Several(start, end) => {
                let rest = node.as_str().strip_prefix(start.as_str());
                // The star stands for a character at least.
                rest.is_some_and(|rest| rest.len() > end.len() && rest.ends_with(end.as_str()))
            }
        }
    }

    /// Whether it is a pattern, and no name.
    pub fn is_several(&self) -> bool {
        matches!(self, Self::Several(..))
    }
}

impl FromStr for NodePattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let wrong = || PatternError(quoted(text));
        match text.split('*').collect::<Vec<_>>()[..] {
            [name] => Ok(Self::One(name.parse().map_err(|_| wrong())?)),
            [start, end] => {
                let _a_name: NodeName = format!("{start}x{end}").parse().map_err(|_| wrong())?;
                Ok(Self::Several(start.to_owned(), end.to_owned()))
            }
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for NodePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(name) => write!(f, "{name}"),
            Self::Several(start, end) => write!(f, "{start}*{end}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_names_nodes() {
        for (pattern, node, includes) in [
            ("h7", "h7", true),
            ("h7", "h77", false),
            ("web-*", "web-1", true),
            ("web-*", "web-", false),
            ("web-*", "db-1", false),
            ("web-*.example.org", "web-1.example.org", true),
            ("web-*.example.org", "web-1.example.com", false),
            ("a*a", "aa", false),
            ("*", "h7", true),
        ] {
            let parsed: NodePattern = pattern.parse().unwrap();
            assert_eq!(parsed.to_string(), pattern);
            let Ok(node) = node.parse::<NodeName>() else { continue };
            assert_eq!(parsed.includes(&node), includes, "{pattern} {node}");
        }
        for wrong in ["", "H7", "a*b*", "web *", "-*", "../*"] {
            assert!(wrong.parse::<NodePattern>().is_err(), "{wrong}");
        }
    }
}
