//! The containers of a host. An agent may say anything: lists are cut off, and texts escaped.

use super::{address, octets};
use crate::{Container, Containers, quoted, v1};

/// The most containers in one answer.
pub const MOST_CONTAINERS: usize = 1024;
/// The most addresses of a container.
const MOST_ADDRESSES: usize = 64;

impl From<v1::Containers> for Containers {
    fn from(message: v1::Containers) -> Self {
        let cut = message.containers.len().saturating_sub(MOST_CONTAINERS) as u64;
        let containers = message.containers.into_iter().take(MOST_CONTAINERS).map(container).collect();
        Self { engine: quoted(&message.engine), containers, more: message.more.saturating_add(cut) }
    }
}

fn container(message: v1::Container) -> Container {
    let one = |it: v1::ContainerAddress| Some((quoted(&it.network), address(&it.address).ok()?));
    let addresses = message.addresses.into_iter().take(MOST_ADDRESSES).filter_map(one).collect();
    Container { name: quoted(&message.name), addresses }
}

impl From<&Containers> for v1::Containers {
    fn from(it: &Containers) -> Self {
        let containers = it.containers.iter().take(MOST_CONTAINERS);
        let cut = it.containers.len().saturating_sub(MOST_CONTAINERS) as u64;
        let address = |(network, addr): &(String, std::net::Ipv6Addr)| v1::ContainerAddress {
            network: network.clone(),
            address: octets(*addr),
        };
        let one = |it: &Container| v1::Container {
            name: it.name.clone(),
            addresses: it.addresses.iter().take(MOST_ADDRESSES).map(address).collect(),
        };
        Self { engine: it.engine.clone(), containers: containers.map(one).collect(), more: it.more + cut }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn containers(count: usize, name: &str) -> Containers {
        let addresses = vec![("sextant".to_owned(), "2001:db8::2".parse().unwrap())];
        let one = Container { name: name.into(), addresses };
        Containers { engine: "Docker 20.10".into(), containers: vec![one; count], more: 2 }
    }

    #[test]
    fn they_go_there_and_back() {
        let it = containers(3, "web");
        assert_eq!(Containers::from(v1::Containers::from(&it)), it);
    }

    #[test]
    fn what_an_agent_says_is_cut_off_and_escaped() {
        let many = containers(MOST_CONTAINERS + 7, "web");
        let sent = v1::Containers::from(&many);
        assert_eq!((sent.containers.len(), sent.more), (MOST_CONTAINERS, 9));
        let mut hostile = sent.clone();
        hostile.containers.extend_from_slice(&sent.containers);
        hostile.containers[0].name = "a\u{1b}[2Jb".repeat(100);
        hostile.containers[0].addresses[0].address = vec![1, 2, 3].into();
        hostile.containers[1].addresses = vec![sent.containers[1].addresses[0].clone(); 1000];
        hostile.more = u64::MAX;
        let taken = Containers::from(hostile);
        assert_eq!((taken.containers.len(), taken.more), (MOST_CONTAINERS, u64::MAX));
        assert!(!taken.containers[0].name.contains('\u{1b}') && taken.containers[0].name.len() < 1000);
        assert_eq!((taken.containers[0].addresses.len(), taken.containers[1].addresses.len()), (0, 64));
    }
}
