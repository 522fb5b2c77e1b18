//! Log lines of a daemon.

use std::{
    io::{self, Write},
    os::fd::AsFd,
    time::Duration,
};

use crate::readers::accepts_writes;

/// How long a line waits for a reader that is slow. While lines are lost, none waits.
const PATIENCE: Duration = Duration::from_millis(100);
/// A pipe that accepts writes takes at least this many octets without blocking (`PIPE_BUF`).
const PIECE: usize = 4096;

/// Writes log lines, and loses those that nobody reads: a reader that has gone or has stopped ends and delays nothing.
#[derive(Debug)]
pub struct LogSink<W = io::Stderr> {
    out: W,
    /// The number of lines that were lost since the last written one.
    lost: u64,
    note: fn(u64) -> String,
}

impl LogSink {
    /// Writes to standard error. `note` makes the line about the number of lost lines.
    pub fn stderr(note: fn(u64) -> String) -> Self {
        Self::to(io::stderr(), note)
    }
}

impl<W: Write + AsFd> LogSink<W> {
    /// Writes to `out`.
    pub fn to(out: W, note: fn(u64) -> String) -> Self {
        Self { out, lost: 0, note }
    }

    fn line(&mut self, line: &[u8]) {
        if self.lost > 0 {
            let note = format!("{}\n", (self.note)(self.lost));
            if self.pieces(note.as_bytes()) {
                self.lost = 0;
            }
        }
        if self.lost > 0 || !self.pieces(line) {
            self.lost += 1;
        }
    }

    /// Whether the stream took the text, or refused it for good.
    fn pieces(&mut self, text: &[u8]) -> bool {
        let patience = if self.lost == 0 { PATIENCE } else { Duration::ZERO };
        text.chunks(PIECE).all(|piece| {
            let accepts = accepts_writes(self.out.as_fd(), patience);
            if accepts {
                let _ = self.out.write_all(piece);
            }
            accepts
        })
    }
}

/// Takes one line with each write; never fails.
impl<W: Write + AsFd> Write for LogSink<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.line(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let _ = self.out.flush();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn note(lost: u64) -> String {
        format!("lost {lost}")
    }

    #[test]
    fn a_reader_that_has_gone_is_no_failure() {
        let (reader, pipe) = io::pipe().unwrap();
        drop(reader);
        let mut sink = LogSink::to(pipe, note);
        sink.write_all(b"one\n").unwrap();
        sink.write_all(b"two\n").unwrap();
        assert_eq!(sink.lost, 0, "the lines of a reader that has gone are not counted");
    }

    #[test]
    fn a_full_disk_is_no_failure() {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        LogSink::to(full, note).write_all(b"one\n").unwrap();
    }

    #[test]
    fn a_reader_that_has_stopped_delays_one_line_and_learns_how_many_were_lost() {
        let (mut reader, pipe) = io::pipe().unwrap();
        let mut sink = LogSink::to(pipe, note);
        let line = [[b'x'; 99].as_slice(), b"\n"].concat();
        let began = std::time::Instant::now();
        for _ in 0..5_000 {
            sink.write_all(&line).unwrap();
        }
        assert!(began.elapsed() < 20 * PATIENCE, "{:?}", began.elapsed());
        let lost = sink.lost;
        assert!((4_000..5_000).contains(&lost), "{lost}");
        reader.read_exact(&mut [0; 65_536][..(5_000 - usize::try_from(lost).unwrap()) * 100]).unwrap();
        sink.write_all(b"again\n").unwrap();
        drop(sink);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, format!("lost {lost}\nagain\n"));
    }
}
