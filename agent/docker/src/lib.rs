//! A host's Docker engine: the network that gives containers addresses of the host prefix.
//!
//! [`wanted`] decides, from the engine's networks, what has to be done; [`engine`] is the edge to the Engine API; [`keeper`] does
//! it, follows the engine's events, and tells what it sees. [`rules`] keeps the firewall's rules only, for networks that others make. [`watch`] keeps what the engine has ([`live`]), and changes nothing.

pub mod engine;
pub mod firewall;
pub mod keeper;
pub mod live;
pub mod network;
pub mod rules;
pub mod trouble;
pub mod wanted;
pub mod watch;
