//! The routes by router advertisement (RFC 4861 section 6.3.4).

use crate::kernel::{Kernel, KernelError, Route, Scope};

/// These routes as they were last read. To read them, the kernel walks through all of its routes, so they are read again only
/// where they may have changed.
#[derive(Debug, Default)]
pub(super) struct Advertised(Option<Vec<Route>>);

impl Advertised {
    /// They may have changed.
    pub(super) fn forget(&mut self) {
        self.0 = None;
    }

    /// The present routes.
    ///
    /// # Errors
    /// If the kernel cannot be read.
    pub(super) async fn read(&mut self, kernel: &dyn Kernel) -> Result<&[Route], KernelError> {
        let routes = match self.0.take() {
            Some(known) => known,
            None => kernel.routes(Scope::Advertised).await?,
        };
        Ok(self.0.insert(routes))
    }
}
