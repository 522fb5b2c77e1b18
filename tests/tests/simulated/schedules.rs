//! Runs many schedules, each in its own process; failing ones are shrunk.

use std::{
    process::{Command, Output},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{determinism, log, run::Run, schedule::Schedule};

/// The default number of schedules.
const SCHEDULES: u64 = 60;
/// How long they may take together, unless their number is given.
const LIMIT: Duration = Duration::from_secs(60);
/// How many run at once.
const AT_ONCE: usize = 2;
/// How many failures are shrunk and shown.
const SHOWN: usize = 5;

const SEED: &str = "SEXTANT_SIMULATED_SEED";
const DROP: &str = "SEXTANT_SIMULATED_DROP";
/// Begins the line that says what did not hold.
const FAILED: &str = "FAILED: ";

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// A schedule, without the events that are to be left out.
fn schedule(seed: u64) -> Schedule {
    let mut schedule = Schedule::draw(seed);
    let dropped = std::env::var(DROP).unwrap_or_default();
    let dropped: Vec<usize> = dropped.split(',').filter_map(|index| index.parse().ok()).collect();
    let mut index = 0;
    schedule.events.retain(|_| {
        index += 1;
        !dropped.contains(&(index - 1))
    });
    schedule
}

/// Runs one schedule on a thread that has drawn nothing yet; its log.
fn simulate(seed: u64) -> (anyhow::Result<()>, String) {
    let simulated = thread::spawn(move || {
        let dir = tempfile::tempdir().unwrap();
        determinism::begin(seed);
        let _logs = log::begin();
        let result = Run::whole(&schedule(seed), dir.path());
        (result, log::text())
    });
    simulated.join().unwrap()
}

/// What the child processes of [`drawn_schedules`] run.
#[test]
#[ignore = "runs one schedule, for SEXTANT_SIMULATED_SEED"]
fn one_schedule() {
    let seed = number(SEED).unwrap_or_default();
    println!("{}", schedule(seed));
    let (result, log) = simulate(seed);
    println!("{log}");
    if let Err(error) = result {
        panic!("{FAILED}{error:#}");
    }
}

fn run_alone(seed: u64, dropped: &[usize]) -> Output {
    let dropped: Vec<_> = dropped.iter().map(ToString::to_string).collect();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "schedules::one_schedule", "--ignored", "--nocapture"]);
    command.env(SEED, seed.to_string()).env(DROP, dropped.join(",")).output().unwrap()
}

/// What did not hold, if something did not.
fn failure(output: &Output) -> Option<String> {
    if output.status.success() {
        return None;
    }
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = text.split(FAILED).nth(1).unwrap_or(&text);
    Some(line.split("\nnote: ").next().unwrap_or_default().trim().to_owned())
}

/// The kind of a failure: its text without numbers and what is shown after it.
fn kind(failure: &str) -> String {
    let line = failure.lines().next().unwrap_or_default();
    line.chars().filter(|letter| letter.is_ascii_alphabetic() || *letter == ' ').take(40).collect()
}

/// Leaves events out for as long as the same still fails; which ones.
fn shrink(seed: u64, failed: &str) -> Vec<usize> {
    let mut dropped = Vec::new();
    for index in 0..Schedule::draw(seed).events.len() {
        dropped.push(index);
        let still = failure(&run_alone(seed, &dropped));
        if still.is_none_or(|still| kind(&still) != kind(failed)) {
            dropped.pop();
        }
    }
    dropped
}

/// Where no number of schedules is asked for, the same ones are run each time: new ones are for `SEXTANT_SCHEDULES=1000`.
const FIRST_SEED: u64 = 1;

#[test]
fn after_random_schedules_every_node_is_ready_with_its_own_prefix() {
    let wanted = number("SEXTANT_SCHEDULES");
    let (count, limit) = (wanted.unwrap_or(SCHEDULES), wanted.map_or(LIMIT, |_| Duration::MAX));
    let drawn = || if wanted.is_some() { rand::random::<u64>() >> 16 } else { FIRST_SEED };
    let first = number("SEXTANT_SEED").unwrap_or_else(drawn);
    println!("SEXTANT_SEED={first} SEXTANT_SCHEDULES={count}");
    let (next, failed, begun) = (AtomicU64::new(0), Mutex::new(Vec::new()), Instant::now());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count || begun.elapsed() > limit {
                        next.fetch_sub(1, Ordering::Relaxed);
                        return;
                    }
                    let seed = first.wrapping_add(index);
                    if let Some(failure) = failure(&run_alone(seed, &[])) {
                        println!("seed {seed}: {failure}");
                        failed.lock().unwrap().push((seed, failure));
                    }
                }
            });
        }
    });
    let (failed, run) = (failed.into_inner().unwrap(), next.into_inner());
    println!("{run} schedules in {:?}", begun.elapsed());
    for (seed, failure) in failed.iter().take(SHOWN) {
        let dropped = shrink(*seed, failure);
        let left = run_alone(*seed, &dropped);
        let dropped: Vec<_> = dropped.iter().map(ToString::to_string).collect();
        println!(
            "---- {SEED}={seed} {DROP}={} cargo test -p sextant-tests --test simulated -- --ignored --nocapture\n{}\n{}",
            dropped.join(","),
            self::failure(&left).unwrap_or_default(),
            last_lines(&String::from_utf8_lossy(&left.stdout), 60)
        );
    }
    assert!(failed.is_empty(), "{} of {run} schedules failed: {:?}", failed.len(), seeds(&failed));
}

fn seeds(failed: &[(u64, String)]) -> Vec<u64> {
    failed.iter().map(|(seed, _)| *seed).collect()
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[test]
fn a_seed_gives_the_same_run() {
    let runs: Vec<_> = (0..2).map(|_| run_alone(1, &[])).collect();
    let [one, other] = [0, 1].map(|run| String::from_utf8_lossy(&runs[run].stdout).into_owned());
    let differs =
        one.lines().zip(other.lines()).find(|(one, other)| one != other && !one.contains("finished in"));
    assert_eq!(differs, None);
    assert!(one.contains("the last fault has ended"), "{one}");
}
