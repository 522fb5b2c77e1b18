//! Settings that give one link two roles. Pure.

use crate::{
    kernel::Link,
    problems::Finding,
    settings::{HostSettings, Role, Settings},
};

/// Settings that contradict each other, or this host's links.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    /// The containers' bridge is also an uplink.
    #[error(
        "bridge \"{0}\" is also an uplink; containers need a separate bridge. Set [bridge] interface (--bridge) or \
         [uplink] interface (--uplink) in agent.toml"
    )]
    BridgeIsUplink(String),
    /// An uplink is a port of the containers' bridge.
    #[error(
        "uplink \"{uplink}\" is a port of bridge \"{bridge}\", so containers and routers are on one link; containers need a \
         separate bridge. Take the port out: ip link set {uplink} nomaster; or, if {bridge} leads to the routers, move the host's \
         address to it, and set [uplink] interface = \"{bridge}\" and another [bridge] interface in agent.toml"
    )]
    UplinkInBridge {
        /// The uplink.
        uplink: String,
        /// The bridge.
        bridge: String,
    },
    /// The loopback interface is the containers' bridge. As an uplink, it lends its addresses to unnumbered hosts.
    #[error(
        "bridge \"lo\" is the loopback interface; set [bridge] interface (--bridge) in agent.toml to another one"
    )]
    BridgeIsLoopback,
    /// A router is expected where the containers are.
    #[error(
        "bridge \"{0}\" is also the interface of a BGP neighbour; a container could take part in routing. Set [bridge] interface \
         (--bridge) or the neighbour's interface in agent.toml"
    )]
    NeighbourOnBridge(String),
}

impl Contradiction {
    /// As a problem of a running host, whose links have changed.
    pub(super) fn finding(&self) -> Finding {
        Finding::unready(
            "one-link-two-roles",
            self.to_string(),
            "restart sextant-agent after a change of agent.toml",
        )
    }
}

/// Checks all settings against this host's links.
///
/// # Errors
/// The first contradiction.
pub fn check(settings: &Settings, links: &[Link]) -> Result<(), Contradiction> {
    let neighbours = settings.bgp.iter().flat_map(|bgp| &bgp.neighbours);
    let interfaces: Vec<_> = neighbours.filter_map(|it| it.interface.as_deref()).collect();
    let of_neighbours = neighbour_on_bridge(&settings.host(), &interfaces);
    of_host(&settings.host(), links).into_iter().chain(of_neighbours).next().map_or(Ok(()), Err)
}

/// The contradictions of the settings that refer to the host.
pub fn of_host(settings: &HostSettings, links: &[Link]) -> Vec<Contradiction> {
    let bridge = &settings.bridge;
    let (uplinks, is_host) = (&settings.uplinks, settings.role == Role::Host);
    let mut found = Vec::new();
    if !is_host {
        return found;
    }
    if bridge == "lo" {
        found.push(Contradiction::BridgeIsLoopback);
    }
    if uplinks.contains(bridge) {
        found.push(Contradiction::BridgeIsUplink(bridge.clone()));
    }
    let index = links.iter().find(|link| link.name == *bridge).map(|link| link.index);
    let ports = links.iter().filter(|link| index.is_some() && link.controller == index);
    let uplinks = ports.filter(|port| uplinks.contains(&port.name)).map(|port| port.name.clone());
    found.extend(uplinks.map(|uplink| Contradiction::UplinkInBridge { uplink, bridge: bridge.clone() }));
    found
}

fn neighbour_on_bridge(settings: &HostSettings, interfaces: &[&str]) -> Option<Contradiction> {
    let bridge = &settings.bridge;
    let both = settings.role == Role::Host && interfaces.contains(&bridge.as_str());
    both.then(|| Contradiction::NeighbourOnBridge(bridge.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(uplinks: &[&str], bridge: &str, role: Role) -> HostSettings {
        HostSettings {
            node: "h1".into(),
            role,
            pools: vec![],
            host_len: None,
            state_dir: "/state".into(),
            uplinks: uplinks.iter().map(|&name| name.to_owned()).collect(),
            bridge: bridge.into(),
            table: 254,
            docker: None,
            ndp_source: None,
            tls: None,
            controllers: vec![],
        }
    }

    fn links(controller_of_eth0: Option<u32>) -> Vec<Link> {
        let link =
            |index, name: &str, controller| Link { index, name: name.into(), controller, ..Link::default() };
        vec![link(2, "eth0", controller_of_eth0), link(3, "docker0", None), link(4, "br0", None)]
    }

    fn texts(uplinks: &[&str], bridge: &str, controller_of_eth0: Option<u32>) -> Vec<String> {
        let found = of_host(&settings(uplinks, bridge, Role::Host), &links(controller_of_eth0));
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn one_link_in_two_roles_is_refused_with_the_reason() {
        assert_eq!(texts(&["eth0"], "docker0", None), Vec::<String>::new());
        assert_eq!(texts(&["lo", "eth0"], "docker0", None), Vec::<String>::new(), "unnumbered");
        assert_eq!(texts(&["eth0"], "docker0", Some(4)), Vec::<String>::new(), "a bridge towards routers");
        for (uplinks, bridge, controller, begins) in [
            (&["eth0", "docker0"][..], "docker0", None, "bridge \"docker0\" is also an uplink"),
            (&["eth0"], "docker0", Some(3), "uplink \"eth0\" is a port of bridge \"docker0\""),
            (&["eth0"], "lo", None, "bridge \"lo\" is the loopback interface; set [bridge]"),
        ] {
            let found = texts(uplinks, bridge, controller);
            assert!(found.len() == 1 && found[0].starts_with(begins), "{found:?}");
        }
        let router = settings(&["docker0"], "docker0", Role::Router);
        assert_eq!(of_host(&router, &links(None)), [], "a router has no bridge");
    }

    #[test]
    fn a_bgp_neighbour_is_not_among_the_containers() {
        let settings = settings(&["eth0"], "docker0", Role::Host);
        assert_eq!(neighbour_on_bridge(&settings, &["eth0"]), None);
        let found = neighbour_on_bridge(&settings, &["eth0", "docker0"]).unwrap().to_string();
        assert!(found.starts_with("bridge \"docker0\" is also the interface of a BGP neighbour"), "{found}");
    }
}
