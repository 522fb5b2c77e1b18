//! Reads what an undo depends on, and carries its steps out.

use super::undo::{Found, Step};
use crate::{
    kernel::{Change, Kernel, KernelError, Scope},
    state::Ledger,
};

/// What there is on the host of what `ledger` names, and the agent's routes of all tables.
///
/// # Errors
/// If the kernel cannot be asked.
pub async fn find(kernel: &dyn Kernel, ledger: &Ledger) -> Result<Found, KernelError> {
    let routes = kernel.routes(Scope::Ours).await?;
    Ok(Found { routes, ..find_things(kernel, ledger).await? })
}

/// As [`find`], without routes.
pub(super) async fn find_things(kernel: &dyn Kernel, ledger: &Ledger) -> Result<Found, KernelError> {
    let (links, addresses) = (kernel.links().await?, kernel.addresses().await?);
    let mut found = Found { links, addresses, ..Found::default() };
    for path in ledger.sysctls.keys() {
        if let Some(value) = kernel.sysctl(path)? {
            found.sysctls.insert(path.clone(), value);
        }
    }
    Ok(found)
}

/// Carries the steps out.
///
/// # Errors
/// The first refusal, but for those of routes: what is gone meanwhile is gone, and what else fails is seen by another look.
pub async fn apply(kernel: &dyn Kernel, steps: &[Step]) -> Result<(), KernelError> {
    let mut routes = Vec::new();
    for step in steps {
        match step {
            Step::Sysctl { path, before, .. } => kernel.set_sysctl(path, before)?,
            Step::Route(route) => routes.push(Change::Delete(route.clone())),
            Step::Address { .. } | Step::Down { .. } | Step::Bridge { .. } => {}
        }
    }
    if !routes.is_empty() {
        kernel.apply(&routes).await?;
    }
    for step in steps {
        match step {
            Step::Address { link, addr, len, .. } => kernel.remove_address(*link, *addr, *len).await?,
            Step::Down { link, .. } => kernel.set_down(*link).await?,
            Step::Bridge { link, .. } => kernel.delete_link(*link).await?,
            Step::Sysctl { .. } | Step::Route(_) => {}
        }
    }
    Ok(())
}
