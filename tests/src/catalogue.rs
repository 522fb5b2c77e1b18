//! Benchmarks and soak tests by name: the command line of both binaries.

use std::process::ExitCode;

/// A benchmark or soak test.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Its name on the command line.
    pub name: &'static str,
    /// A line that describes it.
    pub about: &'static str,
    /// Runs it, and prints the results.
    pub run: fn() -> anyhow::Result<()>,
}

/// The entry's own options: everything from the first word of the command line that begins with `--`.
pub fn options() -> impl Iterator<Item = String> {
    std::env::args().skip(1).skip_while(|word| !is_option(word.as_str()))
}

fn is_option(word: &str) -> bool {
    word.starts_with("--")
}

/// Runs the entries that the command line names, all without a name, or prints them with `--list`. A failure does not stop
/// the other entries; the exit code is 1 then. It is 2 for an unknown name.
pub fn main(kind: &str, entries: &[Entry]) -> ExitCode {
    let names: Vec<_> = std::env::args().skip(1).collect();
    if names.iter().any(|name| name == "--list") {
        print!("{}", list(entries));
        return ExitCode::SUCCESS;
    }
    let count = names.iter().position(|word| is_option(word.as_str())).unwrap_or(names.len());
    if count != names.len() && count != 1 {
        eprintln!("options need exactly one {kind} before them");
        return ExitCode::from(2);
    }
    match chosen(kind, entries, &names[..count]) {
        Ok(chosen) => run(&chosen),
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}

fn list(entries: &[Entry]) -> String {
    entries.iter().map(|entry| format!("{:24} {}\n", entry.name, entry.about)).collect()
}

fn chosen(kind: &str, entries: &[Entry], names: &[String]) -> Result<Vec<Entry>, String> {
    if entries.is_empty() {
        return Err(format!("there is no {kind}"));
    }
    if names.is_empty() {
        return Ok(entries.to_vec());
    }
    let find = |name: &String| {
        let known = || entries.iter().map(|entry| entry.name).collect::<Vec<_>>().join(", ");
        let found = entries.iter().find(|entry| entry.name == name);
        found.copied().ok_or_else(|| format!("there is no {kind} \"{name}\"; names: {}", known()))
    };
    names.iter().map(find).collect()
}

fn run(entries: &[Entry]) -> ExitCode {
    let mut failed = Vec::new();
    for entry in entries {
        println!("== {}: {}", entry.name, entry.about);
        if let Err(error) = (entry.run)() {
            eprintln!("{}: {error:#}", entry.name);
            failed.push(entry.name);
        }
    }
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("failed: {}", failed.join(", "));
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRIES: &[Entry] = &[
        Entry { name: "routes", about: "r", run: || Ok(()) },
        Entry { name: "claims", about: "c", run: || Ok(()) },
    ];

    fn names(args: &[&str]) -> Result<Vec<&'static str>, String> {
        let args: Vec<_> = args.iter().map(|&arg| arg.to_owned()).collect();
        let chosen = chosen("benchmark", ENTRIES, &args)?;
        Ok(chosen.iter().map(|entry| entry.name).collect())
    }

    #[test]
    fn without_names_all_entries_run() {
        assert_eq!(names(&[]).unwrap(), ["routes", "claims"]);
        assert_eq!(names(&["claims"]).unwrap(), ["claims"]);
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_known_names() {
        assert_eq!(
            names(&["routes", "route"]).unwrap_err(),
            "there is no benchmark \"route\"; names: routes, claims"
        );
    }
}
