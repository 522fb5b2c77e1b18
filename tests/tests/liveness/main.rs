//! Down or dead: a lost agent costs no packet, a dead host is refused, and one is told from the other.
#![allow(clippy::unwrap_used)] // Clippy does not see that a test's own functions are of a test.

mod agents;
mod hosts;
mod observed;
