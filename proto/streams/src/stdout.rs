//! What a command prints.

use std::{
    fmt::Display,
    io::{self, ErrorKind, Write},
};

/// Writes octets to standard output as they are. A reader that has gone, as `head` does, is not an error.
///
/// # Errors
/// If they cannot be written for another reason, such as a full disk.
pub fn write_stdout(octets: &[u8]) -> io::Result<()> {
    write(&mut io::stdout().lock(), octets)
}

fn write(out: &mut impl Write, octets: &[u8]) -> io::Result<()> {
    match out.write_all(octets).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Prints the lines of a command that makes changes: a line that cannot be printed does not end the work.
#[derive(Debug)]
pub struct Printer<W = io::Stdout> {
    out: W,
    failed: io::Result<()>,
}

impl Printer {
    /// Prints to standard output.
    pub fn stdout() -> Self {
        Self::to(io::stdout())
    }
}

impl<W: Write> Printer<W> {
    /// Prints to `out`.
    pub fn to(out: W) -> Self {
        Self { out, failed: Ok(()) }
    }

    /// Prints a line. After a failure, nothing is printed.
    pub fn line(&mut self, line: impl Display) {
        if self.failed.is_ok() {
            self.failed = write(&mut self.out, format!("{line}\n").as_bytes());
        }
    }

    /// Call it at the end of the work.
    ///
    /// # Errors
    /// The first failure; not if the reader has gone.
    pub fn finish(self) -> io::Result<()> {
        self.failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_has_gone_is_no_failure() {
        let (reader, pipe) = io::pipe().unwrap();
        drop(reader);
        let mut printer = Printer::to(pipe);
        printer.line("one");
        printer.line("two");
        assert!(printer.finish().is_ok());
    }

    #[test]
    fn a_full_disk_is_a_failure_at_the_end() {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let mut printer = Printer::to(full);
        printer.line("one");
        printer.line("two");
        assert_eq!(printer.finish().unwrap_err().kind(), ErrorKind::StorageFull);
    }

    #[test]
    fn lines_are_printed_in_order() {
        let mut out = Vec::new();
        let mut printer = Printer::to(&mut out);
        printer.line("one");
        printer.line(2);
        printer.finish().unwrap();
        assert_eq!(out, b"one\n2\n");
    }
}
