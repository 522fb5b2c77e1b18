//! Containers without Docker's networks, on the agent's own bridge, as docs/containers.md says.

#![allow(clippy::unwrap_used)] // Clippy does not see that a test's own functions are of a test.

mod bed;
mod booted;
mod by_hand;
mod documented;
#[path = "../documents/page.rs"]
#[allow(dead_code)] // Of the tests of documents, which use all of it.
mod page;
mod podman;
mod slaac;
