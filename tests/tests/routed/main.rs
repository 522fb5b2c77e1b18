//! The routed topology: hosts in segments that only a router joins (DESIGN §2).
#![allow(clippy::unwrap_used)] // Clippy does not see that a test's own functions are of a test.

mod bfd;
mod bgp;
mod ceased;
mod collision;
mod exported;
mod handover;
mod import;
mod internal;
mod misbehaving;
mod raw;
mod recorder;
mod refused;
mod restarts;
mod returned;
mod role;
mod several;
mod site;
mod unnumbered;
