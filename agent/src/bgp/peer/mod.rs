//! What is decided about one neighbour's session.

pub(super) mod bfd;
pub(super) mod open;
pub(super) mod timers;
