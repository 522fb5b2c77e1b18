//! Who may do what: TLS between all programs, certificates of members, and the table of permissions.
#![allow(clippy::unwrap_used)] // Clippy does not see that a test's own functions are of a test.

mod attacks;
mod authority;
mod bed;
mod calls;
mod client;
mod each_call;
mod floods;
mod members;
mod migration;
mod own;
mod receipts;
mod refusals;
mod renewal;
mod replaced;
mod revoked;
mod tokens;
mod viewers;
