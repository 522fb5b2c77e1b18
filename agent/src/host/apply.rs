//! Reads the facts for an undo, and applies its steps.

use super::{
    renamed::followed,
    undo::{Found, Step},
};
use crate::{
    kernel::{Change, Kernel, KernelError, Scope},
    state::Ledger,
};

/// The present state of the objects in `ledger`, and the agent's routes in all tables.
///
/// # Errors
/// If the kernel cannot be read.
pub async fn find(kernel: &dyn Kernel, ledger: &Ledger) -> Result<Found, KernelError> {
    let routes = kernel.routes(Scope::Ours).await?;
    Ok(Found { routes, ..find_without_routes(kernel, ledger).await? })
}

/// As [`find`], without routes.
pub(super) async fn find_without_routes(kernel: &dyn Kernel, ledger: &Ledger) -> Result<Found, KernelError> {
    let (links, addresses) = (kernel.links().await?, kernel.addresses().await?);
    let (ipv4, proxies) = (kernel.links_with_ipv4().await?, kernel.proxy_entries().await?);
    let mut found = Found { links, addresses, ipv4, proxies, ..Found::default() };
    let followed = followed(ledger, &found.links, None);
    for path in ledger.sysctls.keys().chain(followed.sysctls.keys()) {
        if let Some(value) = kernel.sysctl(path)? {
            found.sysctls.insert(path.clone(), value);
        }
    }
    Ok(found)
}

/// Applies the steps.
///
/// # Errors
/// The first error, except of a route: a route may be gone meanwhile, and other failures show when the facts are read again.
pub async fn apply(kernel: &dyn Kernel, steps: &[Step]) -> Result<(), KernelError> {
    let mut routes = Vec::new();
    for step in steps {
        match step {
            Step::Sysctl { path, before, .. } => kernel.set_sysctl(path, before)?,
            Step::Route(route) => routes.push(Change::Delete(route.clone())),
            Step::Proxy { .. } | Step::Address { .. } | Step::Down { .. } | Step::Bridge { .. } => {}
        }
    }
    if !routes.is_empty() {
        kernel.apply(&routes).await?;
    }
    for step in steps {
        match step {
            Step::Proxy { link, addr, .. } => kernel.remove_proxy_entry(*link, *addr).await?,
            Step::Address { link, addr, len, .. } => kernel.remove_address(*link, *addr, *len).await?,
            Step::Down { link, .. } => kernel.set_down(*link).await?,
            Step::Bridge { link, .. } => kernel.delete_link(*link).await?,
            Step::Sysctl { .. } | Step::Route(_) => {}
        }
    }
    Ok(())
}
