//! Reads the routes that say who is a neighbour from the kernel.

use std::{collections::BTreeMap, net::Ipv6Addr};

use super::{Clues, LinkRouteReader, LinkRoutes, Lookup, NoUplink, guessed_uplinks, lookups};
use crate::kernel::{Kernel, KernelError, Link, Scope};

/// The routes of all tables that a lookup uses, the agent's own `table` among them; and those that lead to the addresses
/// `towards`.
///
/// # Errors
/// If the kernel cannot be read.
pub async fn read_link_routes(
    kernel: &dyn Kernel,
    table: u32,
    towards: &[Ipv6Addr],
) -> Result<LinkRoutes, KernelError> {
    let lookups = lookups(&kernel.rules().await?, table);
    let mut read = BTreeMap::new();
    for Lookup { table, .. } in &lookups {
        let mut reader = LinkRouteReader::default();
        kernel.read_routes(Scope::Table(*table), &mut reader).await?;
        read.insert(*table, reader);
    }
    Ok(LinkRoutes::new(lookups, read, towards))
}

/// The guess before any peer is known.
///
/// # Errors
/// If the kernel cannot be read. The inner error is that of [`guessed_uplinks`].
pub async fn first_guess(
    kernel: &dyn Kernel,
    table: u32,
    links: &[Link],
    controllers: &[Ipv6Addr],
    bridge: &str,
) -> Result<Result<Vec<String>, NoUplink>, KernelError> {
    let routes = read_link_routes(kernel, table, controllers).await?;
    Ok(guessed_uplinks(&Clues { links, routes: &routes, controllers, peers: &[], bridge }))
}
