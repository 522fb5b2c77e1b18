//! Settings from a TOML file, overlaid by the environment and flags.
//!
//! One struct serves all three: it derives `clap::Args` (flags and `SEXTANT_…` variables) and serde (the file's keys),
//! with every field an `Option` that is skipped when `None`.

use std::path::{Path, PathBuf};

use serde::{Serialize, de::DeserializeOwned};
use toml::{Table, Value};

/// Invalid settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("config file {}: {source}; name another file with --config", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The content of the file is invalid.
    #[error("config file {}: {source}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The position and the reason.
        source: Box<toml::de::Error>,
    },
    /// The layers cannot be combined.
    #[error("settings: {0}")]
    Overlay(String),
}

/// The settings of the file at `path`, overlaid by `flags`. A missing file counts as an empty one if it is the
/// `default` path and was not named.
///
/// # Errors
/// If the file cannot be read, or has an unknown key or an invalid value.
pub fn layered<T>(path: Option<&Path>, default: &Path, flags: &T) -> Result<T, SettingsError>
where
    T: Serialize + DeserializeOwned,
{
    let mut layers = file_table::<T>(path, default)?;
    let overlay = |error: &dyn ToString| SettingsError::Overlay(error.to_string());
    let flags = Table::try_from(flags).map_err(|error| overlay(&error))?;
    overlay_table(&mut layers, flags);
    layers.try_into().map_err(|error| overlay(&error))
}

fn file_table<T: DeserializeOwned>(path: Option<&Path>, default: &Path) -> Result<Table, SettingsError> {
    let chosen = path.unwrap_or(default);
    let text = match std::fs::read_to_string(chosen) {
        Ok(text) => text,
        Err(error) if path.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Table::new());
        }
        Err(source) => {
            return Err(SettingsError::Unreadable { path: chosen.to_owned(), source });
        }
    };
    let malformed = |source| SettingsError::Malformed { path: chosen.to_owned(), source: Box::new(source) };
    toml::from_str::<T>(&text).map_err(malformed)?;
    toml::from_str(&text).map_err(malformed)
}

fn overlay_table(lower: &mut Table, upper: Table) {
    for (key, value) in upper {
        match (lower.get_mut(&key), value) {
            (Some(Value::Table(lower)), Value::Table(upper)) => overlay_table(lower, upper),
            (_, value) => {
                lower.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Settings {
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        uplink: Uplink,
    }

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Uplink {
        #[serde(skip_serializing_if = "Option::is_none")]
        interface: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        metric: Option<u32>,
    }

    fn layer(text: &str, flags: &Settings) -> Result<Settings, SettingsError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        std::fs::write(&path, text).unwrap();
        layered(Some(&path), Path::new("/nonexistent"), flags)
    }

    #[test]
    fn flags_override_single_keys() {
        let flags = Settings { name: None, uplink: Uplink { interface: Some("eth1".into()), metric: None } };
        let settings = layer("name = \"a\"\n[uplink]\ninterface = \"eth0\"\nmetric = 5\n", &flags).unwrap();
        assert_eq!(settings.name.as_deref(), Some("a"));
        assert_eq!(settings.uplink, Uplink { interface: Some("eth1".into()), metric: Some(5) });
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let error = layer("[uplink]\nintreface = \"eth0\"\n", &Settings::default()).unwrap_err().to_string();
        assert!(error.contains("intreface") && error.contains("line 2"), "{error}");
    }

    #[test]
    fn only_a_named_file_must_exist() {
        let missing = Path::new("/nonexistent/agent.toml");
        assert_eq!(layered(None, missing, &Settings::default()).unwrap(), Settings::default());
        let error = layered(Some(missing), missing, &Settings::default()).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/agent.toml") && error.contains("--config"), "{error}");
    }
}
