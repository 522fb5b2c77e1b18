//! Docker's containers get addresses of the container prefix: the agent keeps a network in the host's engine.

use std::{collections::BTreeSet, pin::pin};

use sextant_docker::{
    firewall::policy::Passes,
    keeper::Keeper,
    rules::{Followed, RulesKeeper},
    trouble::Trouble,
    wanted::Wanted,
};
use sextant_proto::Prefix;
use tokio::sync::watch;

use crate::{
    cluster::Input,
    problems::{Component, Finding, Problems},
    settings::{DockerMode, DockerSettings, Settings},
};

/// The network of the host's engine.
#[derive(Debug)]
pub struct DockerNetwork {
    settings: DockerSettings,
    /// The bridge that it is on.
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
}

impl DockerNetwork {
    /// By the agent's settings; none if Docker is left alone. The prefixes of its former networks are sent to `left`.
    pub fn by(
        settings: &Settings,
        input: watch::Receiver<Input>,
        path_mtu: watch::Receiver<Option<u32>>,
        problems: Problems,
        left: watch::Sender<BTreeSet<Prefix>>,
        followed: Option<Followed>,
    ) -> Option<Self> {
        let bridge = settings.bridge.name.clone();
        let keeps = |settings: &DockerSettings| settings.mode == DockerMode::Network;
        let settings = settings.docker.clone().filter(keeps)?;
        Some(Self { settings, bridge, input, path_mtu, problems, left, followed: followed? })
    }

    /// Keeps it. Ends with the session, whose claims it follows.
    ///
    /// # Errors
    /// If the session has ended.
    pub async fn run(mut self) -> Result<(), watch::error::RecvError> {
        let (wanted_tx, wanted) = watch::channel(None);
        let (passes_tx, passes) = watch::channel(None);
        let (trouble_tx, mut trouble) = watch::channel(None);
        let network = Keeper::new(wanted, self.left.clone());
        let rules = RulesKeeper::new(self.followed.clone(), passes, trouble_tx);
        let mut keeper = pin!(rules.run(network));
        loop {
            let wanted = self.wanted();
            let passes = wanted.as_ref().map(|wanted| wanted.passes.clone());
            let changed =
                wanted_tx.send_if_modified(|before| std::mem::replace(before, wanted.clone()) != wanted);
            if changed {
                passes_tx.send_replace(passes);
            }
            let findings = trouble.borrow_and_update().iter().map(finding).collect();
            self.problems.report(Component::Docker, findings);
            tokio::select! {
                changed = self.input.changed() => changed?,
                changed = self.path_mtu.changed() => changed?,
                changed = trouble.changed() => changed?,
                () = &mut keeper => return Ok(()),
            }
        }
    }

    fn wanted(&mut self) -> Option<Wanted> {
        let mtu = *self.path_mtu.borrow_and_update();
        wanted(&self.settings, &self.bridge, &self.input.borrow_and_update(), mtu)
    }
}

/// The network with the container prefix of the primary claim. Without a claim the present network stays.
pub(crate) fn wanted(
    settings: &DockerSettings,
    bridge: &str,
    input: &Input,
    mtu: Option<u32>,
) -> Option<Wanted> {
    let prefix = input.container_prefixes().next()?;
    Some(Wanted {
        name: settings.network.clone(),
        bridge: bridge.to_owned(),
        prefix,
        gateway: prefix.first_host(),
        mtu,
        passes: settings.passes(prefix, pools(input)),
        replace_used: settings.replace_used,
    })
}

/// The policy for packets to containers of the primary claim, if the agent keeps it.
pub(crate) fn policy(settings: &Settings, input: &Input) -> Option<Passes> {
    policy_of(settings.docker.as_ref()?, input)
}

/// The same, by the settings of Docker.
pub(crate) fn policy_of(docker: &DockerSettings, input: &Input) -> Option<Passes> {
    let own = match docker.mode {
        DockerMode::Network | DockerMode::Daemon => input.container_prefixes().next()?,
        // Networks have other parts of it.
        DockerMode::Pools | DockerMode::Ipam => input.claims.first()?.prefix,
        DockerMode::Off | DockerMode::None => return None,
    };
    Some(docker.passes(own, pools(input)))
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
    Finding { unready, ..Finding::new(trouble.kind(), trouble.to_string(), trouble.fix()) }
}
