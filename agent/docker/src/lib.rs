//! A host's Docker engine: the network that gives containers addresses of the host prefix.
//!
//! [`plan`] decides which networks the engine is to have, with [`parts`] for their prefixes, and [`wanted`] what has to be done for
//! each; [`engine`] is the edge to the Engine API; [`keeper`] does it, and [`waiting`] has the containers that it owes a connection. [`watch`] follows the engine, and keeps what it has ([`live`]); it
//! changes nothing. [`rules`] keeps the firewall's rules.

pub mod engine;
pub mod firewall;
pub mod former;
pub mod keeper;
pub mod live;
pub mod network;
mod pace;
pub mod parts;
pub mod plan;
pub mod rules;
pub mod trouble;
pub mod waiting;
pub mod wanted;
pub mod watch;
