//! Manual pages and shell completions of a program, from its command line, where programs look for them below a `share` directory.
//!
//! ```text
//! man/man1/sextant-node-drain.1
//! bash-completion/completions/sextant
//! zsh/site-functions/_sextant
//! fish/vendor_completions.d/sextant.fish
//! ```

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

/// The shells that look for completions below a `share` directory.
pub const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

/// The section of a program's manual pages (man-pages(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// 1: user commands
    User,
    /// 8: commands of the system's administration, daemons among them
    Administration,
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User => "1",
            Self::Administration => "8",
        })
    }
}

/// A file that could not be written.
#[derive(Debug)]
pub struct WriteError {
    path: PathBuf,
    error: io::Error,
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.error)
    }
}

impl std::error::Error for WriteError {}

/// Writes one page for the program, and one for each of its commands.
///
/// # Errors
/// If a file or directory cannot be written. Earlier pages are written then.
pub fn write_pages(program: Command, section: Section, share: &Path) -> Result<(), WriteError> {
    let mut program = program.disable_help_subcommand(true);
    program.build();
    write_page(&program, section, &share.join(format!("man/man{section}")))
}

fn write_page(command: &Command, section: Section, dir: &Path) -> Result<(), WriteError> {
    let man = Man::new(command.clone()).section(section.to_string());
    let mut page = Vec::new();
    let path = dir.join(man.get_filename());
    man.render(&mut page).map_err(|error| WriteError { path: path.clone(), error })?;
    write(&path, &page)?;
    command
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .try_for_each(|command| write_page(command, section, dir))
}

/// Writes completions that need nothing but the command line itself.
///
/// # Errors
/// If a file or directory cannot be written.
pub fn write_completions(mut program: Command, share: &Path) -> Result<(), WriteError> {
    let name = program.get_name().to_owned();
    SHELLS.into_iter().try_for_each(|shell| {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut program, &name, &mut script);
        write_script(shell, &name, &script, share)
    })
}

/// Writes a shell's completions for a program.
///
/// # Errors
/// If the file or its directory cannot be written.
pub fn write_script(shell: Shell, program: &str, script: &[u8], share: &Path) -> Result<(), WriteError> {
    let file = match shell {
        Shell::Zsh => format!("zsh/site-functions/_{program}"),
        Shell::Fish => format!("fish/vendor_completions.d/{program}.fish"),
        _ => format!("bash-completion/completions/{program}"),
    };
    write(&share.join(file), script)
}

fn write(path: &Path, text: &[u8]) -> Result<(), WriteError> {
    let parent = path.parent().map_or(Ok(()), fs::create_dir_all);
    parent.and_then(|()| fs::write(path, text)).map_err(|error| WriteError { path: path.to_owned(), error })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program() -> Command {
        let deep = Command::new("drain").about("Drain a node").after_help("Example:\n  tool node drain h1");
        let hidden = Command::new("secret").hide(true);
        Command::new("tool")
            .about("A tool")
            .subcommand(Command::new("node").subcommand(deep))
            .subcommand(hidden)
    }

    fn files(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn each_command_has_a_page_but_hidden_ones() {
        let share = tempfile::tempdir().unwrap();
        write_pages(program(), Section::Administration, share.path()).unwrap();
        let pages = share.path().join("man/man8");
        assert_eq!(files(&pages), ["tool-node-drain.8", "tool-node.8", "tool.8"]);
        let page = fs::read_to_string(pages.join("tool-node-drain.8")).unwrap();
        assert!(page.contains(".TH tool-node-drain 8") && page.contains("tool node drain h1"), "{page}");
    }

    #[test]
    fn completions_are_where_shells_look() {
        let share = tempfile::tempdir().unwrap();
        write_completions(program(), share.path()).unwrap();
        for file in [
            "bash-completion/completions/tool",
            "zsh/site-functions/_tool",
            "fish/vendor_completions.d/tool.fish",
        ] {
            let script = fs::read_to_string(share.path().join(file)).unwrap();
            assert!(script.contains("drain"), "{file}: {script}");
        }
    }

    #[test]
    fn an_error_names_the_file() {
        let share = tempfile::tempdir().unwrap();
        fs::write(share.path().join("man"), "a file").unwrap();
        let error = write_pages(program(), Section::User, share.path()).unwrap_err().to_string();
        assert!(error.contains("man/man1/tool.1: "), "{error}");
    }
}
