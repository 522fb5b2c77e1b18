//! Containers that the agent has taken off a network to make that anew, until they are on it again. Pure.

use std::collections::BTreeMap;

use crate::network::Container;

/// A container that is to be on a network again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Waiting {
    /// The name of the network.
    pub network: String,
    /// The container.
    pub container: Container,
    /// How it was on the network, but for its addresses.
    pub endpoint: Endpoint,
}

/// How a container is on a network, as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Endpoint {
    /// Its other names there, e.g. that of its service in a Compose file.
    pub aliases: Vec<String>,
    /// Its links to other containers.
    pub links: Vec<String>,
    /// The options of the driver.
    pub options: BTreeMap<String, String>,
    /// The priority of the network's gateway.
    pub gateway_priority: Option<i64>,
}

impl Endpoint {
    /// Without the names that the engine gives each container by its id.
    pub(crate) fn without_own_names(mut self, id: &str) -> Self {
        self.aliases.retain(|alias| !id.starts_with(alias.as_str()));
        self
    }
}

/// These, and `more` in the place of the same containers on the same network.
pub(crate) fn with(waiting: &[Waiting], more: Vec<Waiting>) -> Vec<Waiting> {
    let same = |one: &Waiting, other: &Waiting| {
        (&one.network, &one.container.id) == (&other.network, &other.container.id)
    };
    let kept = waiting.iter().filter(|it| !more.iter().any(|new| same(it, new))).cloned();
    kept.chain(more.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(network: &str, id: &str, alias: &str) -> Waiting {
        let container = Container { name: format!("name of {id}"), id: id.into() };
        let endpoint = Endpoint { aliases: vec![alias.into()], ..Endpoint::default() };
        Waiting { network: network.into(), container, endpoint }
    }

    #[test]
    fn a_container_waits_once_for_a_network() {
        let before = [waiting("sextant", "1", "old"), waiting("db", "1", "db"), waiting("sextant", "2", "b")];
        let all = with(&before, vec![waiting("sextant", "1", "new"), waiting("sextant", "3", "c")]);
        let shown: Vec<_> = all.iter().map(|it| it.endpoint.aliases[0].as_str()).collect();
        assert_eq!(shown, ["db", "b", "new", "c"]);
    }

    #[test]
    fn the_names_by_its_id_are_the_engines() {
        let aliases = ["web", "0123456789ab", "0123456789abcdef0"].map(str::to_owned).to_vec();
        let endpoint = Endpoint { aliases, ..Endpoint::default() }.without_own_names("0123456789abcdef0");
        assert_eq!(endpoint.aliases, ["web"]);
    }
}
