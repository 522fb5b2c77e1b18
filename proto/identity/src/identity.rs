//! The name in a certificate: `spiffe://CLUSTER/node/NAME`, `…/controller/ID` or `…/admin/NAME` (SPIFFE ID, section 2). Pure.

use std::{fmt, str::FromStr};

use sextant_proto::{NodeName, PoolName, quoted};

const SCHEME: &str = "spiffe://";

/// Who a certificate is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The cluster, by its name: the trust domain.
    pub cluster: PoolName,
    /// The member of the cluster.
    pub subject: Subject,
}

/// A member of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The agent of a node.
    Node(NodeName),
    /// A controller, by a name of its own.
    Controller(NodeName),
    /// A person, or a program that acts for one.
    Admin(NodeName),
}

impl Subject {
    /// Its name.
    pub fn name(&self) -> &NodeName {
        let (Self::Node(name) | Self::Controller(name) | Self::Admin(name)) = self;
        name
    }
}

/// What a person may do. Each role may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Reads.
    Viewer,
    /// Acts on hosts and reservations, and pauses agents.
    Operator,
    /// Does everything.
    Admin,
}

/// Why a text names nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// It is no SPIFFE ID of a member.
    #[error(
        "\"{0}\" names no member of a cluster; a certificate needs the URI spiffe://CLUSTER/node/NAME, \
         spiffe://CLUSTER/controller/NAME or spiffe://CLUSTER/admin/NAME"
    )]
    Form(String),
    /// It names no signer of receipts.
    #[error(
        "\"{0}\" names no signer of receipts; its certificate needs the URI spiffe://CLUSTER/receipts/NAME"
    )]
    Signer(String),
    /// A part of it is no name.
    #[error("{uri}: {why}")]
    Name {
        /// The whole text.
        uri: String,
        /// What is wrong with the name.
        why: String,
    },
    /// The role is none of the three.
    #[error(
        "\"{0}\" is no role; the organisational unit (OU) of a person's certificate is viewer, operator or admin"
    )]
    Role(String),
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let form = || IdentityError::Form(quoted(text));
        let parts: Vec<&str> = text.strip_prefix(SCHEME).ok_or_else(form)?.split('/').collect();
        let [cluster, kind, name] = parts[..] else { return Err(form()) };
        let wrong = |why: String| IdentityError::Name { uri: quoted(text), why };
        let cluster = cluster.parse().map_err(|error: sextant_proto::NameError| wrong(error.to_string()))?;
        let name = || -> Result<NodeName, IdentityError> {
            name.parse().map_err(|error: sextant_proto::NameError| wrong(error.to_string()))
        };
        let subject = match kind {
            "node" => Subject::Node(name()?),
            "controller" => Subject::Controller(name()?),
            "admin" => Subject::Admin(name()?),
            _ => return Err(form()),
        };
        Ok(Self { cluster, subject })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = match &self.subject {
            Subject::Node(name) => ("node", name),
            Subject::Controller(name) => ("controller", name),
            Subject::Admin(name) => ("admin", name),
        };
        write!(f, "{SCHEME}{}/{kind}/{name}", self.cluster)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(name) => write!(f, "node {name}"),
            Self::Controller(name) => write!(f, "controller {name}"),
            Self::Admin(name) => write!(f, "admin {name}"),
        }
    }
}

impl FromStr for Role {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        match text {
            "viewer" => Ok(Self::Viewer),
            "operator" => Ok(Self::Operator),
            "admin" => Ok(Self::Admin),
            _ => Err(IdentityError::Role(quoted(text))),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_a_cluster_are_named_by_a_uri() {
        for text in ["spiffe://c1/node/h1.example.org", "spiffe://c1/controller/a", "spiffe://c1/admin/ann"] {
            assert_eq!(text.parse::<Identity>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn whatever_else_a_uri_is_it_names_nobody() {
        for text in [
            "",
            "h1",
            "https://c1/node/h1",
            "spiffe://c1/node",
            "spiffe://c1/node/h1/x",
            "spiffe://c1/node/",
            "spiffe:///node/h1",
            "spiffe://c1/router/h1",
            "spiffe://c1/Node/h1",
            "spiffe://c1/node/H1",
            "spiffe://c1/node/h1?x=1",
            "spiffe://c1/node/h1#x",
            "spiffe://c1:80/node/h1",
            "spiffe://c1/node/..",
            "spiffe://c1/node/h1\n",
        ] {
            assert!(text.parse::<Identity>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn each_role_may_do_what_those_before_it_may() {
        assert!(Role::Viewer < Role::Operator && Role::Operator < Role::Admin);
        for role in ["viewer", "operator", "admin"] {
            assert_eq!(role.parse::<Role>().unwrap().to_string(), role);
        }
        assert!("root".parse::<Role>().unwrap_err().to_string().contains("\"root\" is no role"));
    }
}
