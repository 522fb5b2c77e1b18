//! A node that says what it likes harms only itself (DESIGN I14).
#![allow(clippy::unwrap_used)]

mod announcements;
mod node;
mod streams;
