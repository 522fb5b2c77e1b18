//! The controller: assigns prefixes to nodes, and distributes them to all agents.
//!
//! ```text
//! registry (etcd | embedded) ─► index (one writer) ─► grpc: snapshot, then deltas
//!      ▲                                               │
//!      └── claims, pools, sessions (transactions) ◄────┘ acks
//! ```

#![warn(missing_docs)]
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod acks;
pub mod audit;
pub mod backup;
pub mod claims;
pub mod command;
pub mod connections;
mod control;
pub mod controllers;
pub mod denials;
pub mod doubts;
pub mod elapsed;
pub mod expiry;
mod format;
pub mod grpc;
pub mod health;
pub mod index;
pub mod keys;
pub mod kubernetes;
pub mod limits;
pub mod lineage;
mod metrics;
pub mod pki;
pub mod pools;
mod prefixes;
pub mod questions;
pub mod receipts;
pub mod records;
pub mod refusals;
pub mod registry;
pub mod removals;
mod reservations;
pub mod run;
pub mod services;
pub mod sessions;
pub mod settings;
pub mod store;
pub mod sweeper;
pub mod ticker;
pub mod tokens;
pub mod trace;
pub mod unregistered;
pub mod verdicts;
