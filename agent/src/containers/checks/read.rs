//! Reads the facts.

use sextant_docker::{
    firewall::{tables, verdict::Rules},
    live::Live,
};
use sextant_proto::{Claim, Prefix};

use super::Facts;
use crate::kernel::{Kernel, KernelError, Scope};

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

/// The facts of this host. A firewall that cannot be read has no rules.
///
/// # Errors
/// If the kernel cannot be read.
pub(crate) async fn read(kernel: &dyn Kernel, place: Place) -> Result<Facts, KernelError> {
    let (links, addresses) = (kernel.links().await?, kernel.addresses().await?);
    let routes = kernel.routes(Scope::Boot).await?;
    let saved = tables::saved().await.ok().flatten().unwrap_or_default();
    let Place { claims, pools, bridge, uplinks, only_published, live } = place;
    let rules = Rules::parse(&saved);
    Ok(Facts { claims, pools, bridge, uplinks, only_published, live, links, addresses, routes, rules })
}
