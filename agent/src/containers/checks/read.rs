//! Reads the facts.

use sextant_docker::{firewall::known::KnownRules, live::Live};
use sextant_proto::{Claim, Prefix};

use super::Facts;
use crate::kernel::{Kernel, KernelError, Route, Scope};

/// What the facts are of.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) claims: Vec<Claim>,
    pub(crate) pools: Vec<Prefix>,
    pub(crate) bridge: String,
    pub(crate) uplinks: Vec<String>,
    pub(crate) only_published: bool,
    pub(crate) live: Live,
}

/// The facts of this host; of a host without an agent's word on its `routes` of `proto boot`, the kernel is asked, which walks through
/// its whole table for that.
///
/// # Errors
/// If the kernel cannot be read.
pub(crate) async fn read(
    kernel: &dyn Kernel,
    place: Place,
    routes: Option<Vec<Route>>,
    rules: &mut KnownRules,
) -> Result<Facts, KernelError> {
    let (links, addresses) = (kernel.links().await?, kernel.addresses().await?);
    let routes = match routes {
        Some(routes) => routes,
        None => kernel.routes(Scope::Boot).await?,
    };
    let rules = rules.now().await.clone();
    let Place { claims, pools, bridge, uplinks, only_published, live } = place;
    Ok(Facts { claims, pools, bridge, uplinks, only_published, live, links, addresses, routes, rules })
}
