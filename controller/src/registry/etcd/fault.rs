//! Classifies etcd's errors: whether the request was applied, and whether another member may succeed. Pure.

use std::{fmt, time::Duration};

use tonic::Code;

use crate::registry::RegistryError;

/// A request that failed on one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Its classification.
    pub kind: Kind,
    /// The error text.
    pub text: String,
}

/// The kind of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// No connection; the request was not sent.
    Unreachable,
    /// No answer in time.
    Timeout,
    /// The connection broke, or the answer is ambiguous.
    Broken,
    /// The cluster does not accept the request now; not applied.
    NotReady,
    /// etcd timed out waiting for the outcome.
    Undecided,
    /// The login has expired; not applied.
    Unauthenticated,
    /// The store is full; not applied.
    Full,
    /// etcd rejects the request permanently; not applied.
    Refused,
    /// The revision is compacted, or does not exist in this store.
    NoRevision,
    /// The reply exceeds our limit.
    TooLarge,
    /// The lease does not exist.
    NoLease,
    /// The lease exists already.
    LeaseTaken,
    /// etcd reports that members differ.
    Corrupt,
}

impl Kind {
    /// Whether a write may have been applied in spite of the failure.
    pub fn may_be_applied(self) -> bool {
        matches!(self, Self::Timeout | Self::Broken | Self::Undecided)
    }

    /// Whether another member, or a later attempt, may succeed.
    pub fn is_transient(self) -> bool {
        matches!(self, Self::Unreachable | Self::Timeout | Self::Broken | Self::NotReady | Self::Undecided)
    }
}

/// etcd's messages for requests that it did not apply.
const REFUSALS: &[(&str, Kind)] = &[
    ("database space exceeded", Kind::Full),
    ("required revision", Kind::NoRevision),
    ("decoded message length too large", Kind::TooLarge),
    ("requested lease not found", Kind::NoLease),
    ("lease already exists", Kind::LeaseTaken),
    ("corrupt cluster", Kind::Corrupt),
    ("too many requests", Kind::NotReady),
    ("no leader", Kind::NotReady),
    ("raft proposal dropped", Kind::NotReady),
    ("not leader", Kind::NotReady),
    ("rpc not supported for learner", Kind::NotReady),
    ("invalid auth token", Kind::Unauthenticated),
    ("user name is empty", Kind::Unauthenticated),
    ("revision of auth store is old", Kind::Unauthenticated),
    ("permission denied", Kind::Refused),
    ("authentication failed", Kind::Unauthenticated),
    ("message larger than max", Kind::Refused),
];

/// etcd's messages when it timed out while the raft log may still contain the request.
const UNDECIDED: &[&str] = &["request timed out", "leader changed", "server stopped"];

/// Fixes, by etcd's messages.
const FIXES: &[(&str, &str)] = &[
    (
        "database space exceeded",
        "etcd is full and refuses writes: compact it (etcdctl compact), etcdctl defrag each member, then \
         etcdctl alarm disarm; or raise --quota-backend-bytes",
    ),
    ("too many operations", "a transaction cannot be split; raise etcd's --max-txn-ops (128 by default)"),
    (
        "request is too large",
        "a transaction cannot be split; raise etcd's --max-request-bytes (1.5 MiB by default)",
    ),
    (
        "message larger than max",
        "a transaction cannot be split; raise etcd's --max-request-bytes (1.5 MiB by default)",
    ),
    (
        "permission denied",
        "give its user a role that may read and write /sextant/v1/ (etcdctl role grant-permission --prefix)",
    ),
    ("authentication failed", "check the user and password for etcd"),
    ("user name is empty", "etcd has authentication on; set its user and password"),
];

impl Fault {
    /// Classifies a gRPC status. `unsent`: there was no connection.
    pub fn of_status(code: Code, message: &str, unsent: bool) -> Self {
        let matches = |(words, _): &&(&str, Kind)| message.contains(words);
        let kind = if unsent {
            Kind::Unreachable
        } else if let Some((_, kind)) = REFUSALS.iter().find(matches) {
            *kind
        } else if UNDECIDED.iter().any(|words| message.contains(words)) {
            Kind::Undecided
        } else {
            match code {
                Code::InvalidArgument
                | Code::FailedPrecondition
                | Code::PermissionDenied
                | Code::Unimplemented
                | Code::NotFound
                | Code::AlreadyExists => Kind::Refused,
                Code::Unauthenticated => Kind::Unauthenticated,
                Code::DeadlineExceeded => Kind::Timeout,
                _ => Kind::Broken,
            }
        };
        let text = message.to_owned();
        Self { kind, text }
    }

    /// No answer within `limit`.
    pub fn timeout(limit: Duration) -> Self {
        Self { kind: Kind::Timeout, text: format!("no answer within {limit:?}") }
    }

    /// The same, if the request itself was not sent yet.
    pub fn unsent(mut self) -> Self {
        if self.kind.may_be_applied() {
            self.kind = Kind::NotReady;
        }
        self
    }

    /// The same, naming the member.
    pub fn at(mut self, endpoint: &str) -> Self {
        self.text = format!("{endpoint}: {}", self.text);
        self
    }

    /// The error for a read, or for a write that was not applied.
    pub fn not_applied(self) -> RegistryError {
        match self.kind {
            Kind::Corrupt => RegistryError::Corrupt(self.to_string()),
            _ => RegistryError::Unavailable(self.to_string()),
        }
    }

    /// The error for a failed write.
    pub fn of_write(self) -> RegistryError {
        if self.kind.may_be_applied() {
            return RegistryError::Unknown(self.to_string());
        }
        self.not_applied()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        let fix = FIXES.iter().find(|(words, _)| self.text.contains(words));
        fix.map_or(Ok(()), |(_, fix)| write!(f, " ({fix})"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(code: Code, message: &str) -> Kind {
        Fault::of_status(code, message, false).kind
    }

    /// Codes and messages as etcd 3.4 sends them.
    #[test]
    fn errors_are_classified_by_code_and_message() {
        let table = [
            (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded", Kind::Full),
            (Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted", Kind::NoRevision),
            (Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision", Kind::NoRevision),
            (
                Code::OutOfRange,
                "Error, decoded message length too large: found 5 bytes, the limit is: 4 bytes",
                Kind::TooLarge,
            ),
            (Code::NotFound, "etcdserver: requested lease not found", Kind::NoLease),
            (Code::FailedPrecondition, "etcdserver: lease already exists", Kind::LeaseTaken),
            (Code::DataLoss, "etcdserver: corrupt cluster", Kind::Corrupt),
            (Code::ResourceExhausted, "etcdserver: too many requests", Kind::NotReady),
            (Code::Unavailable, "etcdserver: no leader", Kind::NotReady),
            (Code::Unknown, "raft proposal dropped", Kind::NotReady),
            (Code::Unauthenticated, "etcdserver: invalid auth token", Kind::Unauthenticated),
            (Code::InvalidArgument, "etcdserver: user name is empty", Kind::Unauthenticated),
            (Code::PermissionDenied, "etcdserver: permission denied", Kind::Refused),
            (Code::InvalidArgument, "etcdserver: too many operations in txn request", Kind::Refused),
            (Code::InvalidArgument, "etcdserver: request is too large", Kind::Refused),
            (Code::Unavailable, "etcdserver: request timed out", Kind::Undecided),
            (
                Code::Unavailable,
                "etcdserver: request timed out, possibly due to previous leader failure",
                Kind::Undecided,
            ),
            (Code::Unavailable, "etcdserver: leader changed", Kind::Undecided),
            (Code::Unavailable, "etcdserver: server stopped", Kind::Undecided),
            (Code::Unavailable, "transport error", Kind::Broken),
            (Code::Unknown, "h2 protocol error", Kind::Broken),
            (Code::Internal, "anything", Kind::Broken),
            (Code::Cancelled, "anything", Kind::Broken),
            (Code::DeadlineExceeded, "context deadline exceeded", Kind::Timeout),
        ];
        for (code, message, wanted) in table {
            assert_eq!(kind(code, message), wanted, "{message}");
        }
        assert_eq!(Fault::of_status(Code::Unavailable, "tcp connect error", true).kind, Kind::Unreachable);
    }

    #[test]
    fn the_error_of_a_full_store_names_the_fix() {
        let fault =
            Fault::of_status(Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded", false);
        let error = fault.at("http://host:1").of_write();
        assert!(matches!(error, RegistryError::Unavailable(_)), "{error:?}");
        for words in ["http://host:1", "alarm disarm", "defrag", "--quota-backend-bytes"] {
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn only_a_writer_gets_an_unknown_outcome() {
        let fault = || Fault::timeout(Duration::from_secs(1));
        assert!(matches!(fault().of_write(), RegistryError::Unknown(_)));
        assert!(matches!(fault().not_applied(), RegistryError::Unavailable(_)));
    }
}
