//! What keeps neighbours from reaching this host's containers, where it answers for them: for the agent, and for `sextant-agent
//! doctor`. Changes nothing.
//!
//! [`checks`] decides, and is pure; [`processes`] reads which programs run here.

pub(crate) mod checks;
pub(crate) mod processes;
