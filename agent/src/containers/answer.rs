//! The answer to a question about containers. Pure.

use std::net::Ipv6Addr;

use sextant_docker::live::Live;
use sextant_proto::{Container, Containers, convert::MOST_CONTAINERS};

/// Which containers are asked for: all, or those that have all that is set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// The one with this address.
    pub address: Option<Ipv6Addr>,
    /// The one with this name.
    pub name: Option<String>,
}

/// The containers that are known.
pub(crate) fn answer(live: Option<&Live>, filter: &Filter) -> Containers {
    let Some(live) = live else { return Containers::default() };
    let named = |name: &str| filter.name.as_ref().is_none_or(|wanted| wanted == name);
    let has = |addresses: &[(String, Ipv6Addr)]| {
        filter.address.is_none_or(|wanted| addresses.iter().any(|(_, addr)| *addr == wanted))
    };
    let wanted = live.containers.values().filter(|it| named(&it.name) && has(&it.addresses));
    let mut containers: Vec<_> =
        wanted.map(|it| Container { name: it.name.clone(), addresses: it.addresses.clone() }).collect();
    containers.sort_by(|a, b| a.name.cmp(&b.name));
    let more = (containers.len().saturating_sub(MOST_CONTAINERS) + live.more) as u64;
    containers.truncate(MOST_CONTAINERS);
    Containers { engine: format!("Docker {}", live.version), containers, more }
}

#[cfg(test)]
mod tests {
    use sextant_docker::live::Running;

    use super::*;

    #[test]
    fn all_or_one_by_its_name_or_address() {
        let mut live = Live { version: "20.10".into(), ..Live::default() };
        let running = |name: &str, addr: &str| {
            let addresses = vec![("net".to_owned(), addr.parse().unwrap())];
            (format!("id of {name}"), Running { name: name.into(), addresses })
        };
        live.set_containers([running("web", "fd00::2"), running("db", "fd00::3")]);
        let names = |filter: &Filter| {
            let found = answer(Some(&live), filter);
            assert_eq!(found.engine, "Docker 20.10");
            found.containers.into_iter().map(|it| it.name).collect::<Vec<_>>()
        };
        assert_eq!(names(&Filter::default()), ["db", "web"]);
        assert_eq!(names(&Filter { name: Some("web".into()), ..Filter::default() }), ["web"]);
        let address = "fd00::3".parse().ok();
        assert_eq!(names(&Filter { address, name: None }), ["db"]);
        assert_eq!(names(&Filter { address, name: Some("web".into()) }), Vec::<String>::new());
        assert_eq!(answer(None, &Filter::default()), Containers::default(), "nothing is watched");
    }
}
