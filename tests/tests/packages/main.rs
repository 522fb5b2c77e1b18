//! The Debian packages of `deploy/package`: what they hold, and their life on machines with traffic.
#![allow(clippy::unwrap_used)] // Clippy does not see that a test's own functions are of a test.

mod built;
mod contents;
mod life;
mod machine;
