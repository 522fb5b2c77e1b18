//! What the fuzzers in `agent/fuzz` call with octets of any kind, and an ordinary test with their corpus.

pub use super::{peer::fuzzing::session, wire::fuzzing::decode};

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    /// All of a target's corpus, which must not be empty.
    fn corpus(target: &str, entry: fn(&[u8])) {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let files: Vec<_> = fs::read_dir(&dir).unwrap().map(|file| file.unwrap().path()).collect();
        assert!(files.len() > 10, "{} is nearly empty", dir.display());
        for file in files {
            eprintln!("{}", file.display());
            entry(&fs::read(file).unwrap());
        }
    }

    #[test]
    fn the_corpus_of_the_decoder() {
        corpus("decode", super::decode);
    }

    #[test]
    fn the_corpus_of_the_peer() {
        corpus("session", super::session);
    }
}
