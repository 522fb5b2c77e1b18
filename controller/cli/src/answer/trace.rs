//! The path between two nodes, in both directions.

use sextant_proto::{
    NodeName,
    convert::{MessageError, all, parse},
    trace::Direction,
    v1,
};

/// Both directions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trace {
    pub(crate) directions: Vec<Direction>,
    /// Agents that did not answer, with the reason and the fix.
    pub(crate) unasked: Vec<(NodeName, String)>,
}

impl TryFrom<v1::TraceResponse> for Trace {
    type Error = MessageError;

    fn try_from(message: v1::TraceResponse) -> Result<Self, MessageError> {
        let unasked = message.unasked.into_iter();
        Ok(Self {
            directions: all("directions", message.directions)?,
            unasked: unasked
                .map(|it| Ok((parse("node", &it.node)?, it.why)))
                .collect::<Result<_, MessageError>>()?,
        })
    }
}
