//! Containers without Docker's networks, on the agent's own bridge, as docs/containers.md says.

#![allow(clippy::unwrap_used)] // Clippy does not see that a test's own functions are of a test.

mod by_hand;
mod slaac;
