//! A node that says what it likes harms only itself (DESIGN I14).
#![allow(clippy::unwrap_used)] // Clippy does not see that a test's own functions are of a test.

mod announcements;
mod arbitrary;
mod fence;
mod node;
mod streams;
mod views;
