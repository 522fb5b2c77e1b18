//! The project is written in the field's words: no file that people read has a private word or phrase.
#![allow(clippy::unwrap_used)] // Clippy does not see that a test's own functions are of a test.

mod words;

use std::{
    fs,
    path::{Path, PathBuf},
};

use words::{Found, Private};

/// The list of private words.
const LIST: &str = include_str!("private-words.txt");
/// What is read, below the root of the repository.
const READ: [&str; 7] = ["README.md", "Cargo.toml", "agent", "controller", "deploy", "docs", "proto"];
const READ_TESTS: &str = "tests";
/// What holds other people's words, or nothing for people, or the words themselves.
const LEFT_OUT: [&str; 5] = ["target", "corpus", "fixtures", "recorded", "tests/tests/language"];
/// Where a private word has to stay: a file, the word, and why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("agent/src/engine/meters.rs", "contested", "the name of a metric that dashboards use"),
    ("controller/cli/src/command/trace.rs", "mend", FORMER_KEY),
    ("controller/cli/src/json/trace.rs", "mend", FORMER_KEY),
    ("docs/json.md", "mend", FORMER_KEY),
];
const FORMER_KEY: &str = "a key of version 0.1 that is still printed beside \"fix\"";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Each text file below a path, by its path from the root.
fn files(path: &Path) -> Vec<PathBuf> {
    let left_out = |path: &Path| LEFT_OUT.iter().any(|it| path.ends_with(it));
    if left_out(path) {
        return Vec::new();
    }
    if path.is_dir() {
        let mut inside: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        inside.sort();
        return inside.iter().flat_map(|path| files(path)).collect();
    }
    vec![path.to_owned()]
}

/// The private words of all files, each with its place.
fn found_in_repository(private: &[Private]) -> Vec<String> {
    let all = READ.iter().chain([&READ_TESTS]).flat_map(|name| files(&root().join(name)));
    let texts = all.filter_map(|path| Some((fs::read_to_string(&path).ok()?, path)));
    let mut found = Vec::new();
    for (text, path) in texts {
        let place = path.strip_prefix(root()).unwrap().display().to_string();
        let name = words::find(&place, private).into_iter().map(|it| Found { line: 0, ..it });
        let inside = words::find(&text, private);
        let wrong = name.chain(inside).filter(|it| !is_exception(&place, &it.phrase));
        found.extend(wrong.map(|it| format!("{place}:{}: \"{}\"; say: {}", it.line, it.phrase, it.instead)));
    }
    found
}

fn is_exception(place: &str, phrase: &str) -> bool {
    EXCEPTIONS.iter().any(|(file, word, _)| *file == place && *word == phrase)
}

#[test]
fn no_file_has_a_private_word() {
    let found = found_in_repository(&words::list(LIST));
    assert!(
        found.is_empty(),
        "{} private words; see tests/tests/language\n{}",
        found.len(),
        found.join("\n")
    );
}

/// A line of a message that was joined with the next one has its indentation in the middle.
#[test]
fn no_message_has_its_sources_indentation_in_it() {
    let programs = ["agent", "controller", "proto"].into_iter().flat_map(|name| files(&root().join(name)));
    let is_for_people = |path: &PathBuf| {
        let path = path.to_string_lossy();
        path.ends_with(".rs") && !path.contains("tests") && !path.ends_with("sample.rs")
    };
    let mut found = Vec::new();
    for path in programs.filter(is_for_people) {
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        let lines = code.lines().enumerate().filter(|(_, line)| has_indentation_inside(line.trim()));
        found.extend(lines.map(|(n, line)| format!("{}:{}: {}", path.display(), n + 1, line.trim())));
    }
    assert!(found.is_empty(), "spaces inside of a message\n{}", found.join("\n"));
}

/// Comments are drawn; code that is formatted has no other run of spaces, unless a comment follows.
fn has_indentation_inside(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    !line.starts_with("//") && code.trim_end().contains("    ")
}

#[test]
fn every_exception_is_needed() {
    let private = words::list(LIST);
    for (file, word, _) in EXCEPTIONS {
        let text = fs::read_to_string(root().join(file)).unwrap();
        assert!(words::find(&text, &private).iter().any(|it| it.phrase == *word), "{file} has no \"{word}\"");
    }
}
