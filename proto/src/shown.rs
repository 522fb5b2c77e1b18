//! Names that others have chosen, as they are shown and as words of a command: an operator copies the commands of fixes.

use std::fmt::Write as _;

/// A name as text that can be shown: octets that are no text, or that a terminal would interpret, are written as `\xNN`.
pub fn shown_text(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len());
    for chunk in octets.utf8_chunks() {
        for character in chunk.valid().chars() {
            if is_shown(character) {
                text.push(character);
            } else {
                escape(character.encode_utf8(&mut [0; 4]).as_bytes(), &mut text);
            }
        }
        escape(chunk.invalid(), &mut text);
    }
    text
}

/// A [shown](shown_text) name as one word of a shell command.
pub fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-+@%".contains(c);
    if text.contains(['\\', '\'']) {
        format!("$'{}'", text.replace('\'', "\\x27"))
    } else if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{text}'")
    }
}

/// [Shown](shown_text) names as the operands of a command: none is taken for an option.
pub fn shell_operands<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.into_iter().collect();
    let mark = names.iter().any(|name| name.starts_with('-')).then(|| "--".to_owned());
    mark.into_iter().chain(names.into_iter().map(shell_word)).collect::<Vec<_>>().join(" ")
}

/// Not control characters, nor marks that change the direction of text or have no width; nor the mark of an escape.
fn is_shown(character: char) -> bool {
    let invisible = matches!(
        character,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    );
    !character.is_control() && !invisible && character != '\\'
}

fn escape(octets: &[u8], text: &mut String) {
    for octet in octets {
        write!(text, "\\x{octet:02x}").ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shell_reads_the_octets_of_a_shown_name() {
        for name in [
            "web",
            "a b;id",
            "it's",
            "$(id) `id`",
            "esc\u{1b}[31m",
            "new\nline",
            "back\\slash",
            "",
            "\u{202e}x",
        ] {
            let word = shell_word(&shown_text(name.as_bytes()));
            assert!(!word.contains(char::is_control), "{word:?}");
            let line = format!("printf %s {word}");
            let read = std::process::Command::new("bash").args(["-c", &line]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&read.stdout), name, "{word}");
        }
        assert_eq!(shell_word("sextant_default-1.x"), "sextant_default-1.x");
        assert_eq!(shell_operands(["web", "a b"]), "web 'a b'");
        assert_eq!(shell_operands(["web", "-f"]), "-- web -f");
    }
}
