//! The route engine under torture: whatever happens on a host, in the end its table is just the desired one, others' routes
//! are as they were, and `sextant-agent cleanup` leaves the host as it was before the agent.
#![allow(clippy::unwrap_used)] // Clippy does not see that a test's own functions are of a test.

mod bed;
mod before;
mod cleanup;
mod doctor;
mod link_local;
mod neighbours;
mod replaced;
mod resync;
mod settings;
mod state_dir;
mod tortures;
mod uplinks;
