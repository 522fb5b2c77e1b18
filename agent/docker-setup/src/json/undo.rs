//! Takes an edit back, and keeps what others have changed since.

use std::ops::Range;

use super::{
    document::{Document, Entry, Unusable},
    edit::replaced,
};

/// The content of a file without an edit: `before` it, and right `after` it. What is in the file `now` is the latter, or has other
/// changes, which are kept: only keys that still have the edit's value get their former one, or are removed. None: there is to be
/// no file, because there was none and nothing of others is left in it, or because somebody has removed it.
///
/// # Errors
/// If one of the contents is unusable.
pub fn undone(before: Option<&[u8]>, after: &[u8], now: Option<&[u8]>) -> Result<Option<Vec<u8>>, Unusable> {
    if now == Some(after) || now == before {
        return Ok(before.map(<[u8]>::to_vec));
    }
    let Some(now) = now else { return Ok(None) };
    let (former, edited, present) =
        (Document::parse(before)?, Document::parse(Some(after))?, Document::parse(Some(now))?);
    let ours = edited.entries.iter().filter(|entry| former.value(&entry.name) != Some(&entry.value));
    let (mut restored, mut removed) = (Vec::new(), Vec::new());
    for entry in ours {
        let Some(at) = present.entries.iter().position(|it| it.name == entry.name) else { continue };
        if present.entries[at].value != entry.value {
            continue;
        }
        match former.entries.iter().find(|it| it.name == entry.name) {
            Some(Entry { raw, .. }) => {
                restored.push((present.entries[at].raw.clone(), former.text[raw.clone()].to_owned()));
            }
            None => removed.push(at),
        }
    }
    let nothing_left = before.is_none() && removed.len() == present.entries.len();
    restored.extend(without(&present, &removed).map(|place| (place, String::new())));
    Ok((!nothing_left).then(|| replaced(&present.text, restored).into_bytes()))
}

/// The places of entries with the commas that they no longer need.
fn without<'a>(document: &'a Document, removed: &'a [usize]) -> impl Iterator<Item = Range<usize>> + 'a {
    let entries = &document.entries;
    let first_kept = (0..entries.len()).find(|at| !removed.contains(at)).unwrap_or(entries.len());
    removed.iter().map(move |&at| match (at < first_kept, at) {
        // Up to the next key, which becomes the first one.
        (true, _) if at + 1 < entries.len() => entries[at].key.start..entries[at + 1].key.start,
        (true, _) | (false, 0) => entries[at].key.start..entries[at].raw.end,
        (false, _) => entries[at - 1].raw.end..entries[at].raw.end,
    })
}
