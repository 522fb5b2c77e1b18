//! A gRPC client with the certificate of a member, which says what it likes.

use std::sync::Arc;

use sextant_identity::{Credentials, Dial, TlsDial};
use sextant_tests::Controller;
use tokio::runtime::{Builder, Runtime};
use tonic::transport::{Channel, Endpoint};

use crate::authority::Files;

pub struct Client {
    pub runtime: Runtime,
    pub channel: Channel,
}

impl Client {
    /// A client of this controller, on its host.
    pub fn new(controller: &Controller, files: &Files) -> Self {
        Self::try_new(controller, files).unwrap()
    }

    /// The same, where the controller may close the connection at once.
    pub fn try_new(controller: &Controller, files: &Files) -> anyhow::Result<Self> {
        Self::dialled(controller, files, TlsDial::new)
    }

    /// The same, which shows no certificate.
    pub fn anonymous(controller: &Controller, files: &Files) -> Self {
        Self::dialled(controller, files, TlsDial::anonymous).unwrap()
    }

    fn dialled(
        controller: &Controller,
        files: &Files,
        by: impl FnOnce(Arc<Credentials>) -> TlsDial + Send,
    ) -> anyhow::Result<Self> {
        let (url, credentials) = (controller.url(), Credentials::open(files.paths(), None).unwrap());
        let connect = || {
            // Its thread stays in the network namespace that it is created in.
            let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
            let dial = by(Arc::new(credentials));
            let channel = runtime.block_on(dial.dial(Endpoint::from_shared(url)?))?;
            anyhow::Ok(Self { runtime, channel })
        };
        controller.namespace().enter(connect)?
    }
}
