//! Docker's containers get addresses of the host's prefixes: the agent keeps networks in the host's engine.

use std::{collections::BTreeSet, path::Path, pin::pin, sync::Arc};

use sextant_docker::{
    firewall::policy::Passes,
    keeper::{Earlier, Keeper, Store},
    parts::Parts,
    plan::Wishes,
    rules::{Followed, RulesKeeper},
    trouble::Trouble,
    waiting::Waiting,
    wanted::Wanted,
};
use sextant_ipam::leases::Leases;
use sextant_proto::Prefix;
use tokio::sync::watch;

use crate::{
    cluster::Input,
    problems::{Component, Finding, Problems},
    settings::{DockerMode, DockerSettings, Settings},
    state::{StateDir, StateError},
};

/// The networks of the host's engine that the agent keeps.
#[derive(Debug)]
pub struct DockerNetwork {
    settings: DockerSettings,
    /// The bridge of the main one.
    bridge: String,
    /// The claims.
    input: watch::Receiver<Input>,
    /// The size of the largest packet that the uplinks carry, once known.
    path_mtu: watch::Receiver<Option<u32>>,
    /// Where trouble is reported.
    problems: Problems,
    /// The prefixes of former networks.
    left: watch::Sender<BTreeSet<Prefix>>,
    followed: Followed,
    /// The parts of host prefixes that networks have.
    parts: watch::Sender<Parts>,
    /// Leases of the IPAM driver.
    reserved: Vec<Prefix>,
    state: Arc<StateDir>,
}

/// Stores the parts in the state directory.
#[derive(Debug)]
struct Stored(Arc<StateDir>);

impl Store for Stored {
    fn keep(&self, parts: &Parts) -> Result<(), String> {
        self.0.keep_docker_networks(parts).map_err(|error| error.to_string())
    }

    fn keep_former(&self, former: &BTreeSet<Prefix>) -> Result<(), String> {
        self.0.keep_docker_former(former).map_err(|error| error.to_string())
    }

    fn keep_waiting(&self, waiting: &[Waiting]) -> Result<(), String> {
        self.0.keep_docker_waiting(waiting).map_err(|error| error.to_string())
    }
}

impl DockerNetwork {
    /// By the agent's settings; none if Docker is left alone. The prefixes of its former networks are sent to `left`.
    ///
    /// # Errors
    /// If the stored parts of host prefixes cannot be read.
    pub fn by(
        settings: &Settings,
        state: &Arc<StateDir>,
        input: watch::Receiver<Input>,
        path_mtu: watch::Receiver<Option<u32>>,
        problems: Problems,
        left: watch::Sender<BTreeSet<Prefix>>,
        followed: Option<Followed>,
    ) -> Result<Option<Self>, StateError> {
        let (bridge, reserved) = (settings.bridge.name.clone(), leased(&settings.state_dir));
        let keeps = |settings: &DockerSettings| settings.mode == DockerMode::Network;
        let kept = settings.docker.clone().filter(keeps);
        let Some((settings, followed)) = kept.zip(followed) else { return Ok(None) };
        let parts = watch::Sender::new(state.docker_networks()?);
        let state = state.clone();
        Ok(Some(Self { settings, bridge, input, path_mtu, problems, left, followed, parts, reserved, state }))
    }

    /// Keeps them. Ends with the session, whose claims it follows.
    ///
    /// # Errors
    /// If the session has ended.
    pub async fn run(mut self) -> Result<(), watch::error::RecvError> {
        let (wishes_tx, wishes) = watch::channel(None);
        let (passes_tx, passes) = watch::channel(None);
        let (troubles_tx, mut troubles) = watch::channel(Vec::new());
        let mut parts = self.parts.subscribe();
        let stored = Box::new(Stored(self.state.clone()));
        let former = self.state.docker_former().unwrap_or_else(|error| {
            tracing::warn!(%error, "former prefixes of Docker networks cannot be read");
            BTreeSet::new()
        });
        let waiting = self.state.docker_waiting().unwrap_or_else(|error| {
            tracing::warn!(%error, "containers that are to be connected to Docker networks cannot be read");
            Vec::new()
        });
        let earlier = Earlier { former, waiting };
        let networks = Keeper::new(wishes, self.parts.clone(), stored, self.left.clone(), earlier);
        let rules = RulesKeeper::new(self.followed.clone(), passes, troubles_tx);
        let mut keeper = pin!(rules.run(networks));
        loop {
            let wishes = self.wishes();
            let prefixes = parts.borrow_and_update().prefixes(&self.input.borrow().claims);
            let passes = policy_of(&self.settings, &self.input.borrow(), &prefixes);
            let other_wishes =
                wishes_tx.send_if_modified(|before| std::mem::replace(before, wishes.clone()) != wishes);
            if other_wishes || *passes_tx.borrow() != passes {
                passes_tx.send_replace(passes);
            }
            let findings = troubles.borrow_and_update().iter().map(finding).collect();
            self.problems.report(Component::Docker, findings);
            tokio::select! {
                changed = self.input.changed() => changed?,
                changed = self.path_mtu.changed() => changed?,
                changed = troubles.changed() => changed?,
                changed = parts.changed() => changed?,
                () = &mut keeper => return Ok(()),
            }
        }
    }

    fn wishes(&mut self) -> Option<Wishes> {
        let mtu = *self.path_mtu.borrow_and_update();
        wishes(&self.settings, &self.bridge, &self.input.borrow_and_update(), mtu, &self.reserved)
    }
}

/// The networks: the main one with the container prefix of the primary claim. Without a claim, present networks stay.
pub(crate) fn wishes(
    settings: &DockerSettings,
    bridge: &str,
    input: &Input,
    mtu: Option<u32>,
    reserved: &[Prefix],
) -> Option<Wishes> {
    let prefix = input.container_prefixes().next()?;
    let main = Wanted {
        name: settings.network.clone(),
        bridge: bridge.to_owned(),
        prefix,
        gateway: prefix.first_host(),
        mtu,
        from_cluster: settings.from_cluster,
        replace_used: settings.replace_used,
    };
    let (further, claims) = (settings.further.clone(), input.claims.clone());
    Some(Wishes { main, further, claims, reserved: reserved.to_vec() })
}

/// The prefixes that the IPAM driver has leased, as far as that is known.
pub(crate) fn leased(state_dir: &Path) -> Vec<Prefix> {
    let leases: Option<Leases> = StateDir::peek_docker_leases(state_dir).unwrap_or_default();
    leases.iter().flat_map(Leases::subnets).filter_map(|subnet| subnet.ipv6()).collect()
}

/// The policy for packets to containers on Docker's networks, if the agent keeps it. `parts` are the prefixes of networks beside the main
/// one. Without a claim, the present rules stay.
pub(crate) fn policy_of(docker: &DockerSettings, input: &Input, parts: &[Prefix]) -> Option<Passes> {
    let own: Vec<_> = match docker.mode {
        DockerMode::Network => input.container_prefixes().chain(parts.iter().copied()).collect(),
        DockerMode::Daemon => input.container_prefixes().collect(),
        // Networks have any part of the host prefixes.
        DockerMode::Pools | DockerMode::Ipam => input.claims.iter().map(|claim| claim.prefix).collect(),
        DockerMode::Off | DockerMode::None => return None,
    };
    (!input.claims.is_empty()).then(|| docker.passes(own, pools(input)))
}

/// The cluster's pools, and those of claims.
pub(crate) fn pools(input: &Input) -> Vec<Prefix> {
    let mut pools: Vec<_> = input.view.pools().map(|pool| pool.prefix).collect();
    pools.extend(input.claims.iter().map(|claim| claim.pool.prefix));
    pools.sort();
    pools.dedup();
    pools
}

/// A host whose engine is away serves its running containers.
pub(crate) fn finding(trouble: &Trouble) -> Finding {
    let unready = !trouble.is_served();
    let finding = Finding::new(trouble.kind(), trouble.to_string(), trouble.fix());
    Finding { unready, ..finding }.about(trouble.network())
}

#[cfg(test)]
mod tests {
    use sextant_proto::{Claim, Epoch, Incarnation, Pool, Revision};

    use super::*;
    use crate::settings::tests::settings;

    fn claim(pool: &str, prefix: &str) -> Claim {
        let prefix: Prefix = prefix.parse().unwrap();
        let pool = Pool::new(pool.parse().unwrap(), prefix.ancestor(32).unwrap(), 64, 80).unwrap();
        let epoch = Epoch { incarnation: Incarnation::random(), revision: Revision(1) };
        Claim { prefix, epoch, pool }
    }

    #[test]
    fn the_policy_is_for_the_prefixes_that_containers_on_dockers_networks_have() {
        let claims = vec![claim("main", "2001:db8:1::/64"), claim("ula", "fd00:0:7::/64")];
        let input = Input { claims, ..Input::default() };
        let parts = ["2001:db8:1:0:1::/80".parse().unwrap()];
        let own = |mode: &str, input: &Input| {
            let docker = settings(&["--docker-mode", mode]).unwrap().docker.unwrap();
            let passes = policy_of(&docker, input, &parts)?;
            Some(passes.own.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        };
        for (mode, expected) in [
            ("network", "2001:db8:1::/80 fd00:0:7::/80 2001:db8:1:0:1::/80"),
            ("daemon", "2001:db8:1::/80 fd00:0:7::/80"),
            ("pools", "2001:db8:1::/64 fd00:0:7::/64"),
            ("ipam", "2001:db8:1::/64 fd00:0:7::/64"),
        ] {
            assert_eq!(own(mode, &input).as_deref(), Some(expected), "{mode}");
            assert_eq!(own(mode, &Input::default()), None, "{mode}: no claim yet");
        }
        assert_eq!(own("none", &input), None);
    }
}
