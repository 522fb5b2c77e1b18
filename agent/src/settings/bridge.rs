//! The settings of the containers' bridge.

use super::{
    DockerMode, Invalid,
    docker::{bridge_name, is_network, mode},
    interface_name,
    keys::Keys,
    value,
};

/// The containers' bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeSettings {
    /// Its name.
    pub name: String,
    /// Whether to create it.
    pub create: bool,
    /// Whether to send router advertisements there.
    pub advertise: bool,
}

pub(super) fn bridge(keys: &Keys) -> Result<BridgeSettings, Invalid> {
    let bridge = BridgeSettings {
        name: interface_name("--bridge", bridge_name(keys))?,
        create: keys.bridge.create.unwrap_or(is_network(keys)),
        advertise: keys.bridge.advertise.unwrap_or(false),
    };
    if bridge.advertise {
        check_advertise(&bridge, mode(keys))?;
    }
    Ok(bridge)
}

/// Advertisements on a bridge that others manage would give their containers a second router.
fn check_advertise(bridge: &BridgeSettings, docker: DockerMode) -> Result<(), Invalid> {
    let refused = |fix: &str| Err(value("--bridge-advertise", &true, &fix));
    match docker {
        DockerMode::Network | DockerMode::Daemon | DockerMode::Pools => refused(
            "Docker gives the containers on its bridges their addresses; remove it, or set [docker] mode otherwise",
        ),
        _ if !bridge.create => refused("is for a bridge that the agent makes; set [bridge] create = true"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use crate::settings::tests::settings;

    #[test]
    fn advertisements_are_for_a_bridge_of_the_agent() {
        let own = ["--bridge", "br0", "--bridge-create", "--bridge-advertise"];
        assert!(settings(&own).unwrap().bridge.advertise);
        assert!(!settings(&own[..3]).unwrap().bridge.advertise);
        let with = |mode| settings(&[&own[..], &["--docker-mode", mode]].concat());
        for mode in ["none", "ipam"] {
            assert!(with(mode).unwrap().bridge.advertise, "{mode}");
        }
        for mode in ["network", "daemon", "pools"] {
            let error = with(mode).unwrap_err().to_string();
            assert!(error.starts_with("--bridge-advertise true: Docker gives"), "{mode}: {error}");
        }
        let error = settings(&["--bridge", "br0", "--bridge-advertise"]).unwrap_err().to_string();
        assert!(error.ends_with("set [bridge] create = true"), "{error}");
    }
}
