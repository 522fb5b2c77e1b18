//! What the demo says on the terminal: numbered steps, commands as a user would type them, and what came of them.

use std::{
    cell::Cell,
    io::{self, BufRead, IsTerminal, Write},
};

const INDENT: &str = "    ";
/// What a command wrote stands a little further in.
const OUTPUT: &str = "      ";
const BOLD: &str = "1";
const DIM: &str = "2";
const GREEN: &str = "32";
const CYAN: &str = "36";

/// The terminal, or whatever standard output is.
#[derive(Debug)]
pub(super) struct Show {
    terminal: bool,
    colours: bool,
    wait: bool,
    steps: Cell<u32>,
}

impl Show {
    /// With `wait`, each step waits for Enter.
    pub(super) fn new(wait: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { terminal, colours: terminal && wanted, wait, steps: Cell::new(0) }
    }

    /// The demo's first lines.
    pub(super) fn title(&self, title: &str, about: &str) {
        println!("{}", self.painted(BOLD, title));
        println!("{about}");
    }

    /// Begins a step: what happens, and why that matters.
    pub(super) fn step(&self, title: &str, why: &str) {
        if self.wait {
            self.wait_for_enter();
        }
        let number = self.steps.get() + 1;
        self.steps.set(number);
        println!("\n{}", self.painted(BOLD, &format!("{number:>2}  {title}")));
        for line in why.lines() {
            println!("{INDENT}{}", self.painted(DIM, line));
        }
    }

    /// A command, as one types it on `host`; on the operator's machine where that is empty.
    pub(super) fn command(&self, host: &str, command: &str) {
        let prompt = if host.is_empty() { "$".to_owned() } else { format!("{host} $") };
        println!("{INDENT}{} {}", self.painted(DIM, &prompt), self.painted(CYAN, command));
    }

    /// What a command wrote, or what was seen.
    pub(super) fn text(&self, text: &str) {
        for line in text.trim_end().lines() {
            println!("{}", format!("{OUTPUT}{line}").trim_end());
        }
    }

    /// What a step came to.
    pub(super) fn outcome(&self, text: &str) {
        println!("{INDENT}{}", self.painted(GREEN, text));
    }

    /// How far a wait is; gone with [`Show::waited`]. Only for a terminal.
    pub(super) fn waiting(&self, what: &str) {
        if self.terminal {
            print!("\r{INDENT}{}\x1b[K", self.painted(DIM, &format!("… {what}")));
            let _ = io::stdout().flush();
        }
    }

    /// The wait is over.
    pub(super) fn waited(&self) {
        if self.terminal {
            print!("\r\x1b[K");
            let _ = io::stdout().flush();
        }
    }

    fn wait_for_enter(&self) {
        print!("\n{}", self.painted(DIM, "Enter goes on "));
        let _ = io::stdout().flush();
        // At the end of standard input the demo goes on by itself.
        let _ = io::stdin().lock().read_line(&mut String::new());
        if self.terminal {
            print!("\x1b[1A\r\x1b[K\x1b[1A");
        }
    }

    fn painted(&self, colour: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Columns as wide as their widest cell, two spaces apart; each row a line. `right` says which are numbers.
pub(crate) fn columns(rows: &[Vec<String>], right: impl Fn(usize) -> bool) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell: &String| cell.chars().count()).max()
    };
    let widths: Vec<_> = (0..count).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().enumerate().map(|(column, cell)| match right(column) {
            true => format!("{cell:>0$}", widths[column]),
            false => format!("{cell:<0$}", widths[column]),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows = [row(["from", "h1/a", "h2"]), row(["h1/a", "·", "0.04"])];
        assert_eq!(columns(&rows, |column| column > 0), "from  h1/a    h2\nh1/a     ·  0.04");
    }
}
