//! Router advertisements (RFC 4861 §6.2) on a bridge of the agent: containers and virtual machines there get addresses by SLAAC
//! (RFC 4862 §5.5) and a default route, without any configuration of their own.
//!
//! [`message`] encodes them, [`schedule`] decides when they are sent, [`former`] which prefixes are withdrawn; all are pure. [`advertiser`] sends them, and [`socket`]
//! is the edge to the kernel.
//!
//! They are made to outlast the agent: a host whose agent has stopped goes on forwarding, so its containers must keep their
//! addresses and their route for as long as that takes to be repaired.

pub mod advertiser;
pub mod former;
pub mod message;
pub mod schedule;
mod socket;
