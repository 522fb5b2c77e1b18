//! The units in `deploy/systemd` under a real systemd: start, readiness, watchdog, restarts, stop, upgrade. None of these
//! changes a route (DESIGN I5, I7).
#![allow(clippy::unwrap_used)] // Clippy does not see that a test's own functions are of a test.

mod agent;
#[path = "../identity/authority.rs"]
#[allow(dead_code)] // Of the tests of identity, which use all of it.
mod authority;
mod controller;
mod docker;
mod exposure;
mod identity;
mod ipam;
mod later;
mod machine;
mod managers;
mod owners;
mod pools;
mod prepare;
mod privileges;
mod tls;
mod units;
