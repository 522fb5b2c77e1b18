//! How controllers are reached: over plain text, or over TLS with the certificate of this node.

use std::sync::Arc;

use anyhow::Context;
use sextant_identity::{Credentials, SharedDial, Subject, Tcp, TlsDial};
use sextant_join::Wish;

use crate::{
    certificates::{Certificate, Own},
    controllers::Controllers,
    join,
    settings::{Settings, Tls},
};

/// How controllers are reached, and the certificate for it.
pub(crate) struct Access {
    pub(crate) dial: SharedDial,
    pub(crate) certificate: Option<Certificate>,
    /// The settings, with what the join token said that the node claims.
    pub(crate) settings: Settings,
}

/// How controllers are reached: over TLS if it is set up, with a certificate that must be of this node. A host that has none joins.
///
/// # Errors
/// If there is no certificate, or it cannot be used.
pub(crate) async fn access(settings: Settings, controllers: &Controllers) -> anyhow::Result<Access> {
    let own = match &settings.tls {
        None => return Ok(Access { dial: Arc::new(Tcp), certificate: None, settings }),
        Some(Tls::Files(_)) => None,
        Some(Tls::Joined { state_dir, files }) => Some(join::joined(&settings, state_dir, files).await?),
    };
    let paths = match (&settings.tls, &own) {
        (Some(Tls::Files(paths)), _) => paths.clone(),
        (_, Some(directory)) => directory.paths(),
        _ => return Ok(Access { dial: Arc::new(Tcp), certificate: None, settings }),
    };
    let named = match &own {
        None => "--tls-cert".to_owned(),
        Some(_) => format!("the certificate {}", paths.certificate.display()),
    };
    let credentials = Arc::new(Credentials::open(paths, None)?);
    let subject = &credentials.holder().identity.subject;
    anyhow::ensure!(
        *subject == Subject::Node(settings.node.clone()),
        "{named} is of {subject}, and this is node {}; use a certificate of this node, or set --node to its name",
        settings.node
    );
    let settings =
        own.as_ref().map_or(Ok(settings.clone()), |own| with_wish(settings.clone(), own.wish()))?;
    let own =
        own.map(|directory| Own { directory, controllers: controllers.clone(), node: settings.node.clone() });
    let dial = Arc::new(TlsDial::new(credentials.clone()));
    Ok(Access { dial, certificate: Some(Certificate { credentials, own }), settings })
}

/// The settings with the pool and the length of the join token, where they say nothing themselves.
fn with_wish(mut settings: Settings, wish: Wish) -> anyhow::Result<Settings> {
    if settings.pools.is_empty() && !wish.pool.is_empty() {
        settings.pools = vec![wish.pool.parse().context("the pool of the join token")?];
    }
    settings.host_len = settings.host_len.or((wish.host_len > 0).then_some(wish.host_len));
    Ok(settings)
}
