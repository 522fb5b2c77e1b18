//! Claims are never lost, doubled or seized: what claimers were told, against what the store holds.
#![allow(clippy::unwrap_used)] // Clippy does not see that a test's own functions are of a test.

mod broken;
mod real;
