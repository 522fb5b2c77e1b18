//! Whether a stream can be written, and whether anyone reads it.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

/// Whether standard output can still have a reader: not if it is a pipe or socket whose other end is closed.
pub fn stdout_has_reader() -> bool {
    has_reader(io::stdout().as_fd())
}

pub(crate) fn has_reader(stream: BorrowedFd<'_>) -> bool {
    let gone = PollFlags::POLLERR | PollFlags::POLLHUP;
    !conditions(stream, PollFlags::empty(), Duration::ZERO).is_ok_and(|found| found.intersects(gone))
}

/// Whether a write to `stream` returns at once, possibly with an error. Waits for it up to `patience`.
pub(crate) fn accepts_writes(stream: BorrowedFd<'_>, patience: Duration) -> bool {
    match conditions(stream, PollFlags::POLLOUT, patience) {
        Ok(found) => !found.is_empty(),
        // A signal ended the wait.
        Err(Errno::EINTR) => false,
        // Not a stream that can be polled: it never blocks.
        Err(_) => true,
    }
}

fn conditions(stream: BorrowedFd<'_>, wanted: PollFlags, wait: Duration) -> Result<PollFlags, Errno> {
    let mut polled = [PollFd::new(stream, wanted)];
    poll(&mut polled, PollTimeout::try_from(wait).unwrap_or(PollTimeout::ZERO))?;
    Ok(polled[0].revents().unwrap_or(PollFlags::empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs::File, io::Write, os::unix::net::UnixStream};

    #[test]
    fn a_closed_pipe_or_socket_has_no_reader() {
        let (reader, pipe) = io::pipe().unwrap();
        let (peer, socket) = UnixStream::pair().unwrap();
        assert!(has_reader(pipe.as_fd()) && has_reader(socket.as_fd()));
        drop((reader, peer));
        assert!(!has_reader(pipe.as_fd()) && !has_reader(socket.as_fd()));
        let file = File::options().write(true).open("/dev/null").unwrap();
        assert!(has_reader(file.as_fd()), "a file needs none");
    }

    #[test]
    fn a_full_pipe_accepts_no_writes_until_it_is_closed() {
        let (reader, mut pipe) = io::pipe().unwrap();
        while accepts_writes(pipe.as_fd(), Duration::ZERO) {
            pipe.write_all(&[b'x'; 4096]).unwrap();
        }
        drop(reader);
        assert!(accepts_writes(pipe.as_fd(), Duration::ZERO), "the write fails at once");
    }
}
