//! The parts of host prefixes that Docker's networks have, as they are stored.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde::{Deserialize, Serialize};
use sextant_docker::{
    network::Container,
    parts::{Part, Parts},
    waiting::{Endpoint, Waiting},
};
use sextant_proto::{
    Prefix,
    convert::{MessageError, parse},
};

use super::{StateDir, StateError, malformed, read};

const DOCKER_NETWORKS: &str = "docker-networks.json";
const DOCKER_FORMER: &str = "docker-former.json";
const DOCKER_WAITING: &str = "docker-waiting.json";

impl StateDir {
    /// The parts of host prefixes that Docker's networks have.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn docker_networks(&self) -> Result<Parts, StateError> {
        Self::peek_docker_networks(&self.path)
    }

    /// Those in a directory, without its lock; none if it does not exist.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn peek_docker_networks(path: &Path) -> Result<Parts, StateError> {
        let path = path.join(DOCKER_NETWORKS);
        let stored: StoredParts = read(&path)?.unwrap_or_default();
        stored.try_into().map_err(|error: MessageError| malformed(&path, &error))
    }

    /// Stores them.
    ///
    /// # Errors
    /// If they cannot be written: then no network may be made with them.
    pub fn keep_docker_networks(&self, parts: &Parts) -> Result<(), StateError> {
        let stored = self.json(DOCKER_NETWORKS, &StoredParts::from(parts))?;
        self.keep(DOCKER_NETWORKS, Some(stored), false)
    }
}

impl StateDir {
    /// The prefixes that Docker's networks had before.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn docker_former(&self) -> Result<BTreeSet<Prefix>, StateError> {
        let path = self.path.join(DOCKER_FORMER);
        let stored: Vec<String> = read(&path)?.unwrap_or_default();
        let prefixes = stored.iter().map(|prefix| parse("prefix", prefix));
        prefixes.collect::<Result<_, MessageError>>().map_err(|error| malformed(&path, &error))
    }

    /// Stores them.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn keep_docker_former(&self, former: &BTreeSet<Prefix>) -> Result<(), StateError> {
        let stored: Vec<_> = former.iter().map(ToString::to_string).collect();
        let stored = self.json(DOCKER_FORMER, &stored)?;
        self.keep(DOCKER_FORMER, Some(stored), false)
    }
}

impl StateDir {
    /// The containers that are to be connected to Docker's networks again.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn docker_waiting(&self) -> Result<Vec<Waiting>, StateError> {
        let stored: Vec<StoredWaiting> = read(&self.path.join(DOCKER_WAITING))?.unwrap_or_default();
        Ok(stored.into_iter().map(Into::into).collect())
    }

    /// Stores them.
    ///
    /// # Errors
    /// If they cannot be written: then none may be disconnected.
    pub fn keep_docker_waiting(&self, waiting: &[Waiting]) -> Result<(), StateError> {
        let stored: Vec<_> = waiting.iter().map(StoredWaiting::from).collect();
        let stored = (!stored.is_empty()).then(|| self.json(DOCKER_WAITING, &stored)).transpose()?;
        self.keep(DOCKER_WAITING, stored, false)
    }
}

/// A container that is to be connected to a network again.
#[derive(Debug, Serialize, Deserialize)]
struct StoredWaiting {
    network: String,
    container: String,
    id: String,
    aliases: Vec<String>,
    links: Vec<String>,
    options: BTreeMap<String, String>,
    gateway_priority: Option<i64>,
}

impl From<&Waiting> for StoredWaiting {
    fn from(waiting: &Waiting) -> Self {
        let Waiting { network, container, endpoint } = waiting.clone();
        let Container { name, id } = container;
        let Endpoint { aliases, links, options, gateway_priority } = endpoint;
        Self { network, container: name, id, aliases, links, options, gateway_priority }
    }
}

impl From<StoredWaiting> for Waiting {
    fn from(stored: StoredWaiting) -> Self {
        let StoredWaiting { network, container, id, aliases, links, options, gateway_priority } = stored;
        let endpoint = Endpoint { aliases, links, options, gateway_priority };
        Self { network, container: Container { name: container, id }, endpoint }
    }
}

/// The parts, each with the name of its network.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
struct StoredParts(BTreeMap<String, StoredPart>);

#[derive(Debug, Serialize, Deserialize)]
struct StoredPart {
    host: String,
    prefix: String,
}

impl From<&Parts> for StoredParts {
    fn from(parts: &Parts) -> Self {
        let stored =
            |part: &Part| StoredPart { host: part.host.to_string(), prefix: part.prefix.to_string() };
        Self(parts.0.iter().map(|(name, part)| (name.clone(), stored(part))).collect())
    }
}

impl TryFrom<StoredParts> for Parts {
    type Error = MessageError;

    fn try_from(stored: StoredParts) -> Result<Self, MessageError> {
        let part = |(name, part): (String, StoredPart)| {
            let (host, prefix): (Prefix, Prefix) =
                (parse("host", &part.host)?, parse("prefix", &part.prefix)?);
            if !host.covers(prefix) {
                return Err(MessageError::new("prefix", format!("{prefix} is not inside of {host}")));
            }
            Ok((name, Part { host, prefix }))
        };
        stored.0.into_iter().map(part).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn former_prefixes_are_stored() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        assert_eq!(state.docker_former().unwrap(), BTreeSet::new());
        let former = ["2001:db8:1::/80", "2001:db8:2::/80"].map(|it| it.parse().unwrap()).into();
        state.keep_docker_former(&former).unwrap();
        assert_eq!(state.docker_former().unwrap(), former);
    }

    #[test]
    fn containers_that_are_to_be_connected_are_stored() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        assert_eq!(state.docker_waiting().unwrap(), []);
        let endpoint = Endpoint {
            aliases: vec!["web".into()],
            links: vec!["db:database".into()],
            options: [("key".to_owned(), "value".to_owned())].into(),
            gateway_priority: Some(7),
        };
        let container = Container { name: "app-web-1".into(), id: "0123".into() };
        let waiting = [Waiting { network: "sextant".into(), container, endpoint }];
        state.keep_docker_waiting(&waiting).unwrap();
        assert_eq!(state.docker_waiting().unwrap(), waiting);
        state.keep_docker_waiting(&[]).unwrap();
        assert_eq!(state.docker_waiting().unwrap(), []);
    }

    #[test]
    fn the_parts_of_networks_are_stored() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        assert_eq!(state.docker_networks().unwrap(), Parts::default());
        let prefix = |text: &str| text.parse().unwrap();
        let part = Part { host: prefix("2001:db8:1::/64"), prefix: prefix("2001:db8:1:0:1::/80") };
        let parts = Parts([("db".to_owned(), part)].into());
        state.keep_docker_networks(&parts).unwrap();
        assert_eq!(StateDir::peek_docker_networks(dir.path()).unwrap(), parts);
        let wrong = r#"{"db": {"host": "2001:db8:1::/64", "prefix": "2001:db8:2::/80"}}"#;
        std::fs::write(dir.path().join(DOCKER_NETWORKS), wrong).unwrap();
        let error = state.docker_networks().unwrap_err().to_string();
        assert!(error.contains("2001:db8:2::/80 is not inside of 2001:db8:1::/64"), "{error}");
    }
}
