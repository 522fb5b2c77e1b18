//! Sets a host's Docker engine up for the host's prefix.
//!
//! [`plan`] decides what the engine needs, and [`steps`] in which order; [`json`] edits its `daemon.json`; [`ipam`] has the files of the IPAM
//! driver; [`record`] makes edits that can be undone; [`file`] is
//! the edge to files that others own.

#![warn(missing_docs)]

pub mod agent_toml;
pub mod daemon_json;
pub mod drop_in;
pub mod file;
pub mod ipam;
pub mod json;
pub mod plan;
pub mod record;
pub mod steps;
