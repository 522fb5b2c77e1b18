//! Edits of files that can be undone: a record beside each file keeps what was there before.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::file::{self, FileError};

/// The end of a record's name.
const SUFFIX: &str = ".sextant-undo";
/// An edit is made again from the file's new content so many times, if somebody else changes the file meanwhile.
const ATTEMPTS: usize = 5;

/// What is done to a file.
pub trait Edit {
    /// The new content, by the present one.
    ///
    /// # Errors
    /// Why that cannot be edited.
    fn edited(&self, now: Option<&[u8]>) -> Result<Vec<u8>, String>;

    /// The content without the edit, by those before it, right after it, and at present.
    ///
    /// # Errors
    /// Why that is not known.
    fn undone(
        &self,
        before: Option<&[u8]>,
        after: &[u8],
        now: Option<&[u8]>,
    ) -> Result<Option<Vec<u8>>, String>;
}

/// Why a file was not edited. It is as it was.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// It cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Its content is unusable.
    #[error("{}: {problem}; nothing was changed", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: String,
    },
}

/// What was there before an edit, and after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    before: Option<String>,
    after: String,
}

/// What an edit comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    /// The content before; none if there was no file.
    pub before: Option<Vec<u8>>,
    /// The content after; none if there is to be no file.
    pub after: Option<Vec<u8>>,
    /// Somebody else has changed the file since the last edit: that is kept.
    pub changed_since: bool,
}

impl Edited {
    /// Whether the file is changed.
    pub fn is_change(&self) -> bool {
        self.before != self.after
    }
}

/// What [`edit`] would come to.
///
/// # Errors
/// If the file cannot be edited.
pub fn preview(path: &Path, edit: &dyn Edit) -> Result<Edited, EditError> {
    let before = file::read(path)?;
    let after = Some(edit.edited(before.as_deref()).map_err(|problem| content(path, problem))?);
    Ok(Edited { before, after, changed_since: false })
}

/// Edits a file, and records what was there before.
///
/// # Errors
/// If the file cannot be edited: then nothing was changed.
pub fn edit(path: &Path, edit: &dyn Edit) -> Result<Edited, EditError> {
    let mut attempt = 1;
    loop {
        let edited = preview(path, edit)?;
        if !edited.is_change() {
            return Ok(edited);
        }
        match carry_out(path, edit, &edited) {
            Err(EditError::File(FileError::Changed(_))) if attempt < ATTEMPTS => attempt += 1,
            done => return done.map(|()| edited),
        }
    }
}

fn carry_out(path: &Path, edit: &dyn Edit, edited: &Edited) -> Result<(), EditError> {
    let record_path = record_path(path);
    let former = file::read(&record_path)?;
    let now = edited.before.as_deref();
    let before = match parsed(&record_path, former.as_deref())? {
        Some(record) => record.undone(edit, now).map_err(|problem| content(path, problem))?,
        None => edited.before.clone(),
    };
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).map_err(|error| content(path, error.to_string()));
    let after = text(edited.after.clone().unwrap_or_default())?;
    let record = Record { before: before.map(text).transpose()?, after };
    let recorded = serde_json::to_vec(&record).map_err(|error| content(path, error.to_string()))?;
    file::replace(&record_path, file::PRIVATE, former.as_deref(), Some(&recorded))?;
    file::replace(path, file::PUBLIC, now, edited.after.as_deref()).inspect_err(|_| {
        // Without the edit, the earlier record counts. If that cannot be written, the new one says the same.
        let _kept = file::replace(&record_path, file::PRIVATE, Some(&recorded), former.as_deref());
    })?;
    Ok(())
}

/// What [`undo`] would come to; none if nothing was edited.
///
/// # Errors
/// If the content without the edit is not known.
pub fn preview_undo(path: &Path, edit: &dyn Edit) -> Result<Option<Edited>, EditError> {
    let record_path = record_path(path);
    let Some(record) = parsed(&record_path, file::read(&record_path)?.as_deref())? else { return Ok(None) };
    let before = file::read(path)?;
    let after = record.undone(edit, before.as_deref()).map_err(|problem| content(path, problem))?;
    let changed_since = before.as_deref() != Some(record.after.as_bytes()) && before != after;
    Ok(Some(Edited { before, after, changed_since }))
}

/// Takes the edit of a file back; none if nothing was edited.
///
/// # Errors
/// If the file cannot be written, or the content without the edit is not known.
pub fn undo(path: &Path, edit: &dyn Edit) -> Result<Option<Edited>, EditError> {
    let Some(edited) = preview_undo(path, edit)? else { return Ok(None) };
    file::replace(path, file::PUBLIC, edited.before.as_deref(), edited.after.as_deref())?;
    let record_path = record_path(path);
    file::replace(&record_path, file::PRIVATE, file::read(&record_path)?.as_deref(), None)?;
    Ok(Some(edited))
}

/// The record of a file: beside it, not beside a link to it.
pub fn record_path(path: &Path) -> PathBuf {
    let mut name = file::target(path).into_os_string();
    name.push(SUFFIX);
    name.into()
}

fn parsed(path: &Path, bytes: Option<&[u8]>) -> Result<Option<Record>, EditError> {
    let parsed = bytes.map(serde_json::from_slice).transpose();
    parsed.map_err(|error| content(path, format!("{error}; move it away: then there is nothing to undo")))
}

fn content(path: &Path, problem: String) -> EditError {
    EditError::Content { path: path.to_owned(), problem }
}

impl Record {
    fn undone(&self, edit: &dyn Edit, now: Option<&[u8]>) -> Result<Option<Vec<u8>>, String> {
        let before = self.before.as_deref().map(str::as_bytes);
        if now == Some(self.after.as_bytes()) || now == before {
            return Ok(before.map(<[u8]>::to_vec));
        }
        edit.undone(before, self.after.as_bytes(), now)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use serde_json::json;

    use super::*;
    use crate::daemon_json::DaemonJson;

    fn to(cidr: &str) -> DaemonJson {
        DaemonJson(vec![("fixed-cidr-v6", json!(cidr))])
    }

    #[test]
    fn undo_gives_back_the_bytes_from_before_the_first_edit() {
        for before in
            [None, Some(""), Some("{}"), Some("{ \"debug\" :true,\r\n\"fixed-cidr-v6\":\"fd00::/64\" }")]
        {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("daemon.json");
            if let Some(before) = before {
                fs::write(&path, before).unwrap();
            }
            assert_eq!(undo(&path, &to("a")).unwrap(), None, "nothing was edited");
            assert!(edit(&path, &to("a")).unwrap().is_change());
            let mode = fs::metadata(record_path(&path)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "the file may have been for root only");
            assert!(edit(&path, &to("b")).unwrap().is_change());
            assert!(!edit(&path, &to("b")).unwrap().is_change());
            assert!(preview_undo(&path, &to("b")).unwrap().unwrap().is_change());
            assert!(!undo(&path, &to("b")).unwrap().unwrap().changed_since);
            assert_eq!(fs::read_to_string(&path).ok().as_deref(), before);
            assert!(!record_path(&path).exists());
        }
    }

    #[test]
    fn a_change_of_others_is_kept_by_the_next_edit_and_by_undo() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.json");
        edit(&path, &to("a")).unwrap();
        fs::write(&path, "{\"fixed-cidr-v6\":\"a\",\"debug\":true}").unwrap();
        edit(&path, &to("b")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"fixed-cidr-v6\":\"b\",\"debug\":true}");
        fs::write(&path, "{\"fixed-cidr-v6\":\"b\",\"debug\":false}").unwrap();
        assert!(undo(&path, &to("b")).unwrap().unwrap().changed_since);
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"debug\":false}");
    }

    #[test]
    fn an_edit_that_fails_leaves_no_record() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.json");
        fs::write(&path, "{ invalid").unwrap();
        let error = edit(&path, &to("a")).unwrap_err().to_string();
        assert!(
            error.contains("daemon.json: it is not valid JSON") && error.ends_with("nothing was changed"),
            "{error}"
        );
        assert_eq!(fs::read(&path).unwrap(), b"{ invalid");
        assert!(!record_path(&path).exists());
    }

    /// Somebody changes the file whenever it has been read.
    struct Racing<'a>(&'a Path, std::cell::Cell<usize>);

    impl Edit for Racing<'_> {
        fn edited(&self, now: Option<&[u8]>) -> Result<Vec<u8>, String> {
            let (new, left) = (to("a").edited(now), self.1.get());
            if left > 0 {
                self.1.set(left - 1);
                fs::write(self.0, format!("{{\"theirs\":{left}}}")).unwrap();
            }
            new
        }

        fn undone(
            &self,
            before: Option<&[u8]>,
            after: &[u8],
            now: Option<&[u8]>,
        ) -> Result<Option<Vec<u8>>, String> {
            to("a").undone(before, after, now)
        }
    }

    #[test]
    fn a_change_between_read_and_write_is_part_of_the_result() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.json");
        edit(&path, &Racing(&path, 2.into())).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"theirs\":1,\"fixed-cidr-v6\":\"a\"}");
        undo(&path, &to("a")).unwrap().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"theirs\":1}");
        let error = edit(&path, &Racing(&path, 100.into())).unwrap_err().to_string();
        assert!(error.contains("was changed by another process at the same time"), "{error}");
        assert!(!record_path(&path).exists());
    }
}
