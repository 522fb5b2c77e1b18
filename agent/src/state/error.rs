//! What can be wrong with the state directory, and the fixes.

use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use sextant_proto::NodeId;

/// An error of the state directory.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another agent uses it.
    #[error("state directory {}: another agent uses it; stop that agent, or give this one another --state-dir", .0.display())]
    InUse(PathBuf),
    /// It cannot be read or written.
    #[error("{}; {}", cause(path, source), fix(path, source))]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// While this agent ran, the directory was replaced by that of another node.
    #[error(
        "state directory {} now belongs to node id {found}, but this agent is {own}, and writes nothing there. Restore the \
         directory of {own}, or restart the agent to run as {found}", path.display()
    )]
    OtherNode {
        /// The directory.
        path: PathBuf,
        /// The node id in the directory.
        found: String,
        /// The node id of this process.
        own: NodeId,
    },
    /// A file has invalid content.
    #[error(
        "{}: {problem}; restore it from a copy, or move it away: the agent then requests its claim from a controller",
        path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The problem.
        problem: String,
    },
}

impl StateError {
    /// The observation, and the fix. Empty: the observation names it.
    pub fn parts(&self) -> (String, String) {
        match self {
            Self::Io { path, source } => (cause(path, source), fix(path, source)),
            Self::InUse(_) | Self::OtherNode { .. } | Self::Malformed { .. } => {
                (self.to_string(), String::new())
            }
        }
    }
}

fn cause(path: &Path, source: &io::Error) -> String {
    format!("state directory {}: {source}", path.display())
}

fn fix(path: &Path, source: &io::Error) -> String {
    match source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            let directory = path.parent().unwrap_or(path).display();
            format!("free space on its disk (df {directory}): the agent then goes on by itself")
        }
        ErrorKind::ReadOnlyFilesystem => {
            "remount its filesystem writable; see the kernel's log for the reason".into()
        }
        _ => "it must be writable for the agent (--state-dir)".into(),
    }
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;

    #[test]
    fn the_fix_is_that_of_the_reason() {
        for (errno, expected) in [
            (Errno::ENOSPC, "free space on its disk (df /var/lib/sextant)"),
            (Errno::EDQUOT, "free space on its disk (df /var/lib/sextant)"),
            (Errno::EROFS, "remount its filesystem writable"),
            (Errno::EACCES, "it must be writable for the agent (--state-dir)"),
        ] {
            let path = PathBuf::from("/var/lib/sextant/host.json");
            let error = StateError::Io { path, source: io::Error::from(errno) };
            let (saw, fix) = error.parts();
            assert!(
                saw.starts_with("state directory /var/lib/sextant/host.json: ") && fix.starts_with(expected),
                "{fix}"
            );
            assert_eq!(error.to_string(), format!("{saw}; {fix}"));
        }
    }
}
