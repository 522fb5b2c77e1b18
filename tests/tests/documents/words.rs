//! Words that only this project's authors would understand. Pure.

/// Whole words and phrases, in lower case.
const PRIVATE: &[&str] = &[
    "chatter",
    "contests",
    "mend",
    "mended",
    "mends",
    "nobody has",
    "penance",
    "put off",
    "rival",
    "stance",
    "stands still",
    "tell of",
    "the way is",
    "the way to it",
    "told",
    "twins",
    "undoing our",
    "who it is",
    "whom",
];

/// The private words of a text.
pub fn private(text: &str) -> Vec<&'static str> {
    let words: Vec<_> =
        text.to_lowercase().split(|it: char| !it.is_alphanumeric()).map(str::to_owned).collect();
    let words =
        format!(" {} ", words.iter().filter(|it| !it.is_empty()).cloned().collect::<Vec<_>>().join(" "));
    PRIVATE.iter().copied().filter(|phrase| words.contains(&format!(" {phrase} "))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_words_are_found() {
        assert_eq!(private("the mend,\nwho it is: amended"), ["mend", "who it is"]);
        assert_eq!(private("recommend"), [""; 0]);
    }
}
