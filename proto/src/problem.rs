//! Problems of a host, as its agent reports them.

use std::fmt;

/// Something that is wrong with an agent's host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Which kind of problem; the same from version to version: `bridge-missing`.
    pub what: String,
    /// What was seen, with the names and values.
    pub saw: String,
    /// What to do; empty where that is not known.
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
