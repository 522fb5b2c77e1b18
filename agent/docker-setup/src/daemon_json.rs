//! The edit of `daemon.json`.

use crate::{
    json::{Document, Keys, merged, undone},
    record::Edit,
};

/// Gives `daemon.json` these keys.
#[derive(Debug, Clone)]
pub struct DaemonJson(pub Keys);

impl Edit for DaemonJson {
    fn edited(&self, now: Option<&[u8]>) -> Result<Vec<u8>, String> {
        let document = Document::parse(now).map_err(|error| error.to_string())?;
        merged(&document, &self.0).map_err(|error| error.to_string())
    }

    fn undone(
        &self,
        before: Option<&[u8]>,
        after: &[u8],
        now: Option<&[u8]>,
    ) -> Result<Option<Vec<u8>>, String> {
        undone(before, after, now).map_err(|error| error.to_string())
    }
}
