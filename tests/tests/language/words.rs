//! Private words in a text: in its sentences and in its identifiers. Pure.

/// A phrase that only this project's authors would understand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Private {
    words: Vec<String>,
    instead: String,
}

/// A private phrase in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The line of its first word, from 1.
    pub line: usize,
    /// The phrase, as the list has it.
    pub phrase: String,
    /// The field's own words.
    pub instead: String,
}

/// The list of private phrases: `PHRASE = INSTEAD` in each line that is not empty and does not begin with `#`.
pub fn list(text: &str) -> Vec<Private> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let read = |line: &str| {
        let (phrase, instead) = line.split_once(" = ").unwrap_or_else(|| panic!("no \" = \" in {line:?}"));
        let words = phrase.split(' ').map(str::to_owned).collect();
        Private { words, instead: instead.to_owned() }
    };
    lines.map(read).collect()
}

/// All private phrases of a text, in order.
pub fn find(text: &str, private: &[Private]) -> Vec<Found> {
    let words = words(text);
    let mut found = Vec::new();
    for (index, (line, _)) in words.iter().enumerate() {
        let here = private.iter().filter(|it| it.begins(&words[index..]));
        found.extend(here.map(|it| Found {
            line: *line,
            phrase: it.words.join(" "),
            instead: it.instead.clone(),
        }));
    }
    found
}

impl Private {
    /// Whether a text begins with it.
    fn begins(&self, text: &[(usize, String)]) -> bool {
        text.len() >= self.words.len() && self.words.iter().zip(text).all(|(own, (_, word))| own == word)
    }
}

/// Each word in lower case with its line. Identifiers are cut at underscores and where a capital letter begins a word.
fn words(text: &str) -> Vec<(usize, String)> {
    let mut all = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let mut word = String::new();
        let mut after_lower = false;
        for letter in line.chars().chain([' ']) {
            let begins = letter.is_uppercase() && after_lower;
            if (begins || !letter.is_alphanumeric()) && !word.is_empty() {
                all.push((index + 1, std::mem::take(&mut word)));
            }
            if letter.is_alphanumeric() {
                word.extend(letter.to_lowercase());
            }
            after_lower = letter.is_lowercase();
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(usize, String)> {
        let private = list("# a comment\n\nmend = fix\ntold = sent\nput off = superseded\n");
        find(text, &private).into_iter().map(|it| (it.line, it.phrase)).collect()
    }

    #[test]
    fn whole_words_are_found_in_sentences_and_identifiers() {
        let text = "the Mend.\nfn is_told() {}\nstruct ToldPeer;\nlet fieldMend = MEND_IT;";
        let expected = [(1, "mend"), (2, "told"), (3, "told"), (4, "mend"), (4, "mend")];
        assert_eq!(found(text), expected.map(|(line, word)| (line, word.to_owned())));
    }

    #[test]
    fn a_phrase_is_found_over_the_end_of_a_line() {
        assert_eq!(found("/// It was put\n/// off."), [(1, "put off".to_owned())]);
    }

    #[test]
    fn parts_of_words_pass() {
        assert_eq!(found("recommend amended; untold; input offset; putoff"), []);
    }
}
