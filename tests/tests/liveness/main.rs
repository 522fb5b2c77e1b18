//! A dead agent loses no packet; packets to a dead host are refused; both cases are distinguished.
#![allow(clippy::unwrap_used)] // Clippy does not see that a test's own functions are of a test.

mod agents;
mod hosts;
mod observed;
