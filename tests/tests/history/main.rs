//! Claims are never lost, doubled or taken over: the answers to claimers are compared with the store's content.
#![allow(clippy::unwrap_used)] // Clippy does not see that a test's own functions are of a test.

mod checker;
mod real;
