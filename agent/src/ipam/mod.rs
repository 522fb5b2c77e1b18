//! Docker's networks get prefixes of the host prefix by the IPAM driver `sextant` ([`sextant_ipam`]).
//!
//! Two tasks: the owner of the leases, and [`IpamDriver::run`]. The latter serves the engine's requests at a socket, and keeps the
//! firewall's rules; the keeper of these has the leases compared with the engine's networks ([`observer`]). Requests are answered from
//! the stored leases and claims, before any controller is reached.

mod observer;
mod socket;

use std::{pin::pin, sync::Arc};

use sextant_docker::{
    firewall::policy::Passes,
    rules::{Followed, RulesKeeper},
};
use sextant_ipam::{
    keeper::{Handle, Keeper, Store},
    leases::{HostPrefix, Leases, Space},
    subnet::Subnet,
};
use sextant_proto::{Claim, PoolName, unix_ms};
use tokio::sync::watch;

use self::observer::LeaseObserver;
use crate::{
    cluster::Input,
    docker,
    problems::{Component, Problems},
    settings::{DockerMode, DockerSettings, Settings},
    state::{StateDir, StateError},
};

/// The name of the IPAM driver.
pub const DRIVER: &str = "sextant";

/// The IPAM driver of a host.
#[derive(Debug)]
pub struct IpamDriver {
    settings: DockerSettings,
    /// The pools by the settings, the primary one first.
    pools: Vec<PoolName>,
    claims: Vec<Claim>,
    input: watch::Receiver<Input>,
    problems: Problems,
    handle: Handle,
    /// The last one that the owner of the leases was given.
    space: Space,
    followed: Followed,
}

/// Stores leases in the state directory.
#[derive(Debug)]
struct Stored(Arc<StateDir>);

impl Store for Stored {
    fn keep(&self, leases: &Leases) -> Result<(), String> {
        self.0.keep_docker_leases(leases).map_err(|error| error.to_string())
    }
}

impl IpamDriver {
    /// By the agent's settings, with the owner of its leases; none if Docker gets its addresses otherwise.
    ///
    /// # Errors
    /// If the stored leases cannot be read.
    pub fn by(
        settings: &Settings,
        state: &Arc<StateDir>,
        input: watch::Receiver<Input>,
        problems: Problems,
        followed: Option<Followed>,
    ) -> Result<Option<(Self, Keeper)>, StateError> {
        let is_ipam = |docker: &DockerSettings| docker.mode == DockerMode::Ipam;
        let pools = settings.pools.clone();
        let Some(settings) = settings.docker.clone().filter(is_ipam) else { return Ok(None) };
        let Some(followed) = followed else { return Ok(None) };
        // An engine may know ids of leases that were lost: no new one is the same.
        let leases = state.docker_leases()?.unwrap_or_else(|| Leases::none_after(unix_ms()));
        let claims = state.claims()?;
        let space = space(&pools, &claims, settings.ipv4_range, Vec::new());
        let (keeper, handle) = Keeper::new(leases, space.clone(), Arc::new(Stored(state.clone())));
        Ok(Some((Self { settings, pools, claims, input, problems, handle, space, followed }, keeper)))
    }

    /// Serves it. Ends with the session, whose claims it follows.
    ///
    /// # Errors
    /// If the session has ended.
    pub async fn run(mut self) -> Result<(), watch::error::RecvError> {
        let (passes_tx, passes) = watch::channel(self.passes());
        let (trouble_tx, mut trouble) = watch::channel(Vec::new());
        let (others_tx, mut others) = watch::channel(Vec::new());
        let observer = LeaseObserver::new(self.handle.clone(), others_tx);
        let rules = RulesKeeper::new(self.followed.clone(), passes, trouble_tx).run(observer);
        let served = socket::serve(&self.settings.ipam_socket, &self.handle, &self.problems);
        let (mut rules, mut served) = (pin!(rules), pin!(served));
        loop {
            let findings = trouble.borrow_and_update().iter().map(docker::finding).collect();
            self.problems.report(Component::Docker, findings);
            replace(&passes_tx, self.passes());
            let others_now = others.borrow_and_update().clone();
            let space = space(&self.pools, &self.claims, self.settings.ipv4_range, others_now);
            if self.space != space && self.handle.set_space(space.clone()).await.is_ok() {
                self.space = space;
            }
            tokio::select! {
                changed = self.input.changed() => {
                    changed?;
                    self.claims = self.input.borrow_and_update().claims.clone();
                }
                changed = trouble.changed() => changed?,
                changed = others.changed() => changed?,
                () = &mut rules => return Ok(()),
                () = &mut served => return Ok(()),
            }
        }
    }

    /// The policy for all networks in the host prefixes.
    fn passes(&self) -> Option<Passes> {
        let input = Input { claims: self.claims.clone(), ..self.input.borrow().clone() };
        docker::policy_of(&self.settings, &input, &[])
    }
}

/// Where subnets come from, with the subnets of the networks of other drivers. The container prefixes are those of the agent's own bridge.
fn space(pools: &[PoolName], claims: &[Claim], ipv4: Subnet, others: Vec<Subnet>) -> Space {
    let mut reserved = others;
    reserved.extend(claims.iter().map(|claim| Subnet::from(claim.container_prefix())));
    let host = |claim: &Claim| HostPrefix { pool: claim.pool.name.clone(), prefix: claim.prefix.into() };
    // A claim that outlives the name of its pool is of none that is named.
    let named = claims.first().is_some_and(|claim| pools.contains(&claim.pool.name));
    let primary = pools.first().filter(|_| named).cloned();
    Space { primary, hosts: claims.iter().map(host).collect(), ipv4, reserved }
}

fn replace<T: PartialEq>(sender: &watch::Sender<T>, value: T) {
    sender.send_if_modified(|before| {
        let changed = *before != value;
        *before = value;
        changed
    });
}
