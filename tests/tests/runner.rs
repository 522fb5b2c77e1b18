//! `tests/run` itself: parallel runs, output, summary, cleanup.
//!
//! The unmodified script runs in a temporary tree. A fake cargo reports shell scripts as the test executables.
#![allow(clippy::unwrap_used)] // Clippy does not see that a test's own functions are of a test.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sextant_tests::{SECONDS, poll};
use tempfile::TempDir;

const CARGO: &str = r#"#!/bin/sh
case "$*" in
*--no-run*)
    for executable in "$TREE"/target/debug/deps/*; do
        printf '{"manifest_path":"%s/Cargo.toml","profile":{"opt_level":"0","test":true},"executable":"%s"}\n' \
            "$TREE/tests" "$executable"
    done ;;
*--doc*) echo "test result: ok. 2 passed; 0 failed; 0 ignored" ;;
esac
"#;

/// A temporary tree with `tests/run`, and shell scripts as test executables.
struct Tree(TempDir);

impl Tree {
    fn new(executables: &[(&str, &str)]) -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        for script in ["tests/run", "tests/previous", "deploy/prepare"] {
            tree.program(script, &fs::read_to_string(root.join(script)).unwrap());
        }
        for program in ["sextant", "sextant-agent", "sextant-controller"] {
            tree.program(&format!("target/debug/{program}"), "");
        }
        tree.program("target/debug/sextant-soak", "#!/bin/sh\necho \"soaked $1\"\n");
        tree.program("bin/cargo", CARGO);
        tree.program("bin/dpkg-query", "#!/bin/sh\nprintf installed\n");
        for (name, text) in executables {
            tree.program(
                &format!("target/debug/deps/{name}-0123456789abcdef"),
                &format!("#!/bin/sh\n{text}\n"),
            );
        }
        tree
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn program(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        let mut command = Command::new(self.path("tests/run"));
        command.args(args).env("TREE", self.0.path()).env("PATH", path);
        command.env("SEXTANT_RUN_JOBS", "2").env_remove("SUDO_USER").stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Run {
        Run::of(&self.command(args).output().unwrap())
    }

    /// Starts the script with an executable that writes its pid to the file `pid` and waits; both processes.
    fn run_until_a_test_waits(&self) -> (Child, Pid) {
        let runner = self.command(&[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let pid = poll("a test begins", 20 * SECONDS, || {
            fs::read_to_string(self.path("pid"))?.trim().parse().map_err(anyhow::Error::from)
        });
        (runner, Pid::from_raw(pid))
    }
}

const WAITS: &str = "echo 'before the wait'; echo $$ >$TREE/new; mv $TREE/new $TREE/pid; exec sleep 600";

struct Run {
    text: String,
    last: String,
    code: Option<i32>,
}

impl Run {
    fn of(output: &Output) -> Self {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let last = text.lines().last().unwrap_or_default().to_owned();
        Self { text: text + &String::from_utf8_lossy(&output.stderr), last, code: output.status.code() }
    }

    fn has(&self, expected: &str) {
        assert!(self.text.contains(expected), "no \"{expected}\" in {}", self.text);
    }

    fn has_not(&self, unexpected: &str) {
        assert!(!self.text.contains(unexpected), "\"{unexpected}\" in {}", self.text);
    }
}

fn is_gone(pid: Pid) -> anyhow::Result<()> {
    anyhow::ensure!(!Path::new(&format!("/proc/{pid}")).exists(), "process {pid} is still there");
    Ok(())
}

/// An executable that passes if the file appears while it runs.
fn waits_for(file: &str, own: &str) -> String {
    format!(
        "echo 'first of {own}'; touch $TREE/{own}
         for _ in $(seq 100); do [ -e $TREE/{file} ] && break; sleep 0.1; done
         [ -e $TREE/{file} ] || exit 3
         echo 'test waits ... ok <0.500s>'
         echo 'test result: ok. 3 passed; 0 failed; 1 ignored'"
    )
}

#[test]
fn executables_run_in_parallel_and_the_output_of_each_is_contiguous() {
    let tree = Tree::new(&[("alpha", &waits_for("beta", "alpha")), ("beta", &waits_for("alpha", "beta"))]);
    let run = tree.run(&[]);
    assert_eq!((run.code, run.last.as_str()), (Some(0), "8 passed, 0 failed"), "{}", run.text);
    for name in ["alpha", "beta"] {
        run.has(&format!(
            "s)\nfirst of {name}\ntest waits ... ok\ntest result: ok. 3 passed; 0 failed; 1 ignored\n"
        ));
    }
    run.has("The slowest tests:\n0.500 s\twaits");
}

#[test]
fn an_executable_that_measures_short_times_runs_alone() {
    let busy = "touch $TREE/busy; sleep 1; rm $TREE/busy; echo 'test result: ok. 1 passed; 0 failed'";
    let single = "[ ! -e $TREE/busy ] || exit 1; echo 'test result: ok. 1 passed; 0 failed'";
    let run = Tree::new(&[("busy", busy), ("liveness", single)]).run(&[]);
    assert_eq!((run.code, run.last.as_str()), (Some(0), "4 passed, 0 failed"), "{}", run.text);
}

#[test]
fn failures_are_counted_and_shown_again_at_the_end() {
    let wrong = "echo 'test right ... ok'; echo 'test wrong ... FAILED'; printf '\\nfailures:\\n\\n---- wrong ----\\nreason\\n'
                 echo 'test result: FAILED. 1 passed; 1 failed; 0 ignored'; exit 101";
    let crashes = "echo 'test early ... ok <0.001s>'; kill -SEGV $$";
    let tree =
        Tree::new(&[("wrong", wrong), ("crashes", crashes), ("hangs", "echo 'hangs here'; exec sleep 600")]);
    let run = Run::of(&tree.command(&[]).env("SEXTANT_RUN_TEST_LIMIT", "1s").output().unwrap());
    assert_eq!((run.code, run.last.as_str()), (Some(1), "4 passed, 3 failed"), "{}", run.text);
    run.has("Killed at the time limit of 1s");
    run.has("---- failed: target/debug/deps/hangs-0123456789abcdef\nhangs here\n");
    assert_eq!(run.text.matches("---- wrong ----\nreason\n").count(), 2, "{}", run.text);
}

/// An executable whose test fails the first time, or each time.
fn fails(test: &str, each_time: bool) -> String {
    let first = if each_time { "true".to_owned() } else { format!("mkdir $TREE/{test} 2>/dev/null") };
    format!(
        "if {first}; then
             echo 'test room::{test} ... FAILED <0.100s>'; printf '\\nfailures:\\n\\n---- room::{test} ----\\nreason of {test}\\n'
             echo 'test result: FAILED. 0 passed; 1 failed; 0 ignored'; exit 101
         fi
         echo \"got $*\"; echo 'test result: ok. 1 passed; 0 failed; 0 ignored'"
    )
}

#[test]
fn a_failed_test_runs_once_again_alone_and_is_named() {
    let run = Tree::new(&[("hurried", &fails("hurried", false))]).run(&[]);
    assert_eq!((run.code, run.last.as_str()), (Some(0), "3 passed, 0 failed"), "{}", run.text);
    run.has("got -Z unstable-options --report-time --include-ignored --exact room::hurried\n");
    run.has("Failed beside other tests, and passed alone: room::hurried\n");
    assert_eq!(run.text.matches("reason of hurried").count(), 2, "{}", run.text);
}

#[test]
fn a_test_that_fails_alone_too_has_failed() {
    let tree = Tree::new(&[("hurried", &fails("hurried", false)), ("wrong", &fails("wrong", true))]);
    let run = tree.run(&[]);
    assert_eq!((run.code, run.last.as_str()), (Some(1), "3 passed, 1 failed"), "{}", run.text);
    run.has("Failed beside other tests, and passed alone: room::hurried\n");
    run.has_not("passed alone: room::wrong");
}

#[test]
fn many_failed_tests_are_not_run_again() {
    let tree = Tree::new(&[("one", &fails("one", false)), ("two", &fails("two", false))]);
    let run = Run::of(&tree.command(&[]).env("SEXTANT_RUN_AGAIN", "1").output().unwrap());
    assert_eq!((run.code, run.last.as_str()), (Some(1), "2 passed, 2 failed"), "{}", run.text);
    run.has_not("passed alone");
}

#[test]
fn a_name_and_flags_are_passed_to_each_executable() {
    let prints = "echo \"got $*\"; echo 'test result: ok. 1 passed; 0 failed'";
    let run = Tree::new(&[("one", prints), ("two", prints)]).run(&["some_name", "--nocapture"]);
    assert_eq!(run.text.matches(" some_name --nocapture\n").count(), 2, "{}", run.text);
}

#[test]
fn slow_tests_run_only_with_all() {
    let slow = "case \"$*\" in
        *'--ignored --exact room::long'*) echo 'test room::long ... ok'; echo 'test result: ok. 1 passed; 0 failed' ;;
        *) echo 'test room::long ... ignored, slow: takes an hour'; echo 'test tool ... ignored, writes into the tree'
           echo 'test result: ok. 0 passed; 0 failed; 2 ignored' ;;
        esac";
    let tree = Tree::new(&[("slow", slow)]);
    let run = tree.run(&[]);
    assert_eq!(run.last, "2 passed, 0 failed", "{}", run.text);
    run.has_not("soaked");

    let all = tree.run(&["--all"]);
    assert_eq!((all.code, all.last.as_str()), (Some(0), "5 passed, 0 failed"), "{}", all.text);
    for expected in ["test room::long ... ok", "soaked claims", "soaked chaos"] {
        all.has(expected);
    }
}

#[test]
fn tests_end_when_the_runner_is_killed() {
    let tree = Tree::new(&[("waits", WAITS)]);
    let (mut runner, test) = tree.run_until_a_test_waits();
    runner.kill().unwrap();
    runner.wait().unwrap();
    poll("the test ends", 10 * SECONDS, || is_gone(test));
}

#[test]
fn tests_end_when_the_runner_is_interrupted() {
    let tree = Tree::new(&[("waits", WAITS)]);
    let (runner, test) = tree.run_until_a_test_waits();
    let status = fs::read_to_string(format!("/proc/{test}/status")).unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap().trim();
    let interrupt = 1 << (Signal::SIGINT as u64 - 1);
    assert_eq!(u64::from_str_radix(ignored, 16).unwrap() & interrupt, 0, "tests get Ctrl-C as from cargo");

    kill(Pid::from_raw(runner.id().cast_signed()), Signal::SIGINT).unwrap();
    let run = Run::of(&runner.wait_with_output().unwrap());
    assert!(run.code.is_some_and(|code| code != 0), "{:?}: {}", run.code, run.text);
    run.has("(interrupted)\nbefore the wait\n");
    is_gone(test).unwrap();
}

/// Bash reads this file first, and then runs the trap before each command of the runner: as soon as it has started a job, and before
/// its next command, it waits until the test runs, and gets the signal.
const INTERRUPTED_AT_THE_START: &str = r#"
set -T
trap '[ -z "${work:-}" ] || [ -z "${!:-}" ] || [ -e "$TREE/signalled" ] || {
    until [ -e "$TREE/pid" ]; do sleep 0.01; done
    touch "$TREE/signalled"; kill -TERM $$
}' DEBUG
"#;

#[test]
fn a_test_that_has_just_been_started_ends_with_the_runner() {
    let tree = Tree::new(&[("waits", WAITS)]);
    let hook = tree.path("hook");
    fs::write(&hook, INTERRUPTED_AT_THE_START).unwrap();
    let run = Run::of(&tree.command(&[]).env("BASH_ENV", &hook).output().unwrap());
    assert!(tree.path("signalled").exists() && run.code.is_some_and(|code| code != 0), "{}", run.text);
    let test = fs::read_to_string(tree.path("pid")).unwrap().trim().parse().unwrap();
    is_gone(Pid::from_raw(test)).unwrap();
    run.has("(interrupted)\nbefore the wait\n");
}
