//! Passphrases of the root's key: from a file, or typed at the terminal. Never an argument, which all users of the host may read.

use std::{
    fs::File,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
};

use anyhow::Context;
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use sextant_authority::{Passphrase, RootKey};
use sextant_identity::files;

/// The passphrase of a new backup.
pub(super) fn of_new(file: Option<&Path>) -> anyhow::Result<Passphrase> {
    if let Some(file) = file {
        return read(file)?.for_new().with_context(|| format!("{file:?}"));
    }
    let passphrase = typed("passphrase of the backup: ")?.for_new()?;
    anyhow::ensure!(typed("the same again: ")? == passphrase, "the passphrases differ; try again");
    Ok(passphrase)
}

/// The key of the root in this file, with its passphrase if it needs one.
pub(super) fn root_key(path: PathBuf, file: Option<&Path>) -> anyhow::Result<RootKey> {
    let needs = path.exists() && RootKey::is_encrypted(&path)?;
    let passphrase = match file {
        Some(file) => Some(read(file)?),
        None if needs => Some(typed(&format!("passphrase of {}: ", path.display()))?),
        None => None,
    };
    Ok(RootKey { path, passphrase })
}

fn read(file: &Path) -> anyhow::Result<Passphrase> {
    Ok(Passphrase::first_line(&String::from_utf8_lossy(&files::read_secret(file)?)))
}

/// A line that is typed at the terminal of the process, and is not shown there.
fn typed(prompt: &str) -> anyhow::Result<Passphrase> {
    let terminal = terminal().context("no passphrase: there is no terminal; give --passphrase-file FILE")?;
    let silent = Silent::begin(&terminal)?;
    let line = ask(&terminal, prompt);
    drop(silent);
    writeln!(&terminal)?;
    Ok(Passphrase::first_line(&line?))
}

/// The terminal of the process, also where its standard streams are files.
pub(super) fn terminal() -> std::io::Result<File> {
    File::options().read(true).write(true).open("/dev/tty")
}

/// Asks at the terminal; returns the line.
pub(super) fn ask(mut terminal: &File, prompt: &str) -> anyhow::Result<String> {
    terminal.write_all(prompt.as_bytes())?;
    let mut line = String::new();
    BufReader::new(terminal).read_line(&mut line)?;
    Ok(line)
}

/// What is typed is not shown while this lasts.
struct Silent<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Silent<'a> {
    fn begin(terminal: &'a File) -> anyhow::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(terminal, SetArg::TCSAFLUSH, &silent)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Silent<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.terminal, SetArg::TCSAFLUSH, &self.before);
    }
}
