//! Failures of a command, one variant for each exit code (DESIGN §8).

use sextant_proto::{NodeName, PlainTextError, PoolError, PoolName, convert::MessageError};

/// The failure of a command; its text is for people.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Any other failure.
    #[error("{0}")]
    Failed(String),
    /// The command line is invalid.
    #[error("{0}")]
    Usage(String),
    /// The named object does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The request conflicts with the present state.
    #[error("{0}")]
    Conflict(String),
    /// No controller answers, or its store does not.
    #[error("{0}")]
    Unavailable(String),
    /// The result did not arrive in time.
    #[error("{0}")]
    TimedOut(String),
    /// Standard output cannot be written to.
    #[error("standard output: {0}")]
    Output(#[from] std::io::Error),
}

impl Failure {
    /// The exit code of DESIGN §8.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Failed(_) | Self::Output(_) => 1,
            Self::Usage(_) => 2,
            Self::NotFound(_) => 3,
            Self::Conflict(_) => 4,
            Self::Unavailable(_) => 5,
            Self::TimedOut(_) => 6,
        }
    }

    /// The same failure, and what the state is after it.
    pub(crate) fn and(self, state: &str) -> Self {
        let with = |why: String| format!("{why}; {state}");
        match self {
            Self::Failed(why) => Self::Failed(with(why)),
            Self::Usage(why) => Self::Usage(with(why)),
            Self::NotFound(why) => Self::NotFound(with(why)),
            Self::Conflict(why) => Self::Conflict(with(why)),
            Self::Unavailable(why) => Self::Unavailable(with(why)),
            Self::TimedOut(why) => Self::TimedOut(with(why)),
            Self::Output(error) => Self::Output(error),
        }
    }

    /// An unknown node; the same text as the controller's.
    pub(crate) fn no_node(name: &NodeName) -> Self {
        Self::NotFound(format!("node \"{name}\" does not exist; see `sextant node list`"))
    }

    /// An unknown pool; the same text as the controller's.
    pub(crate) fn no_pool(name: &PoolName) -> Self {
        Self::NotFound(format!("pool \"{name}\" does not exist; see `sextant pool list`"))
    }
}

impl From<PoolError> for Failure {
    fn from(error: PoolError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<PlainTextError> for Failure {
    fn from(error: PlainTextError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<MessageError> for Failure {
    fn from(error: MessageError) -> Self {
        let ours = sextant_proto::VERSION;
        Self::Failed(format!(
            "invalid answer from the controller ({error}); this is sextant {ours}: use the controller's version"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_the_design() {
        let text = String::new;
        let codes = [
            Failure::Failed(text()),
            Failure::Usage(text()),
            Failure::NotFound(text()),
            Failure::Conflict(text()),
            Failure::Unavailable(text()),
            Failure::TimedOut(text()),
        ]
        .map(|failure| failure.exit_code());
        assert_eq!(codes, [1, 2, 3, 4, 5, 6]);
    }
}
