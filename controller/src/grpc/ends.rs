//! The ends of a path, as operators name them: a node, NODE/CONTAINER, or a container that only one node has.

use std::net::Ipv6Addr;

use sextant_proto::{Container, NodeName, Prefix, quoted};
use tonic::Status;

use super::{Services, containers, questions};

/// An end of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    pub(super) node: NodeName,
    pub(super) container: Option<Container>,
}

impl End {
    /// The address of its container in a prefix.
    pub(super) fn address_in(&self, prefix: Prefix) -> Option<Ipv6Addr> {
        self.addresses_in(prefix).next().map(|(_, addr)| *addr)
    }

    fn addresses_in(&self, prefix: Prefix) -> impl Iterator<Item = &(String, Ipv6Addr)> {
        let addresses = self.container.iter().flat_map(|container| &container.addresses);
        addresses.filter(move |(_, addr)| prefix.contains(*addr))
    }

    /// This end once for each address of its container in a prefix. The container of several is named with its network.
    fn each_in(&self, prefix: Prefix) -> Vec<Self> {
        let addresses: Vec<_> = self.addresses_in(prefix).cloned().collect();
        let Some(container) = self.container.as_ref().filter(|_| addresses.len() > 1) else {
            return vec![self.clone()];
        };
        let with = |address: (String, Ipv6Addr)| {
            let name = format!("{} on network {}", container.name, address.0);
            Self { container: Some(Container { name, addresses: vec![address] }), ..self.clone() }
        };
        addresses.into_iter().map(with).collect()
    }

    /// Its container's name.
    pub(super) fn container_name(&self) -> Option<String> {
        self.container.as_ref().map(|container| container.name.clone())
    }
}

/// The paths between two ends, whose host prefixes in a pool are these: as few as have each address of both containers in one.
pub(super) fn paths(from: (&End, Prefix), to: (&End, Prefix)) -> Vec<(End, End)> {
    let (from, to) = (from.0.each_in(from.1), to.0.each_in(to.1));
    let count = from.len().max(to.len());
    (0..count).map(|at| (from[at % from.len()].clone(), to[at % to.len()].clone())).collect()
}

/// The end with this name. A node of the name counts before containers.
pub(super) async fn resolve(services: &Services, text: &str) -> Result<End, Status> {
    if let Some((node, name)) = text.split_once('/') {
        let node: NodeName = node.parse().map_err(|error| Status::invalid_argument(format!("{error}")))?;
        questions::exists(services, &node)?;
        let container = containers::on_node(services, &node, name).await?;
        return Ok(End { node, container: Some(container) });
    }
    match text.parse::<NodeName>() {
        Ok(node) if questions::exists(services, &node).is_ok() => Ok(End { node, container: None }),
        _ => only(text, containers::with_name(services, text).await),
    }
}

/// The only one of the containers with this name.
fn only(name: &str, (mut found, silent): (Vec<(NodeName, Container)>, usize)) -> Result<End, Status> {
    let name = quoted(name);
    match found.len() {
        1 => {
            let (node, container) = found.remove(0);
            Ok(End { node, container: Some(container) })
        }
        0 => {
            let silent = match silent {
                0 => String::new(),
                some => format!("; agents that did not answer: {some}"),
            };
            Err(Status::not_found(format!(
                "no node and no running container that an agent sees is named \"{name}\"{silent}; see `sextant node list` and \
                 `sextant node show NODE --containers`"
            )))
        }
        _ => {
            let all: Vec<_> = found.iter().map(|(node, _)| format!("{node}/{name}")).take(16).collect();
            Err(Status::invalid_argument(format!(
                "several containers are named \"{name}\"; name one of {}",
                all.join(", ")
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn web(node: &str) -> (NodeName, Container) {
        let addresses = vec![
            ("private".to_owned(), "fd00::2".parse().unwrap()),
            ("sextant".to_owned(), "2001:db8:1::2".parse().unwrap()),
        ];
        (node.parse().unwrap(), Container { name: "web".into(), addresses })
    }

    #[test]
    fn each_address_of_a_container_on_several_networks_is_in_a_path() {
        let end = |name: &str, addresses: &[(&str, &str)]| {
            let addresses =
                addresses.iter().map(|(net, addr)| ((*net).to_owned(), addr.parse().unwrap())).collect();
            let container = (!name.is_empty()).then(|| Container { name: name.to_owned(), addresses });
            End { node: "h1".parse().unwrap(), container }
        };
        let web = end("web", &[("db", "2001:db8:1::a:2"), ("ula", "fd00::2"), ("sextant", "2001:db8:1::2")]);
        let db = end("db", &[("sextant", "2001:db8:2::5")]);
        let [one, two] = ["2001:db8:1::/64", "2001:db8:2::/64"].map(|it| it.parse().unwrap());
        let shown = |from: &End, to: &End| -> Vec<_> {
            let paths = paths((from, one), (to, two));
            let text = |end: &End, prefix| {
                let addr = end.address_in(prefix).map(|addr| addr.to_string()).unwrap_or_default();
                format!("{} {addr}", end.container_name().unwrap_or_default())
            };
            paths.iter().map(|(from, to)| format!("{} to {}", text(from, one), text(to, two))).collect()
        };
        assert_eq!(
            shown(&web, &db),
            [
                "web on network db 2001:db8:1::a:2 to db 2001:db8:2::5",
                "web on network sextant 2001:db8:1::2 to db 2001:db8:2::5",
            ]
        );
        assert_eq!(shown(&end("", &[]), &db), ["  to db 2001:db8:2::5"]);
        assert_eq!(shown(&end("", &[]), &end("", &[])), ["  to  "]);
    }

    #[test]
    fn one_container_of_a_name_is_meant_and_several_are_listed() {
        let end = only("web", (vec![web("h2")], 3)).unwrap();
        assert_eq!((end.node.as_str(), end.container_name()), ("h2", Some("web".into())));
        let prefix = |text: &str| text.parse().unwrap();
        assert_eq!(end.address_in(prefix("2001:db8:1::/64")), "2001:db8:1::2".parse().ok());
        assert_eq!(end.address_in(prefix("2001:db8:2::/64")), None);
        let several = only("web", (vec![web("h1"), web("h2")], 0)).unwrap_err();
        assert!(several.message().ends_with("name one of h1/web, h2/web"), "{several}");
        let none = only("we\u{1b}b", (vec![], 2)).unwrap_err();
        assert!(none.message().contains("did not answer: 2") && !none.message().contains('\u{1b}'), "{none}");
    }
}
