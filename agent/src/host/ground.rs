//! What other programs that manage the network may take from this host.

use super::{findings::Facts, sysctls::by_advertisement};
use crate::{
    kernel::{Kernel, KernelError, Scope},
    managers::{self, Ground},
    problems::Finding,
    settings::{HostSettings, Role},
};

/// RT_TABLE_MAIN.
const MAIN_TABLE: u32 = 254;

/// The settings of such programs by which they take what the agent depends on.
///
/// # Errors
/// If the kernel cannot be read.
pub async fn managers(
    kernel: &dyn Kernel,
    settings: &HostSettings,
    facts: &Facts,
) -> Result<Vec<Finding>, KernelError> {
    let mut advertised = by_advertisement(&facts.addresses, &kernel.routes(Scope::Advertised).await?);
    let fixed = |link: u32| facts.addresses.iter().any(|it| it.link == link && it.global && it.permanent);
    advertised.extend(facts.links.iter().map(|link| link.index).filter(|link| !fixed(*link)));
    Ok(managers::findings(&Ground {
        links: &facts.links,
        bridge: (settings.role == Role::Host).then_some(settings.bridge.as_str()),
        uplinks: &settings.uplinks,
        advertised,
        by_rules: settings.table != MAIN_TABLE,
    }))
}
