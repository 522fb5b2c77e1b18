//! The members of the cluster that are no nodes.

use std::fmt;

use sextant_identity::Subject;
use sextant_proto::NodeName;

/// A person or a controller, by the name of its certificates.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Member {
    /// A person.
    Admin(NodeName),
    /// A controller.
    Controller(NodeName),
}

impl Member {
    /// The one that a certificate names; `None` if that is a node's.
    pub fn of(subject: &Subject) -> Option<Self> {
        match subject {
            Subject::Node(_) => None,
            Subject::Admin(name) => Some(Self::Admin(name.clone())),
            Subject::Controller(name) => Some(Self::Controller(name.clone())),
        }
    }

    /// Its kind, as the command line has it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Admin(_) => "admin",
            Self::Controller(_) => "controller",
        }
    }

    /// Its name.
    pub fn name(&self) -> &NodeName {
        let (Self::Admin(name) | Self::Controller(name)) = self;
        name
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.name())
    }
}
