//! A host's Docker engine: the network that gives containers addresses of the host prefix.
//!
//! [`wanted`] decides, from the engine's networks, what has to be done; [`engine`] is the edge to the Engine API; [`keeper`] does
//! it. [`watch`] follows the engine, and keeps what it has ([`live`]); it changes nothing. [`rules`] keeps the firewall's rules.

pub mod engine;
pub mod firewall;
pub mod former;
pub mod keeper;
pub mod live;
pub mod network;
mod pace;
pub mod rules;
pub mod trouble;
pub mod wanted;
pub mod watch;
