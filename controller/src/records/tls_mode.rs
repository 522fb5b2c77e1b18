//! What a controller takes.

use std::{fmt, str::FromStr};

/// What a controller takes at its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsMode {
    /// Plain text.
    Off,
    /// TLS, and plain text beside it.
    Warn,
    /// TLS alone.
    Strict,
}

/// The text is the name of no mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no such mode")]
pub struct UnknownMode;

impl fmt::Display for TlsMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Off => "off",
            Self::Warn => "warn",
            Self::Strict => "strict",
        })
    }
}

impl FromStr for TlsMode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        [Self::Off, Self::Warn, Self::Strict]
            .into_iter()
            .find(|mode| mode.to_string() == text)
            .ok_or(UnknownMode)
    }
}
