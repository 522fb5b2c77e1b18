//! Nodes that hold a prefix of each of two pools.
#![allow(clippy::unwrap_used)] // Clippy does not see that a test's own functions are of a test.

mod answers;
mod bed;
mod full_disk;
mod lost_store;
mod missing;
mod mixed;
mod one_pool;
mod restarts;
