//! Receipts: the cluster's signature over a claim. Pure.
//!
//! A grant carries a receipt, which the agent keeps. After the loss of a store, a node gets back what its receipt proves, and nothing
//! else: [`verify()`] says what a receipt proves, and [`Content::covers`] whether it is that claim of that node. [`issue`] makes one.
//!
//! The chain of a receipt's signer is checked as it was when the receipt was signed, by the receipt's own time: no clock of today
//! counts, and a claim outlives the certificate of its signer. A signer can date a receipt only within its certificate's validity,
//! which ends within a day, and its key is in no file. Whoever has an issuing key can certify signers, and is stopped by another
//! root: a root that is not trusted any more makes all receipts void that end in it.

mod content;
mod issue;
mod verify;

pub use content::{Bearer, Content, Mismatch};
pub use issue::{Sign, issue};
pub use verify::{Invalid, Trust, looks_like, verify};

#[cfg(test)]
mod tests;
