//! The demo's output: numbered steps, commands as an operator types them, and their results.

use std::{
    cell::Cell,
    io::{self, BufRead, IsTerminal, Write},
};

const INDENT: &str = "    ";
/// The indentation of a command's output.
const OUTPUT: &str = "      ";
const BOLD: &str = "1";
const DIM: &str = "2";
const GREEN: &str = "32";
const CYAN: &str = "36";

/// Standard output: a terminal, a pipe or a file.
#[derive(Debug)]
pub(super) struct Terminal {
    is_terminal: bool,
    colours: bool,
    wait: bool,
    steps: Cell<u32>,
}

impl Terminal {
    /// With `wait`, each step waits for Enter.
    pub(super) fn new(wait: bool) -> Self {
        let is_terminal = io::stdout().is_terminal();
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { is_terminal, colours: is_terminal && wanted, wait, steps: Cell::new(0) }
    }

    /// The demo's first lines.
    pub(super) fn title(&self, title: &str, about: &str) {
        println!("{}", self.styled(BOLD, title));
        println!("{about}");
    }

    /// Prints a step's heading and its explanation.
    pub(super) fn step(&self, title: &str, explanation: &str) {
        if self.wait {
            self.wait_for_enter();
        }
        let number = self.steps.get() + 1;
        self.steps.set(number);
        println!("\n{}", self.styled(BOLD, &format!("{number:>2}  {title}")));
        for line in explanation.lines() {
            println!("{INDENT}{}", self.styled(DIM, line));
        }
    }

    /// Prints a command with the prompt of `host`; of the operator's machine if that is empty.
    pub(super) fn command(&self, host: &str, command: &str) {
        let prompt = if host.is_empty() { "$".to_owned() } else { format!("{host} $") };
        println!("{INDENT}{} {}", self.styled(DIM, &prompt), self.styled(CYAN, command));
    }

    /// Prints output of a command, or an observation.
    pub(super) fn text(&self, text: &str) {
        for line in text.trim_end().lines() {
            println!("{}", format!("{OUTPUT}{line}").trim_end());
        }
    }

    /// Prints a step's result.
    pub(super) fn outcome(&self, text: &str) {
        println!("{INDENT}{}", self.styled(GREEN, text));
    }

    /// Shows progress until [`Terminal::clear_progress`]; on a terminal only.
    pub(super) fn progress(&self, text: &str) {
        if self.is_terminal {
            print!("\r{INDENT}{}\x1b[K", self.styled(DIM, &format!("… {text}")));
            let _ = io::stdout().flush();
        }
    }

    /// Removes the progress line.
    pub(super) fn clear_progress(&self) {
        if self.is_terminal {
            print!("\r\x1b[K");
            let _ = io::stdout().flush();
        }
    }

    fn wait_for_enter(&self) {
        print!("\n{}", self.styled(DIM, "Press Enter to continue "));
        let _ = io::stdout().flush();
        // At the end of standard input the demo continues without waiting.
        let _ = io::stdin().lock().read_line(&mut String::new());
        if self.is_terminal {
            print!("\x1b[1A\r\x1b[K\x1b[1A");
        }
    }

    fn styled(&self, colour: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Formats rows as aligned columns, two spaces apart. `right` selects the columns that are aligned to the right.
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
