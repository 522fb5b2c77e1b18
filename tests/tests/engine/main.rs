//! The route engine under disturbances: afterwards the host has exactly the desired routes, other routes are unchanged, and
//! `sextant-agent cleanup` restores the host's state before the agent.
#![allow(clippy::unwrap_used)] // Clippy does not see that a test's own functions are of a test.

mod advertisements;
mod alone;
mod bursts;
mod cleanup;
mod disturbances;
mod doctor;
mod guessed;
mod host_state;
mod kept;
mod link_layer;
mod link_local;
mod neighbours;
mod on_link;
mod renamed;
mod replaced;
mod resync;
mod roles;
mod settings;
mod state_dir;
mod taken_elsewhere;
mod testbed;
mod untidy;
mod unused_addresses;
mod uplinks;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Is held by tests that use much of the kernel's neighbour table, which all namespaces share: one after the other.
fn neighbour_table() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}
