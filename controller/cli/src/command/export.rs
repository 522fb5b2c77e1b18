//! `sextant route export`.

use std::path::Path;

use serde_json::Value;

use crate::{
    export::{self, Changes, Format, Routes, Wanted},
    failure::Failure,
    global::Output,
    json,
    link::Link,
    show::{self, Show},
};

/// Writes the routes of a router, or what has changed since an earlier export.
pub(super) async fn export(
    link: &mut Link,
    output: Output,
    format: Format,
    since: Option<&Path>,
    wanted: Wanted,
) -> Result<(), Failure> {
    let former = since.map(|path| read(path, format)).transpose()?;
    let cluster = link.cluster().await?;
    let (routes, left_out) = export::routes(&cluster, wanted)?;
    show::warn(&left_out);
    let changes = former.map(|former| Changes::between(&former, &routes));
    show::print(output, &Exported { format, routes, changes })
}

fn read(path: &Path, format: Format) -> Result<Routes, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::Failed(format!("--since {}: {error}", path.display())))?;
    format.read(&text).map_err(|error| Failure::Usage(format!("--since {}: {error}", path.display())))
}

struct Exported {
    format: Format,
    routes: Routes,
    /// Since an earlier export, if one was named.
    changes: Option<Changes>,
}

impl Show for Exported {
    fn text(&self, _now_unix_ms: u64) -> String {
        match &self.changes {
            Some(changes) => self.format.write_changes(changes, &self.routes),
            None => self.format.write(&self.routes),
        }
    }

    fn json(&self) -> Value {
        json::value(json::ExportedRoutes::new(&self.routes, self.changes.as_ref()))
    }
}
