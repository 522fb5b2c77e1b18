//! Names of network interfaces as text. The kernel allows any octets but `/`, `:` and white space (`dev_valid_name` in
//! net/core/dev.c): octets that are no text, or that a terminal would interpret, are written as `\xNN`.

use crate::shown::{shell_word, shown_text};

/// The longest name, in octets (the kernel's IFNAMSIZ without the final zero).
const MAX_OCTETS: usize = 15;

/// A name as text that can be shown.
pub fn link_name_text(octets: &[u8]) -> String {
    shown_text(octets)
}

/// The octets of a name that was written as text.
pub fn link_name_octets(text: &str) -> Vec<u8> {
    let (mut octets, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let escaped = rest.first_chunk::<4>().and_then(escaped);
        octets.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &rest[4..] } else { after };
    }
    octets
}

/// Whether the kernel accepts this name for an interface.
pub fn is_link_name(text: &str) -> bool {
    let octets = link_name_octets(text);
    // The kernel's isspace() has 0xa0, too.
    let refused = |octet: &u8| matches!(octet, 0 | b'/' | b':' | b' ' | 9..=13 | 0xa0);
    (1..=MAX_OCTETS).contains(&octets.len())
        && !octets.iter().any(refused)
        && !matches!(octets.as_slice(), b"." | b"..")
}

/// A name as one word of a shell command.
pub fn link_name_word(text: &str) -> String {
    shell_word(text)
}

/// The octet of `\xNN`.
fn escaped(&[mark, x, high, low]: &[u8; 4]) -> Option<u8> {
    let digit = |octet: u8| char::from(octet).to_digit(16);
    let octet = (digit(high)? << 4) | digit(low)?;
    (mark == b'\\' && x == b'x').then(|| u8::try_from(octet).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_the_kernels() {
        for name in [
            "eth0",
            "lan.5",
            "a",
            "br-0123456789ab",
            "eth0@if3",
            "100%",
            "größe",
            "\\xff",
            "\\x1b[2J",
            "a,b",
            "-x",
        ] {
            assert!(is_link_name(name), "{name}");
        }
        for name in [
            "",
            ".",
            "..",
            "a/b",
            "a:b",
            "a b",
            "a\tb",
            "0123456789abcdef",
            "größegrößegr",
            "\\x00",
            "\\xa0",
            "\u{2028}\u{a0}",
        ] {
            assert!(!is_link_name(name), "{name}");
        }
    }

    #[test]
    fn only_what_can_be_shown_is_shown() {
        for (octets, text) in [
            (&b"lan.5"[..], "lan.5"),
            ("größe".as_bytes(), "größe"),
            (b"\xffeth", "\\xffeth"),
            (b"\x1b[2J", "\\x1b[2J"),
            (b"a\\b", "a\\x5cb"),
            ("a\u{202e}b".as_bytes(), "a\\xe2\\x80\\xaeb"),
        ] {
            assert_eq!(link_name_text(octets), text);
        }
    }

    #[test]
    fn a_word_of_a_command_is_quoted_where_it_must_be() {
        for (text, word) in [
            ("lan.5", "lan.5"),
            ("$(reboot)", "'$(reboot)'"),
            ("a;b", "'a;b'"),
            ("a'b", "$'a\\x27b'"),
            ("\\xff", "$'\\xff'"),
        ] {
            assert_eq!(link_name_word(text), word);
        }
    }

    proptest! {
        #[test]
        fn any_octets_are_read_back(octets in proptest::collection::vec(any::<u8>(), 0..16)) {
            let text = link_name_text(&octets);
            prop_assert!(!text.chars().any(char::is_control));
            prop_assert_eq!(link_name_octets(&text), octets);
        }

        #[test]
        fn any_text_has_one_form_that_is_shown(text in "\\PC{0,8}") {
            let shown = link_name_text(&link_name_octets(&text));
            prop_assert_eq!(link_name_text(&link_name_octets(&shown)), shown);
        }
    }
}
