//! What went wrong with a peer, in an operator's words.

/// What went wrong with a peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::bgp) enum Fault {
    /// No connection could be made, or one broke.
    #[error("{0}")]
    Connection(String),
    /// A connection stands, and there is no session after the usual time.
    #[error("connected, but no session")]
    NoSession,
    /// The neighbour has sent no OPEN in time.
    #[error("no OPEN received")]
    NoOpen,
    /// The hold timer has expired.
    #[error("nothing heard for the hold time of {0} s")]
    HoldTimeExpired(u16),
    /// A message that cannot be decoded.
    #[error("it sent what cannot be read: {0}")]
    Malformed(String),
    /// A message that cannot be decoded, on a second connection.
    #[error("it sent what cannot be read, on a second connection: {0}")]
    MalformedOnSecond(String),
    /// A second connection on which something else than an OPEN came first.
    #[error("it sent no OPEN first, on a second connection")]
    NoOpenOnSecond,
    /// An OPEN that cannot be accepted, on a second connection.
    #[error("we refused its second connection: {0}")]
    SecondRefused(String),
    /// This end has ended the session.
    #[error("we ended the session: {0}")]
    EndedByUs(String),
    /// The neighbour has ended the session.
    #[error("it ended the session: {0}")]
    EndedByNeighbour(String),
    /// The neighbour has another AS number than configured.
    #[error("it is AS {theirs}, not {configured}; correct remote-as in agent.toml")]
    WrongAs {
        /// The AS number in its OPEN.
        theirs: u32,
        /// The one in the settings.
        configured: u32,
    },
    /// BFD has reported that the path failed.
    #[error("BFD: path to the neighbour failed")]
    PathFailed,
    /// The neighbour has announced more prefixes than it may.
    #[error(
        "it announces more than import-max = {0} prefixes; raise that in agent.toml, or have it announce less"
    )]
    TooManyPrefixes(usize),
}
