//! Docker's containers get addresses of their host's prefix, and reach each other.
#![allow(clippy::unwrap_used)] // Clippy does not see that a test's own functions are of a test.

mod bed;
mod boot;
mod compose;
mod doctor;
mod firewall;
mod ipam;
mod later;
mod live_restore;
mod matrix;
mod modes;
mod mtu;
mod network;
mod networks;
mod replaced;
mod setup;
mod setup_bed;
mod shown;
mod two_pools;
mod watched;
