//! The networks that a host is to have, and those that it is to have no more. Pure.

use sextant_proto::{Claim, Prefix};

use crate::{
    network::Network,
    parts::{Further, Parts, Space},
    trouble::Trouble,
    wanted::{Wanted, is_ours},
};

/// The networks of the settings, with the claims that they get their prefixes of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wishes {
    /// The network with the container prefix of the primary claim.
    pub main: Wanted,
    /// The other ones.
    pub further: Vec<Further>,
    /// The claims, the primary one first.
    pub claims: Vec<Claim>,
    /// Prefixes that are in use otherwise: leases of the IPAM driver.
    pub reserved: Vec<Prefix>,
}

/// The networks, with their prefixes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Those that the engine is to have, the main one first.
    pub wanted: Vec<Wanted>,
    /// The parts of host prefixes that they have. To be stored before a network is made.
    pub parts: Parts,
    /// Why a network cannot be made.
    pub troubles: Vec<Trouble>,
}

impl Wishes {
    /// The plan for an engine with these networks, by the parts that were stored last.
    pub fn plan(&self, parts: &Parts, networks: &[Network]) -> Plan {
        let space = Space { claims: &self.claims, networks, reserved: &self.reserved };
        let (parts, troubles) = parts.assigned(&self.further, &space);
        let further = self.further.iter().filter_map(|further| {
            let prefix = parts.current(&further.name, &self.claims)?;
            let (name, bridge) = (further.name.clone(), further.bridge.clone());
            Some(Wanted { name, bridge, prefix, gateway: prefix.first_host(), ..self.main.clone() })
        });
        let wanted = std::iter::once(self.main.clone()).chain(further).collect();
        Plan { wanted, parts, troubles }
    }

    /// The networks that the agent made, and that the settings do not name any more.
    pub fn retired<'a>(&self, networks: &'a [Network]) -> impl Iterator<Item = &'a Network> {
        let ours = networks.iter().filter(|network| is_ours(network));
        ours.filter(move |network| !self.names().any(|name| name == network.name))
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.main.name).chain(self.further.iter().map(|it| &it.name)).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        parts::tests::{claims, further},
        wanted::tests::{made, wanted},
    };

    fn wishes(names: &[&str]) -> Wishes {
        let claims = claims();
        let prefix = claims[0].container_prefix();
        let main = Wanted { prefix, gateway: prefix.first_host(), ..wanted() };
        let further = names.iter().map(|name| further(name)).collect();
        Wishes { main, further, claims, reserved: Vec::new() }
    }

    #[test]
    fn each_network_has_its_own_prefix_gateway_and_bridge_and_the_settings_of_all() {
        let mut wishes = wishes(&["db", "cache"]);
        wishes.main.mtu = Some(1400);
        let plan = wishes.plan(&Parts::default(), &[]);
        let shown = |it: &Wanted| format!("{} {} {} {}", it.name, it.bridge, it.prefix, it.gateway);
        assert_eq!(
            plan.wanted.iter().map(shown).collect::<Vec<_>>(),
            [
                "sextant sextant0 2001:db8:1::/80 2001:db8:1::1",
                "db sx-db 2001:db8:1:0:1::/80 2001:db8:1:0:1::1",
                "cache sx-cache 2001:db8:1:0:2::/80 2001:db8:1:0:2::1"
            ]
        );
        assert!(plan.wanted.iter().all(|it| it.mtu == Some(1400)));
        assert_eq!(plan.troubles, []);
    }

    #[test]
    fn a_network_of_the_agent_that_no_setting_names_is_retired() {
        let wishes = wishes(&["db"]);
        let named = |name: &str| made(&Wanted { name: name.into(), ..wanted() });
        let theirs = Network { labels: [].into(), ..named("theirs") };
        let networks = [named("sextant"), named("db"), named("cache"), theirs];
        let retired: Vec<_> = wishes.retired(&networks).map(|it| it.name.as_str()).collect();
        assert_eq!(retired, ["cache"]);
    }
}
