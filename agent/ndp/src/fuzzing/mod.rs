//! Frames of any kind, in any order, for the decoder and the decision: those of the corpus, with what is decided on each, and changed
//! ones, judged by a second reading of the RFCs.
//!
//! [`case`] is the form of an input, [`play`] gives one to the decoder and to [`Proxy`](crate::proxy::Proxy), [`rfc`] reads frames
//! independently of the decoder, and [`oracle`] says which answers are right. [`change`] makes new inputs.

mod case;
mod change;
mod oracle;
mod play;
mod random;
mod rfc;

use std::{env, fs, path::PathBuf};

use case::Case;
use oracle::judge;
use random::Random;

use crate::proxy::Unanswered;

/// The number of changed inputs, and the seed of the changes.
const INPUTS: &str = "SEXTANT_FUZZ_INPUTS";
const SEED: &str = "SEXTANT_FUZZ_SEED";
/// Set to write the decisions of the corpus anew.
const BLESS: &str = "SEXTANT_BLESS";

/// In so many inputs everything happens.
const LOOKED_AT: u64 = 1000;

fn corpus() -> Vec<(PathBuf, Case)> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let files = fs::read_dir(&dir).unwrap().map(|file| file.unwrap().path());
    let mut all: Vec<_> = files.filter(|file| file.extension().is_some_and(|it| it == "case")).collect();
    all.sort();
    assert!(all.len() > 40, "{} is nearly empty", dir.display());
    let read = |file: PathBuf| {
        let text = fs::read_to_string(&file).unwrap();
        let case = text.parse().unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        (file, case)
    };
    all.into_iter().map(read).collect()
}

/// Each input `NAME.case` is decided on as `NAME.decisions` says.
#[test]
fn the_corpus_is_decided_on_as_before() {
    let mut wrong = Vec::new();
    for (file, case) in corpus() {
        let (decided, verdict) = judge(&case);
        let stored = file.with_extension("decisions");
        if let Err(error) = verdict {
            wrong.push(format!("{}: {error}\n{decided}", file.display()));
        } else if env::var_os(BLESS).is_some() {
            fs::write(&stored, &decided).unwrap();
        } else if fs::read_to_string(&stored).unwrap_or_default() != decided {
            wrong.push(format!("{} is not as stored:\n{decided}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}\n{BLESS}=1 stores what is decided now.", wrong.join("\n"));
}

#[test]
fn changed_inputs_are_decided_on_by_the_rfcs() {
    let number = |name, default| env::var(name).map_or(default, |text| text.parse().unwrap());
    let (inputs, seed) = (number(INPUTS, 2000), number(SEED, u64::from(std::process::id())));
    eprintln!("{SEED}={seed} {INPUTS}={inputs}");
    let corpus: Vec<_> = corpus().into_iter().map(|(_, case)| case).collect();
    let mut seen = String::new();
    for number in 0..inputs {
        let case = change::new(&corpus, &mut Random::new(seed, number));
        let (decided, verdict) = judge(&case);
        if verdict.is_err() {
            let least = case.shrunk(|it| judge(it).1.is_err());
            let (decided, verdict) = judge(&least);
            let error = verdict.err().unwrap_or_default();
            panic!("{SEED}={seed}, input {number}: {error}\n\n{least}\n{decided}");
        }
        if number < LOOKED_AT {
            seen += &decided;
        }
    }
    let reasons = Unanswered::ALL.map(|reason| format!(": not answered: {}\n", reason.text()));
    for what in reasons.iter().map(String::as_str).chain([": answered\n", ": heard\n", "\ndue\n"]) {
        assert!(inputs < LOOKED_AT || seen.contains(what), "no input leads to \"{}\"", what.trim());
    }
}

/// The oracle sees a fault: without that, its silence would say nothing.
#[test]
fn a_wrong_answer_is_noticed() {
    let (_, case) = corpus().into_iter().find(|(file, _)| file.ends_with("in-use.case")).unwrap();
    type Fault = fn(&mut play::Step);
    let faults: [(&str, Fault); 7] = [
        ("none", |step| step.sent.clear()),
        ("two", |step| step.sent.extend(step.sent.clone())),
        ("hop limit", |step| packets(step, |packet| packet[7] = 64)),
        ("checksum", |step| packets(step, |packet| packet[42] ^= 1)),
        ("solicited flag", |step| packets(step, |packet| packet[44] ^= 0x40)),
        ("router flag", |step| packets(step, |packet| packet[44] ^= 0x80)),
        ("another link", |step| step.sent.iter_mut().for_each(|sent| sent.link += 1)),
    ];
    for (what, fault) in faults {
        assert!(oracle::judge_with(&case, fault).1.is_err(), "{what}");
    }
}

fn packets(step: &mut play::Step, change: impl Fn(&mut Vec<u8>)) {
    step.sent.iter_mut().for_each(|sent| change(&mut sent.packet));
}
