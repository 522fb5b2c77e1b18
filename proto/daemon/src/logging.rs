//! Log lines to standard error. A reader that has gone or has stopped ends and delays nothing.

use std::{io::IsTerminal, sync::Mutex};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use sextant_streams::LogSink;
use tracing_subscriber::EnvFilter;

/// The format of a log line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl LogFormat {
    /// Makes the line about the number of lost lines.
    fn note(self) -> fn(u64) -> String {
        match self {
            Self::Text => {
                |lost| format!("WARN log lines lost: the reader of standard error had stopped lines={lost}")
            }
            Self::Json => |lost| {
                format!(
                    r#"{{"level":"WARN","message":"log lines lost: the reader of standard error had stopped","lines":{lost}}}"#
                )
            },
        }
    }
}

/// Starts logging; call it once. `filter` is a level or directives like `info,sextant_agent=debug`.
///
/// # Errors
/// If `filter` is invalid.
pub fn init_logging(filter: &str, format: LogFormat) -> Result<(), String> {
    let filter = EnvFilter::try_new(directives(filter))
        .map_err(|error| format!("--log \"{filter}\": {error}; use error, warn, info, debug or trace"))?;
    // The subscriber would report a failed write by `eprintln!`, which panics: then the task ends that logs.
    let builder = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false);
    let builder = builder.with_writer(Mutex::new(LogSink::stderr(format.note())));
    match format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}

/// A bare level applies to Sextant's own crates; libraries log from `warn` on.
fn directives(filter: &str) -> String {
    if filter.contains([',', '=']) {
        return filter.to_owned();
    }
    // All of them have this prefix, which is enough for a target.
    format!("warn,sextant={filter}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_level_applies_to_all_of_sextants_crates_and_to_no_other() {
        let enabled = |filter: &str| {
            let filter = EnvFilter::try_new(directives(filter)).unwrap();
            let subscriber = tracing_subscriber::fmt().with_env_filter(filter).finish();
            tracing::subscriber::with_default(subscriber, || {
                [
                    tracing::enabled!(target: "sextant_agent::run", tracing::Level::INFO),
                    tracing::enabled!(target: "sextant_docker::keeper", tracing::Level::INFO),
                    tracing::enabled!(target: "bollard", tracing::Level::INFO),
                ]
            })
        };
        assert_eq!(enabled("info"), [true, true, false]);
        assert_eq!(enabled("warn"), [false, false, false]);
        assert_eq!(enabled("warn,bollard=info"), [false, false, true]);
    }
}
