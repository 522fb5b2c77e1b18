//! Who a peer is, by its certificate, and the TLS between Sextant's programs.
//!
//! Certificates name nodes, controllers and people by a URI (SPIFFE ID) as their subject alternative name: [`Identity`]. Pure: the
//! names ([`identity`]), what a certificate says ([`certificate`]), and who may sign receipts ([`signer`]). The edges: the files ([`files`]), connections to gRPC servers ([`Dial`]), and the handshakes of a
//! server ([`server`]) and of a client ([`client`]). Both follow the files: a renewed certificate is used from the next handshake
//! on, and no stream is broken.

pub mod certificate;
pub mod client;
mod dial;
mod dialled;
pub mod files;
pub mod https;
pub mod identity;
mod join;
mod live;
pub mod server;
mod settings;
pub mod signer;
pub mod token;
mod url;

pub use certificate::{CertificateError, Holder};
pub use client::TlsDial;
pub use dial::{Dial, Dialling, SharedDial, Tcp};
pub use files::{FileError, Material, Paths, Source, Stamp};
pub use identity::{Identity, IdentityError, Role, Subject};
pub use live::{Credentials, CredentialsError, Unverified};
pub use rustls::Error as TlsError;
pub use server::{Peer, Served, refusal};
pub use settings::{Incomplete, TlsKeys};
pub use signer::{SignerError, SignerName};
pub use token::{Fingerprint, JoinToken, Secret, SecretHash, TokenError, TokenId};
pub use url::{ControllerUrl, UrlError};

#[cfg(test)]
mod tests;
