//! A JSON object with the place of each key and value in its text.

use std::{fmt, ops::Range};

use serde::{Deserialize, Deserializer, de};
use serde_json::{Value, value::RawValue};

/// No larger file is read: a real one has some hundred bytes.
pub const MAX_BYTES: usize = 1 << 20;
/// The byte order mark of UTF-8. Engines from 23.0 on skip it.
const MARK: &str = "\u{feff}";

/// Why a file cannot be edited. It stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// It is too large.
    #[error("it has more than {MAX_BYTES} bytes; check that it is the engine's configuration file")]
    TooLarge,
    /// It is no UTF-8.
    #[error("it is not UTF-8 from byte {0} on; save it as UTF-8")]
    NotText(usize),
    /// It is no JSON.
    #[error("it is not valid JSON ({0}), and Docker does not start with it; correct it, or move it away")]
    Invalid(String),
    /// It is JSON, but has no keys.
    #[error("it is not a JSON object; Docker expects {{ \"key\": value, … }}; correct it, or move it away")]
    NotAnObject,
    /// A key is in it twice.
    #[error("it has the key \"{0}\" twice; remove one of them")]
    Twice(String),
    /// A key differs from Docker's by upper and lower case.
    #[error("it has the key \"{found}\", which Docker does not know; write \"{wanted}\", or remove it")]
    Case {
        /// The key.
        found: String,
        /// Docker's.
        wanted: String,
    },
}

/// A key with its value, and their places in the text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub name: String,
    pub value: Value,
    /// From the key's first quotation mark to its last one.
    pub key: Range<usize>,
    /// The value's text.
    pub raw: Range<usize>,
}

/// A parsed file; by default an empty one.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Document {
    pub(super) text: String,
    /// The byte behind the object's `{`; none if the text has no object.
    pub(super) open: Option<usize>,
    pub(super) entries: Vec<Entry>,
}

impl Document {
    /// Parses the content of a file. One that does not exist, or has white space only, has no keys.
    ///
    /// # Errors
    /// If it is not one JSON object.
    pub fn parse(bytes: Option<&[u8]>) -> Result<Self, Unusable> {
        let bytes = bytes.unwrap_or_default();
        if bytes.len() > MAX_BYTES {
            return Err(Unusable::TooLarge);
        }
        let text = std::str::from_utf8(bytes).map_err(|error| Unusable::NotText(error.valid_up_to()))?;
        let body = text.strip_prefix(MARK).unwrap_or(text);
        if body.trim().is_empty() {
            return Ok(Self { text: text.to_owned(), open: None, entries: Vec::new() });
        }
        let invalid = |error: serde_json::Error| Unusable::Invalid(error.to_string());
        if !serde_json::from_str::<Value>(body).map_err(invalid)?.is_object() {
            return Err(Unusable::NotAnObject);
        }
        let RawEntries(raw) = serde_json::from_str(body).map_err(invalid)?;
        let entries = raw.into_iter().map(|(key, value)| entry(text, key, value));
        let entries = entries.collect::<Result<Vec<_>, _>>().map_err(invalid)?;
        let brace = text.find('{').ok_or(Unusable::NotAnObject)?;
        Ok(Self { text: text.to_owned(), open: Some(brace + 1), entries })
    }

    /// The value of a key.
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.entries.iter().find(|entry| entry.name == name).map(|entry| &entry.value)
    }

    /// Whether the file begins with a byte order mark, which engines before 23.0 do not read.
    pub fn has_mark(&self) -> bool {
        self.text.starts_with(MARK)
    }

    /// The only entry of a key, if there is one.
    pub(super) fn only(&self, name: &str) -> Result<Option<&Entry>, Unusable> {
        let same = |entry: &&Entry| entry.name.eq_ignore_ascii_case(name);
        let mut entries = self.entries.iter().filter(same);
        let first = entries.next();
        for entry in first.into_iter().chain(entries.clone()) {
            if entry.name != name {
                return Err(Unusable::Case { found: entry.name.clone(), wanted: name.to_owned() });
            }
        }
        if entries.next().is_some() {
            return Err(Unusable::Twice(name.to_owned()));
        }
        Ok(first)
    }
}

fn entry(text: &str, key: &RawValue, value: &RawValue) -> Result<Entry, serde_json::Error> {
    Ok(Entry {
        name: serde_json::from_str(key.get())?,
        value: serde_json::from_str(value.get())?,
        key: place(text, key.get()),
        raw: place(text, value.get()),
    })
}

/// The place of a part within its text.
fn place(text: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr().addr() - text.as_ptr().addr();
    start..start + part.len()
}

/// An object's keys and values in their order, as they are written.
struct RawEntries<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de> Deserialize<'de> for RawEntries<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Visitor)
    }
}

struct Visitor;

impl<'de> de::Visitor<'de> for Visitor {
    type Value = RawEntries<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(RawEntries(entries))
    }
}
