//! What a real systemd makes of the units in `deploy/systemd`: start, readiness, watchdog, restarts, stop, upgrade. No route
//! changes by any of it (DESIGN I5, I7).
#![allow(clippy::unwrap_used)] // Clippy does not see that a test's own functions are of a test.

mod agent;
mod controller;
mod machine;
mod units;
