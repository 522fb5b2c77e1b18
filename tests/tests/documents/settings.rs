//! Settings files of documents, read by the daemons' own parsers.

use std::{fs, path::Path};

use clap::Parser;
use tempfile::TempDir;

/// A daemon whose settings a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Daemon {
    /// `agent.toml`
    Agent,
    /// `controller.toml`
    Controller,
}

impl Daemon {
    /// Of a file whose first line is its path, e.g. `# /etc/sextant/agent.toml`.
    pub fn of(text: &str) -> Option<Self> {
        match text.lines().next()?.trim() {
            "# /etc/sextant/agent.toml" => Some(Self::Agent),
            "# /etc/sextant/controller.toml" => Some(Self::Controller),
            _ => None,
        }
    }

    /// What is wrong with a settings file. Password files that it names need not exist on this machine.
    pub fn wrong(self, text: &str) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("settings.toml");
        fs::write(&path, with_passwords(text, &dir)).unwrap();
        self.settings(&path)
    }

    fn settings(self, path: &Path) -> Option<String> {
        let path = path.display().to_string();
        match self {
            Self::Agent => {
                let words = ["sextant-agent", "--config", &path];
                sextant_agent::settings::CommandLine::parse_from(words)
                    .settings()
                    .err()
                    .map(|it| it.to_string())
            }
            Self::Controller => {
                let words = ["sextant-controller", "--config", &path];
                let read = sextant_controller::settings::CommandLine::parse_from(words).settings();
                read.err().map(|it| it.to_string())
            }
        }
    }

    /// The keys that the parser knows in a section, e.g. `[uplink]`; the empty one is the top of the file.
    pub fn keys(self, section: &str) -> Vec<String> {
        let needed = if section.contains("bgp") { "controller = [\"http://[::1]:7300\"]\n" } else { "" };
        let error = self.wrong(&format!("{needed}{section}\nno-such-key = 1\n"));
        let error = error.unwrap_or_else(|| panic!("{self:?} takes any key in {section}"));
        let (_, known) = error.split_once("expected").unwrap_or_else(|| panic!("{error}"));
        known.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }
}

fn with_passwords(text: &str, dir: &TempDir) -> String {
    let file = dir.path().join("password");
    fs::write(&file, "secret\n").unwrap();
    let line = |line: &str| match line.split_once('=') {
        Some((key, _)) if key.trim() == "password-file" => {
            format!("password-file = {:?}\n", file.display().to_string())
        }
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}
