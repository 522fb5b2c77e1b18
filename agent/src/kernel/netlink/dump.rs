//! Dumps: all of something, in as many datagrams as it takes.

use std::time::Duration;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP};
use netlink_packet_route::RouteNetlinkMessage;

use super::{
    super::{Errno, KernelError},
    conversation::broken,
    frame::{Frame, Malformed, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, append_request, frames},
    socket::RouteSocket,
};

/// How often a dump is started at most.
const ATTEMPTS: u32 = 5;
/// The kernel fills the next datagram while the last one is read; who waits that long waits for nothing.
const DATAGRAM_WITHIN: Duration = Duration::from_secs(5);

/// What a dump consists of.
pub struct Item<T> {
    /// The type of its messages.
    pub kind: u16,
    /// Reads one; `None` if it is not wanted.
    pub decode: fn(&[u8]) -> Result<Option<T>, Malformed>,
}

/// Dumps until a dump was not interrupted by changes (NLM_F_DUMP_INTR), a few times.
pub async fn dump<T>(
    socket: &RouteSocket,
    request: &RouteNetlinkMessage,
    item: Item<T>,
) -> Result<Result<Vec<T>, Errno>, KernelError> {
    for sequence in 1..=ATTEMPTS {
        match attempt(socket, request, NLM_F_DUMP, &item, sequence).await? {
            Dumped::Whole(found) => return Ok(Ok(found)),
            Dumped::Refused(errno) => return Ok(Err(errno)),
            Dumped::Interrupted => {}
        }
    }
    Err(KernelError::Broken(format!("a dump was interrupted by changes {ATTEMPTS} times in a row")))
}

/// One thing, which is followed by an acknowledgement.
pub async fn get<T>(
    socket: &RouteSocket,
    request: &RouteNetlinkMessage,
    item: Item<T>,
) -> Result<Result<Option<T>, Errno>, KernelError> {
    match attempt(socket, request, NLM_F_ACK, &item, 1).await? {
        Dumped::Whole(found) => Ok(Ok(found.into_iter().next())),
        Dumped::Refused(errno) => Ok(Err(errno)),
        Dumped::Interrupted => Err(KernelError::Broken("an answer was interrupted".to_owned())),
    }
}

/// How a dump ended.
#[derive(Debug, PartialEq, Eq)]
enum Dumped<T> {
    Whole(Vec<T>),
    Interrupted,
    Refused(Errno),
}

async fn attempt<T>(
    socket: &RouteSocket,
    request: &RouteNetlinkMessage,
    flags: u16,
    item: &Item<T>,
    sequence: u32,
) -> Result<Dumped<T>, KernelError> {
    let mut message = Vec::new();
    append_request(request.clone(), flags, sequence, &mut message);
    (socket.send(&message).await).map_err(|error| broken("ask for a dump", &error))?;
    let (mut reading, mut buffer) = (Reading::new(item, sequence), Vec::new());
    loop {
        tokio::time::timeout(DATAGRAM_WITHIN, socket.receive(&mut buffer))
            .await
            .map_err(|_| KernelError::Broken(format!("a dump stood still for {DATAGRAM_WITHIN:?}")))?
            .map_err(|error| broken("read a dump", &error))?;
        let ended = reading.take(&buffer);
        if let Some(dumped) = ended.map_err(|error| KernelError::Broken(error.to_string()))? {
            return Ok(dumped);
        }
    }
}

/// A dump being read.
struct Reading<'a, T> {
    item: &'a Item<T>,
    sequence: u32,
    found: Vec<T>,
    interrupted: bool,
}

impl<'a, T> Reading<'a, T> {
    fn new(item: &'a Item<T>, sequence: u32) -> Self {
        Self { item, sequence, found: Vec::new(), interrupted: false }
    }

    fn take(&mut self, datagram: &[u8]) -> Result<Option<Dumped<T>>, Malformed> {
        for frame in frames(datagram) {
            let frame = frame?;
            if frame.sequence != self.sequence {
                continue;
            }
            self.interrupted |= frame.flags & NLM_F_DUMP_INTR != 0;
            if frame.kind == NLMSG_DONE || frame.kind == NLMSG_ERROR {
                return self.end(&frame).map(Some);
            }
            if frame.kind == self.item.kind {
                self.found.extend((self.item.decode)(frame.payload)?);
            }
        }
        Ok(None)
    }

    fn end(&mut self, frame: &Frame<'_>) -> Result<Dumped<T>, Malformed> {
        Ok(match frame.verdict()? {
            Err(errno) => Dumped::Refused(errno),
            Ok(()) if self.interrupted => Dumped::Interrupted,
            Ok(()) => Dumped::Whole(std::mem::take(&mut self.found)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ITEM: Item<u8> =
        Item { kind: 24, decode: |payload| Ok(payload.first().copied().filter(|octet| *octet != 0)) };

    fn message(kind: u16, flags: u16, sequence: u32, payload: [u8; 4]) -> Vec<u8> {
        let mut bytes = 20u32.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(payload);
        bytes
    }

    fn dumped(datagrams: &[Vec<u8>]) -> Option<Dumped<u8>> {
        let mut reading = Reading::new(&ITEM, 3);
        datagrams.iter().find_map(|datagram| reading.take(datagram).unwrap())
    }

    #[test]
    fn a_whole_dump_leaves_out_what_is_not_its_own() {
        let first =
            [message(24, 2, 3, [5; 4]), message(25, 2, 3, [6; 4]), message(24, 2, 2, [7; 4])].concat();
        let second = [message(24, 2, 3, [0; 4]), message(24, 2, 3, [8; 4])].concat();
        assert_eq!(dumped(&[first.clone(), second.clone()]), None);
        let done = message(NLMSG_DONE, 2, 3, [0; 4]);
        assert_eq!(dumped(&[first, second, done]), Some(Dumped::Whole(vec![5, 8])));
    }

    #[test]
    fn an_interruption_anywhere_spoils_it() {
        let done = message(NLMSG_DONE, 2, 3, [0; 4]);
        let spoilt = message(24, 2 | NLM_F_DUMP_INTR, 3, [5; 4]);
        assert_eq!(dumped(&[spoilt, done]), Some(Dumped::Interrupted));
        let spoilt = message(NLMSG_DONE, 2 | NLM_F_DUMP_INTR, 3, [0; 4]);
        assert_eq!(dumped(&[message(24, 2, 3, [5; 4]), spoilt]), Some(Dumped::Interrupted));
    }

    #[test]
    fn a_refusal_comes_as_an_error_or_as_the_end() {
        for kind in [NLMSG_ERROR, NLMSG_DONE] {
            let refused = dumped(&[message(kind, 0, 3, (-2i32).to_ne_bytes())]);
            assert!(matches!(refused, Some(Dumped::Refused(Errno { code: 2, .. }))), "{refused:?}");
        }
    }
}
