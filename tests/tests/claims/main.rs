//! Claims are never lost, doubled or seized: real etcd, several controllers, and what is known to go wrong elsewhere.
#![allow(clippy::unwrap_used)] // Clippy does not see that a test's own functions are of a test.

mod broken;
mod history;
mod named;
