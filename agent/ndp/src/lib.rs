//! Neighbour discovery on behalf of containers: where nobody routes their prefix to this host, it answers solicitations for their
//! addresses on its uplinks (RFC 4389, RFC 4861 §7.2.8).
//!
//! [`message`] reads and writes packets; [`targets`] knows which addresses are in use; [`limits`] bounds what one neighbour costs;
//! [`proxy`] decides; [`tracked`] are sets that are followed by their changes, [`losses`] what is gone. They are pure. [`responder`] is the task that answers, over
//! the sockets of the links; [`listen`] only looks at a link for a moment.

mod filter;
#[cfg(test)]
mod fuzzing;
mod groups;
pub mod limits;
pub mod listen;
pub mod losses;
pub mod message;
pub mod proxy;
pub mod responder;
mod room;
mod seats;
mod socket;
pub mod targets;
pub mod tracked;
