//! Dumps: all objects of a kind, in several datagrams.

use std::time::Duration;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP};
use netlink_packet_route::RouteNetlinkMessage;

use super::{
    super::{Errno, KernelError},
    conversation::broken,
    frame::{Frame, Malformed, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, append_request, frames},
    socket::KernelSocket,
};

/// The maximum number of starts of a dump.
const ATTEMPTS: u32 = 5;
/// The kernel fills the next datagram while the last one is read: after this time there will be none.
const DATAGRAM_WITHIN: Duration = Duration::from_secs(5);

/// Receives the messages of a dump.
pub trait Sink: Send {
    /// A dump begins; the messages of an earlier one are void.
    fn begin(&mut self);

    /// The payload of a message of the dump.
    fn take(&mut self, payload: &[u8]) -> Result<(), Malformed>;
}

/// Collects decoded messages.
pub struct Gathered<T> {
    decode: fn(&[u8]) -> Result<Option<T>, Malformed>,
    /// The decoded messages.
    pub found: Vec<T>,
}

impl<T> Gathered<T> {
    /// An empty collection; `decode` reads a message, or returns `None` to ignore it.
    pub fn new(decode: fn(&[u8]) -> Result<Option<T>, Malformed>) -> Self {
        Self { decode, found: Vec::new() }
    }
}

impl<T: Send> Sink for Gathered<T> {
    fn begin(&mut self) {
        self.found.clear();
    }

    fn take(&mut self, payload: &[u8]) -> Result<(), Malformed> {
        self.found.extend((self.decode)(payload)?);
        Ok(())
    }
}

/// Dumps messages of the type `kind`; tries again, a few times, if changes interrupt the dump (NLM_F_DUMP_INTR).
pub async fn dump(
    socket: &KernelSocket,
    request: &RouteNetlinkMessage,
    kind: u16,
    sink: &mut dyn Sink,
) -> Result<Result<(), Errno>, KernelError> {
    for sequence in 1..=ATTEMPTS {
        sink.begin();
        match attempt(socket, request, NLM_F_DUMP, Reading::new(kind, sequence, sink)).await? {
            Dumped::Whole => return Ok(Ok(())),
            Dumped::Refused(errno) => return Ok(Err(errno)),
            Dumped::Interrupted => {}
        }
    }
    Err(KernelError::Broken(format!("dump interrupted by changes {ATTEMPTS} times in a row")))
}

/// Reads one message, which is followed by an acknowledgement.
pub async fn get(
    socket: &KernelSocket,
    request: &RouteNetlinkMessage,
    kind: u16,
    sink: &mut dyn Sink,
) -> Result<Result<(), Errno>, KernelError> {
    match attempt(socket, request, NLM_F_ACK, Reading::new(kind, 1, sink)).await? {
        Dumped::Whole => Ok(Ok(())),
        Dumped::Refused(errno) => Ok(Err(errno)),
        Dumped::Interrupted => Err(KernelError::Broken("answer interrupted by changes".to_owned())),
    }
}

/// The end of a dump.
#[derive(Debug, PartialEq, Eq)]
enum Dumped {
    Whole,
    Interrupted,
    Refused(Errno),
}

async fn attempt(
    socket: &KernelSocket,
    request: &RouteNetlinkMessage,
    flags: u16,
    mut reading: Reading<'_>,
) -> Result<Dumped, KernelError> {
    let mut message = Vec::new();
    append_request(request.clone(), flags, reading.sequence, &mut message);
    (socket.send(&message).await).map_err(|error| broken("request a dump", &error))?;
    let mut buffer = Vec::new();
    loop {
        tokio::time::timeout(DATAGRAM_WITHIN, socket.receive(&mut buffer))
            .await
            .map_err(|_| KernelError::Broken(format!("dump stalled for {DATAGRAM_WITHIN:?}")))?
            .map_err(|error| broken("read a dump", &error))?;
        let ended = reading.take(&buffer);
        if let Some(dumped) = ended.map_err(|error| KernelError::Broken(error.to_string()))? {
            return Ok(dumped);
        }
    }
}

/// A dump being read.
struct Reading<'a> {
    kind: u16,
    sequence: u32,
    sink: &'a mut dyn Sink,
    interrupted: bool,
}

impl<'a> Reading<'a> {
    fn new(kind: u16, sequence: u32, sink: &'a mut dyn Sink) -> Self {
        Self { kind, sequence, sink, interrupted: false }
    }

    fn take(&mut self, datagram: &[u8]) -> Result<Option<Dumped>, Malformed> {
        for frame in frames(datagram) {
            let frame = frame?;
            if frame.sequence != self.sequence {
                continue;
            }
            self.interrupted |= frame.flags & NLM_F_DUMP_INTR != 0;
            if frame.kind == NLMSG_DONE || frame.kind == NLMSG_ERROR {
                return self.end(&frame).map(Some);
            }
            if frame.kind == self.kind {
                self.sink.take(frame.payload)?;
            }
        }
        Ok(None)
    }

    fn end(&mut self, frame: &Frame<'_>) -> Result<Dumped, Malformed> {
        Ok(match frame.result()? {
            Err(errno) => Dumped::Refused(errno),
            Ok(()) if self.interrupted => Dumped::Interrupted,
            Ok(()) => Dumped::Whole,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_octet(payload: &[u8]) -> Result<Option<u8>, Malformed> {
        Ok(payload.first().copied().filter(|octet| *octet != 0))
    }

    fn message(kind: u16, flags: u16, sequence: u32, payload: [u8; 4]) -> Vec<u8> {
        let mut bytes = 20u32.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(payload);
        bytes
    }

    /// The end of a dump of these datagrams, if it ended, and its messages.
    fn dumped(datagrams: &[Vec<u8>]) -> (Option<Dumped>, Vec<u8>) {
        let mut sink = Gathered::new(first_octet);
        let mut reading = Reading::new(24, 3, &mut sink);
        let ended = datagrams.iter().find_map(|datagram| reading.take(datagram).unwrap());
        (ended, sink.found)
    }

    #[test]
    fn messages_of_other_types_and_sequences_are_ignored() {
        let first =
            [message(24, 2, 3, [5; 4]), message(25, 2, 3, [6; 4]), message(24, 2, 2, [7; 4])].concat();
        let second = [message(24, 2, 3, [0; 4]), message(24, 2, 3, [8; 4])].concat();
        assert_eq!(dumped(&[first.clone(), second.clone()]).0, None);
        let done = message(NLMSG_DONE, 2, 3, [0; 4]);
        assert_eq!(dumped(&[first, second, done]), (Some(Dumped::Whole), vec![5, 8]));
    }

    #[test]
    fn an_interruption_anywhere_invalidates_the_dump() {
        let done = message(NLMSG_DONE, 2, 3, [0; 4]);
        let interrupted = message(24, 2 | NLM_F_DUMP_INTR, 3, [5; 4]);
        assert_eq!(dumped(&[interrupted, done]).0, Some(Dumped::Interrupted));
        let interrupted = message(NLMSG_DONE, 2 | NLM_F_DUMP_INTR, 3, [0; 4]);
        assert_eq!(dumped(&[message(24, 2, 3, [5; 4]), interrupted]).0, Some(Dumped::Interrupted));
    }

    #[test]
    fn a_refusal_comes_as_an_error_or_as_the_end() {
        for kind in [NLMSG_ERROR, NLMSG_DONE] {
            let (refused, _) = dumped(&[message(kind, 0, 3, (-2i32).to_ne_bytes())]);
            assert!(matches!(refused, Some(Dumped::Refused(Errno { code: 2, .. }))), "{refused:?}");
        }
    }
}
