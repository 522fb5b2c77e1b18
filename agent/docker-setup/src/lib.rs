//! Sets a host's Docker engine up for the host's prefix.
//!
//! [`json`] edits the engine's `daemon.json`; [`record`] makes edits that can be undone; [`file`] is the edge to files that others
//! own.

#![warn(missing_docs)]

pub mod daemon_json;
pub mod file;
pub mod json;
pub mod record;
