//! A setting of the engine: a key of `daemon.json`, or the flag of the same meaning. Pure.

use std::fmt;

use serde_json::Value;

use super::Engine;
use crate::json::Document;

/// A setting that somebody has set, not to the empty text, which is as none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    name: &'static str,
    value: Value,
    is_flag: bool,
}

impl Set {
    /// What the file has, or else the running engine was started with.
    pub(super) fn of(
        document: &Document,
        engine: &Engine,
        key: &'static str,
        flags: &[&'static str],
    ) -> Option<Self> {
        let of_file =
            document.value(key).map(|value| Self { name: key, value: value.clone(), is_flag: false });
        let of_engine = || {
            let (name, value) = flags.iter().find_map(|flag| Some((*flag, engine.flag(flag)?)))?;
            Some(Self { name, value: value.into(), is_flag: true })
        };
        of_file.or_else(of_engine).filter(|set| !set.is(""))
    }

    /// Whether it has this value.
    pub(super) fn is(&self, value: &str) -> bool {
        self.value.as_str() == Some(value)
    }

    /// How it is removed.
    pub(super) fn removal(&self) -> &'static str {
        match self.is_flag {
            true => {
                "remove that flag from its unit (`systemctl edit docker`, or /etc/default/docker), and restart Docker"
            }
            false => "remove that key",
        }
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, value, is_flag } = self;
        match (is_flag, value.as_str()) {
            (true, Some(value)) => write!(f, "Docker was started with {name} {value}"),
            _ => write!(f, "daemon.json has \"{name}\": {value}"),
        }
    }
}
