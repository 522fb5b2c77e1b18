//! Problems of a host, as its agent reports them.

use std::fmt;

/// A problem of an agent's host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The kind of the problem; stable across versions: `bridge-missing`.
    pub what: String,
    /// The observation, with names and values.
    pub saw: String,
    /// The fix; empty if unknown.
    pub fix: String,
    /// Since when.
    pub since_unix_ms: u64,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.saw)?;
        if self.fix.is_empty() { Ok(()) } else { write!(f, "; {}", self.fix) }
    }
}
