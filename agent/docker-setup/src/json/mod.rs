//! The engine's `daemon.json`: keys are added and changed in place, and every other byte stays as it is. Pure.

mod document;
mod edit;
mod undo;

pub use document::{Document, MAX_BYTES, Unusable};
pub use edit::{Keys, merged};
pub use undo::undone;

#[cfg(test)]
mod tests;
