//! What etcd's errors mean: whether the request was done, and whether another member may do better. Pure.

use std::{fmt, time::Duration};

use tonic::Code;

use crate::registry::RegistryError;

/// A request that failed on one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What it means.
    pub kind: Kind,
    /// What was said.
    pub text: String,
}

/// What a failure means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// There is no connection; the request was never sent.
    Unreachable,
    /// No answer came in time.
    Silent,
    /// The connection broke, or the answer says nothing clear.
    Broken,
    /// The cluster cannot take the request now, and did not.
    Waiting,
    /// etcd gave up waiting for its own outcome.
    Undecided,
    /// The login has to be made anew; nothing was done.
    Login,
    /// The store is full; nothing was done.
    Full,
    /// etcd will never do this; nothing was done.
    Refused,
    /// The revision is compacted, or is none of this store.
    NoRevision,
    /// The reply is larger than we take.
    TooLarge,
    /// There is no such lease.
    NoLease,
    /// There is such a lease already.
    LeaseTaken,
    /// etcd says that members differ.
    Corrupt,
}

impl Kind {
    /// Whether a write may have been done in spite of the failure.
    pub fn may_be_done(self) -> bool {
        matches!(self, Self::Silent | Self::Broken | Self::Undecided)
    }

    /// Whether another member, or another time, may do better.
    pub fn may_pass(self) -> bool {
        matches!(self, Self::Unreachable | Self::Silent | Self::Broken | Self::Waiting | Self::Undecided)
    }
}

/// etcd's own words for what it did not do, and never half did.
const REFUSALS: &[(&str, Kind)] = &[
    ("database space exceeded", Kind::Full),
    ("required revision", Kind::NoRevision),
    ("decoded message length too large", Kind::TooLarge),
    ("requested lease not found", Kind::NoLease),
    ("lease already exists", Kind::LeaseTaken),
    ("corrupt cluster", Kind::Corrupt),
    ("too many requests", Kind::Waiting),
    ("no leader", Kind::Waiting),
    ("raft proposal dropped", Kind::Waiting),
    ("not leader", Kind::Waiting),
    ("rpc not supported for learner", Kind::Waiting),
    ("invalid auth token", Kind::Login),
    ("user name is empty", Kind::Login),
    ("revision of auth store is old", Kind::Login),
    ("permission denied", Kind::Refused),
    ("authentication failed", Kind::Refused),
    ("message larger than max", Kind::Refused),
];

/// What etcd says when it gave up, though the raft log may still have the request.
const UNDECIDED: &[&str] = &["request timed out", "leader changed", "server stopped"];

/// Messages for people, by etcd's words.
const MENDS: &[(&str, &str)] = &[
    (
        "database space exceeded",
        "etcd is full and takes no writes: compact it (etcdctl compact), etcdctl defrag each member, then \
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
    /// What a gRPC status says. `unsent`: the connection was never there.
    pub fn of_status(code: Code, message: &str, unsent: bool) -> Self {
        let said = |(words, _): &&(&str, Kind)| message.contains(words);
        let kind = if unsent {
            Kind::Unreachable
        } else if let Some((_, kind)) = REFUSALS.iter().find(said) {
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
                Code::Unauthenticated => Kind::Login,
                Code::DeadlineExceeded => Kind::Silent,
                _ => Kind::Broken,
            }
        };
        let text = message.to_owned();
        Self { kind, text }
    }

    /// No answer within `limit`.
    pub fn silent(limit: Duration) -> Self {
        Self { kind: Kind::Silent, text: format!("no answer within {limit:?}") }
    }

    /// The same, where the request itself was not sent yet.
    pub fn unsent(mut self) -> Self {
        if self.kind.may_be_done() {
            self.kind = Kind::Waiting;
        }
        self
    }

    /// The same, naming the member.
    pub fn at(mut self, endpoint: &str) -> Self {
        self.text = format!("{endpoint}: {}", self.text);
        self
    }

    /// What a caller that only reads is told, or one whose write was not done.
    pub fn undone(self) -> RegistryError {
        match self.kind {
            Kind::Corrupt => RegistryError::Corrupt(self.to_string()),
            _ => RegistryError::Unavailable(self.to_string()),
        }
    }

    /// What a caller is told whose write failed.
    pub fn of_write(self) -> RegistryError {
        if self.kind.may_be_done() {
            return RegistryError::Unknown(self.to_string());
        }
        self.undone()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        let mend = MENDS.iter().find(|(words, _)| self.text.contains(words));
        mend.map_or(Ok(()), |(_, mend)| write!(f, " ({mend})"))
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
    fn only_what_is_surely_undone_counts_as_undone() {
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
            (Code::ResourceExhausted, "etcdserver: too many requests", Kind::Waiting),
            (Code::Unavailable, "etcdserver: no leader", Kind::Waiting),
            (Code::Unknown, "raft proposal dropped", Kind::Waiting),
            (Code::Unauthenticated, "etcdserver: invalid auth token", Kind::Login),
            (Code::InvalidArgument, "etcdserver: user name is empty", Kind::Login),
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
            (Code::DeadlineExceeded, "context deadline exceeded", Kind::Silent),
        ];
        for (code, message, wanted) in table {
            assert_eq!(kind(code, message), wanted, "{message}");
        }
        assert_eq!(Fault::of_status(Code::Unavailable, "tcp connect error", true).kind, Kind::Unreachable);
    }

    #[test]
    fn a_full_store_is_told_with_its_mend() {
        let fault =
            Fault::of_status(Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded", false);
        let told = fault.at("http://host:1").of_write();
        assert!(matches!(told, RegistryError::Unavailable(_)), "{told:?}");
        for words in ["http://host:1", "alarm disarm", "defrag", "--quota-backend-bytes"] {
            assert!(told.to_string().contains(words), "{told}");
        }
    }

    #[test]
    fn what_may_be_done_is_unknown_to_a_writer_alone() {
        let fault = || Fault::silent(Duration::from_secs(1));
        assert!(matches!(fault().of_write(), RegistryError::Unknown(_)));
        assert!(matches!(fault().undone(), RegistryError::Unavailable(_)));
    }
}
