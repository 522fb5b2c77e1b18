//! The agent of a host: claims a prefix, and maintains the kernel's routes to its peers.
//!
//! ```text
//! session (gRPC) ─► view ─► routes::desired ─┐
//!      ▲                                     ├─► routes::plan ─► engine ─► kernel
//!      │     kernel dumps + events ─► actual ┘                     │
//!      │            view ─► liveness ─► verdicts ─► desired       │
//!      └──────────── announcements, acks ◄────── report ◄──────────┘
//! ```

#![warn(missing_docs)]
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod access;
mod advertise;
mod advice;
pub mod bfd;
pub mod bgp;
mod certificates;
pub mod cleanup;
pub mod cluster;
pub mod command;
pub mod containers;
pub mod controllers;
mod damping;
mod deadline;
pub mod docker;
pub mod docker_bridge;
pub mod docker_setup;
pub mod doctor;
pub mod engine;
pub mod host;
mod inquiry;
mod ipam;
pub mod join;
pub mod kernel;
pub mod liveness;
mod log_limiter;
mod managers;
mod metrics;
mod ndp;
mod ndp_faults;
mod neighbours;
pub mod prepare;
pub mod problems;
pub mod routes;
pub mod run;
pub mod session;
pub mod settings;
pub mod state;
mod trace;
pub mod uplinks;
