//! A node's own key and certificate.
//!
//! The key is made on the host and stays there. A [`Credential`] gets its first certificate ([`enroll`]); later ones are for the former
//! one ([`renew`]), also when that has ended ([`return_with`]). The files are those of a [`Directory`]. Pure: when a certificate is
//! renewed, and which one ends soon ([`schedule`]).

mod client;
mod credential;
mod directory;
mod key;
pub mod schedule;

pub use client::{JoinError, enroll, renew, return_with};
pub use credential::{Credential, Hidden};
pub use directory::{Directory, DirectoryError, Wish};
