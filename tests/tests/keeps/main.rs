//! What the cluster keeps: who did what, and its content through backups, restores and the loss of the store.
#![allow(clippy::unwrap_used)] // Clippy does not see that a test's own functions are of a test.

mod events;
