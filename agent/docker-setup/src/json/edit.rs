//! Adds and changes keys.

use std::ops::Range;

use serde_json::Value;

use super::document::{Document, Unusable};

/// The indentation of a file that has none to follow.
const INDENT: &str = "  ";

/// Keys with the values that they are to have.
pub type Keys = Vec<(&'static str, Value)>;

/// The content with these keys. A key that has the value already, in whichever form, stays as it is; a new one is written after the
/// last one, in the file's own form.
///
/// # Errors
/// If one of the keys is in the file twice, or in a form that Docker refuses.
pub fn merged(document: &Document, keys: &[(&str, Value)]) -> Result<Vec<u8>, Unusable> {
    let mut changed = Vec::new();
    let mut added = Vec::new();
    for (name, value) in keys {
        match document.only(name)? {
            Some(entry) if entry.value == *value => {}
            Some(entry) => changed.push((entry.raw.clone(), value.to_string())),
            None => added.push((*name, value)),
        }
    }
    changed.extend(addition(document, &added));
    Ok(replaced(&document.text, changed).into_bytes())
}

/// The text with other parts in these places.
pub(super) fn replaced(text: &str, mut parts: Vec<(Range<usize>, String)>) -> String {
    parts.sort_by_key(|(place, _)| (place.start, place.end));
    let mut whole = text.to_owned();
    for (place, part) in parts.into_iter().rev() {
        whole.replace_range(place, &part);
    }
    whole
}

/// The text of new keys, and its place.
fn addition(document: &Document, added: &[(&str, &Value)]) -> Option<(Range<usize>, String)> {
    if added.is_empty() {
        return None;
    }
    let form = Form::of(document);
    let lines = added.iter().map(|(name, value)| format!("{}{}{value}", Value::from(*name), form.colon));
    let lines = lines.collect::<Vec<_>>().join(&format!(",{}", form.gap));
    let Form { gap, end, .. } = form;
    match (document.open, document.entries.last()) {
        (None, _) => {
            let at = document.text.len();
            Some((at..at, format!("{{{gap}{lines}{end}}}{end}")))
        }
        (Some(open), None) => Some((open..open, format!("{gap}{lines}{}", closing(document, open, end)))),
        (Some(_), Some(last)) => Some((last.raw.end..last.raw.end, format!(",{gap}{lines}"))),
    }
}

/// The end of the line before the `}` of an object that was empty, unless it is there.
fn closing<'a>(document: &Document, open: usize, end: &'a str) -> &'a str {
    let inside = document.text[open..].split('}').next().unwrap_or_default();
    if inside.contains('\n') { "" } else { end }
}

/// How a file is written.
struct Form {
    /// What is before a key.
    gap: String,
    /// What is between a key and its value.
    colon: String,
    /// The end of a line.
    end: &'static str,
}

impl Form {
    fn of(document: &Document) -> Self {
        let text = &document.text;
        let end = if text.contains("\r\n") { "\r\n" } else { "\n" };
        match document.entries.last() {
            Some(last) => {
                let before = &text[..last.key.start];
                let gap = before[before.trim_end().len()..].to_owned();
                Self { gap, colon: text[last.key.end..last.raw.start].to_owned(), end }
            }
            None => Self { gap: format!("{end}{INDENT}"), colon: ": ".to_owned(), end },
        }
    }
}
