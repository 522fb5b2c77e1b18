//! Command lines of documents: those of Sextant by their own parsers, others by a list.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use clap::{CommandFactory, Parser};
use sextant_tests::demo;

/// Others' programs that documents may use.
const OTHERS: &[&str] = &[
    "$EDITOR",
    "apt-get",
    "bird",
    "cargo",
    "cp",
    "curl",
    "debconf-set-selections",
    "docker",
    "echo",
    "etcdctl",
    "export",
    "git",
    "groupadd",
    "install",
    "ip",
    "journalctl",
    "mkdir",
    "mv",
    "nft",
    "nsenter",
    "openssl",
    "podman",
    "printf",
    "rm",
    "rustup",
    "ssh",
    "systemctl",
    "systemd-nspawn",
    "test",
    "vtysh",
];
/// Packages, and where each has its tests.
const PACKAGES: [(&str, &str); 12] = [
    ("sextant-proto", "proto"),
    ("sextant-daemon", "proto/daemon"),
    ("sextant-identity", "proto/identity"),
    ("sextant-streams", "proto/streams"),
    ("sextant-agent", "agent"),
    ("sextant-join", "agent/join"),
    ("sextant-controller", "controller"),
    ("sextant-authority", "controller/authority"),
    ("sextant-backup-file", "controller/backup-file"),
    ("sextant-receipts", "controller/receipts"),
    ("sextant-cli", "controller/cli"),
    ("sextant-tests", "tests"),
];
/// Directories whose files are named in documents.
const TOP: [&str; 7] = ["agent/", "controller/", "proto/", "tests/", "deploy/", "docs/", "target/release/"];

/// What is wrong with a command, given as its words.
pub fn wrong(root: &Path, words: &[String]) -> Option<String> {
    let words = without_prefix(words);
    let (program, args) = words.split_first()?;
    let wrong = match program.as_str() {
        "sextant" => parse::<sextant_cli::CommandLine>(words),
        "sextant-agent" => parse::<sextant_agent::settings::CommandLine>(words),
        "sextant-controller" => parse::<sextant_controller::settings::CommandLine>(words),
        "deploy/demo" => parse::<demo::Options>(words),
        "tests/bench" => catalogue(env!("CARGO_BIN_EXE_sextant-bench"), args),
        "tests/soak" => catalogue(env!("CARGO_BIN_EXE_sextant-soak"), args),
        "tests/run" => names_of_tests(root, args),
        "tests/previous" | "deploy/package" => None,
        "cargo" => cargo(root, args),
        other if OTHERS.contains(&other) => None,
        other => Some(format!("\"{other}\" is no program that documents may use; see {}", file!())),
    };
    wrong.or_else(|| args.iter().find_map(|word| missing_file(root, word)))
}

/// The command without `sudo` and variables before it.
fn without_prefix(words: &[String]) -> &[String] {
    let is_prefix =
        |word: &String| word == "sudo" || word == "-E" || (word.contains('=') && !word.starts_with('-'));
    let first = words.iter().position(|word| !is_prefix(word)).unwrap_or(words.len());
    &words[first..]
}

fn parse<P: Parser>(words: &[String]) -> Option<String> {
    let error = P::try_parse_from(words).err()?;
    matches!(error.exit_code(), 1..).then(|| error.to_string().lines().next().unwrap_or_default().to_owned())
}

/// A path of the repository that does not exist. Binaries are only there once they are built.
pub fn missing_file(root: &Path, word: &str) -> Option<String> {
    let is_ours =
        TOP.iter().any(|top| word.starts_with(top)) && !word.contains(['*', '…', '<', ' ', ',', ':']);
    let is_built = word.starts_with("target/release/");
    (is_ours && !is_built && !root.join(word).exists()).then(|| format!("{word} does not exist"))
}

/// What is wrong with names and options of benchmarks or soak tests, by what the program itself says of them.
fn catalogue(program: &str, args: &[String]) -> Option<String> {
    let asked = |args: &[&str]| {
        let output = Command::new(program).args(args).stdin(Stdio::null()).output();
        let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    let is_option = |word: &&String| word.starts_with("--");
    let names: Vec<_> = args.iter().take_while(|word| !is_option(word)).collect();
    let list = asked(&["--list"]);
    let known: Vec<_> = list.lines().filter_map(|line| line.split_whitespace().next()).collect();
    if let Some(name) = names.iter().find(|name| !known.contains(&name.as_str())) {
        return Some(format!("there is no \"{name}\"; there are: {}", known.join(", ")));
    }
    let option = args.iter().find(|word| is_option(word) && *word != "--list")?;
    let help = asked(&[names.first()?.as_str(), "--help"]);
    (!help.contains(option.as_str())).then(|| format!("{} has no option {option}", names[0]))
}

/// A name that no test has.
fn names_of_tests(root: &Path, args: &[String]) -> Option<String> {
    let name = args.iter().find(|word| !word.starts_with('-'))?;
    let is_it = |(path, text): &(PathBuf, String)| {
        let is_module =
            path.with_extension("").ends_with(name) || path.parent().is_some_and(|dir| dir.ends_with(name));
        is_module || text.lines().any(|line| line.contains("fn ") && line.contains(name.as_str()))
    };
    (!sources(root).iter().any(is_it)).then(|| format!("no test has \"{name}\" in its name"))
}

/// All Rust files of the packages, with their text.
pub fn sources(root: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for (_, package) in PACKAGES {
        collect(&root.join(package), &mut found);
    }
    found
}

fn collect(dir: &Path, found: &mut Vec<(PathBuf, String)>) {
    for path in fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|it| it == "rs")
            && let Ok(text) = fs::read_to_string(&path)
        {
            found.push((path, text));
        }
    }
}

/// Packages and test executables that cargo is to be given, and names of tests.
fn cargo(root: &Path, args: &[String]) -> Option<String> {
    let after = |flag: &str| args.iter().position(|word| word == flag).and_then(|at| args.get(at + 1));
    let dir = match after("-p") {
        None => None,
        Some(name) => match PACKAGES.iter().find(|(package, _)| package == name) {
            None => return Some(format!("there is no package {name}")),
            Some((_, dir)) => Some(root.join(dir)),
        },
    };
    if let Some(name) = after("--test") {
        let tests = dir.unwrap_or_else(|| root.to_owned()).join("tests");
        if !tests.join(format!("{name}.rs")).exists() && !tests.join(name).join("main.rs").exists() {
            return Some(format!("there is no test executable {name}"));
        }
    }
    let valued = ["-p", "--test"];
    let free = args.iter().enumerate().skip(1).take_while(|(_, word)| *word != "--");
    let mut free =
        free.filter(|(at, word)| !word.starts_with('-') && !valued.contains(&args[at - 1].as_str()));
    let name = free.next().filter(|_| args[0] == "test")?.1;
    names_of_tests(root, std::slice::from_ref(name))
}

/// What is wrong with code within a line that begins like a command of Sextant: a subcommand or an option that does not
/// exist. Values are not looked at, since they may stand for others: `sextant node drain NAME`.
pub fn wrong_span(root: &Path, text: &str) -> Option<String> {
    let words: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
    let words = without_prefix(&words);
    let (program, args) = words.split_first()?;
    match program.as_str() {
        "sextant" => unknown_name(&sextant_cli::CommandLine::command(), args),
        "sextant-agent" => unknown_name(&sextant_agent::settings::CommandLine::command(), args),
        "sextant-controller" => unknown_name(&sextant_controller::settings::CommandLine::command(), args),
        "deploy/demo" | "tests/bench" | "tests/soak" | "tests/run" => wrong(root, words),
        "cargo" if args.len() > 1 => wrong(root, words),
        _ if words.len() == 1 => missing_file(root, program),
        _ => None,
    }
}

fn unknown_name(program: &clap::Command, args: &[String]) -> Option<String> {
    let (mut command, mut words) = (program, args.iter());
    while let Some(word) = words.next() {
        if word.starts_with(['[', '<']) {
            return None;
        }
        if word.starts_with('-') {
            let name = word.split('=').next().unwrap_or_default();
            let is_it = |arg: &&clap::Arg| {
                let short = arg.get_short().map(|it| format!("-{it}"));
                arg.get_long().is_some_and(|long| name == format!("--{long}"))
                    || short.as_deref() == Some(name)
            };
            let Some(arg) = command.get_arguments().chain(program.get_arguments()).find(is_it) else {
                return Some(format!("{} has no option {name}", command.get_name()));
            };
            if arg.get_action().takes_values()
                && !word.contains('=')
                && !arg.get_id().as_str().contains("insecure")
            {
                words.next();
            }
        } else if command.has_subcommands() {
            match command.find_subcommand(word) {
                Some(found) => command = found,
                None => return Some(format!("{} has no command {word}", command.get_name())),
            }
        }
    }
    None
}

/// The programs by name.
pub fn ours() -> BTreeMap<&'static str, clap::Command> {
    BTreeMap::from([
        ("sextant", sextant_cli::CommandLine::command()),
        ("sextant-agent", sextant_agent::settings::CommandLine::command()),
        ("sextant-controller", sextant_controller::settings::CommandLine::command()),
    ])
}

/// Where the repository is.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}
