//! Foreign texts in errors.

use std::fmt::Write;

/// The characters of a foreign text that an error shows.
const SHOWN: usize = 80;

/// The begin of a foreign text, fit for a terminal, a log and a header: what is not printable is escaped.
pub fn quoted(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars().take(SHOWN) {
        let printable = c == '"' || c == '\'' || c == '\\';
        // Writing to a String cannot fail.
        let _ = if printable || is_plain(c) {
            write!(shown, "{c}")
        } else {
            write!(shown, "{}", c.escape_unicode())
        };
    }
    if text.chars().nth(SHOWN).is_some() {
        let _ = write!(shown, "… ({} octets)", text.len());
    }
    shown
}

/// Whether Rust shows it as it is. Marks of direction are not plain: they would reorder what follows.
fn is_plain(c: char) -> bool {
    c.escape_debug().len() == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_a_cursor_or_turns_the_line_around_is_escaped() {
        let table = [
            ("host-1", "host-1"),
            ("Höst \"1\" \\ 'a'", "Höst \"1\" \\ 'a'"),
            ("a\nb\t\u{1b}[2J", "a\\u{a}b\\u{9}\\u{1b}[2J"),
            ("\u{202e}1h\u{200f}", "\\u{202e}1h\\u{200f}"),
        ];
        for (text, shown) in table {
            assert_eq!(quoted(text), shown);
        }
    }

    #[test]
    fn a_long_text_is_cut() {
        assert_eq!(quoted(&"ü".repeat(50_000)), format!("{}… (100000 octets)", "ü".repeat(80)));
    }
}
