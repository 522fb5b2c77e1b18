//! Many changes in few datagrams, and a result for each change.
//!
//! The kernel processes the messages of a datagram in order, during the send, and queues its answers. Each message that
//! fails is answered by an error with its sequence number, with or without NLM_F_ACK (`netlink_rcv_skb` in
//! net/netlink/af_netlink.c). Only the last message of a datagram requests an acknowledgement. An answer that does not fit
//! into the receive buffer makes the socket fail with ENOBUFS. So once the last message is answered and the socket has not
//! failed, each message without an error has succeeded. Acknowledgements of all messages would add nothing, and take a
//! quarter longer. The answers of a datagram fit into the receive buffer even if all its messages fail.

use std::time::Duration;

use netlink_packet_core::NLM_F_ACK;
use netlink_packet_route::RouteNetlinkMessage;

use super::{
    super::{Change, Errno, KernelError},
    conversation::broken,
    frame::{Malformed, NLMSG_ERROR, append_request, frames, request_acknowledgement},
    route,
    socket::KernelSocket,
};

/// Size of an answer in the receive buffer, in bytes: 832 measured, plus room for the kernel's text.
const ANSWER: usize = 2048;
/// More messages in one datagram are not faster, and block the thread for more than a millisecond.
const MOST_MESSAGES: usize = 256;
/// The size, in bytes, at which a datagram takes no further message. It fits into the default send buffer even if the
/// last message adds its maximum of 64 KiB.
const MOST_BYTES: usize = 64 << 10;
/// The kernel has queued all answers when the send returns: after this time there will be none.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

/// A request, and the flags it needs beside NLM_F_REQUEST and NLM_F_ACK.
pub type Request = (RouteNetlinkMessage, u16);

type Answers = Vec<Option<Result<(), Errno>>>;

/// Applies the changes in order.
pub async fn apply(socket: &KernelSocket, changes: &[Change]) -> Result<Vec<Result<(), Errno>>, KernelError> {
    let most = (socket.room() / ANSWER).clamp(1, MOST_MESSAGES);
    let mut answers: Answers = vec![None; changes.len()];
    let (mut datagram, mut next) = (Vec::new(), 0);
    while next < changes.len() {
        let batch = fill(&changes[next..], next, most, &mut datagram, &mut answers);
        next += batch.taken;
        if let Some(last) = batch.last {
            exchange(socket, &datagram, last, &mut answers).await?;
        }
    }
    // A change without an error has succeeded.
    Ok(answers.into_iter().map(|answer| answer.unwrap_or(Ok(()))).collect())
}

/// The content of a datagram.
struct Batch {
    /// The number of changes.
    taken: usize,
    /// The index of the last encoded change; none if no change could be encoded.
    last: Option<usize>,
}

/// Fills a datagram with at most `most` of `changes`; `first` is the index of the first of them.
fn fill(
    changes: &[Change],
    first: usize,
    most: usize,
    datagram: &mut Vec<u8>,
    answers: &mut Answers,
) -> Batch {
    datagram.clear();
    let (mut taken, mut last, mut last_starts) = (0, None, 0);
    for (index, change) in (first..).zip(changes.iter().take(most)) {
        let starts = datagram.len();
        if starts >= MOST_BYTES {
            break;
        }
        match route::encode(change, sequence(index), datagram) {
            Ok(()) => (last, last_starts) = (Some(index), starts),
            Err(invalid) => answers[index] = Some(Err(invalid)),
        }
        taken += 1;
    }
    if last.is_some() {
        request_acknowledgement(&mut datagram[last_starts..]);
    }
    Batch { taken, last }
}

/// Sends one request, and reads its acknowledgement.
pub async fn request(
    socket: &KernelSocket,
    message: RouteNetlinkMessage,
    flags: u16,
) -> Result<Result<(), Errno>, KernelError> {
    let (mut datagram, mut answers) = (Vec::new(), vec![None]);
    append_request(message, NLM_F_ACK | flags, sequence(0), &mut datagram);
    exchange(socket, &datagram, 0, &mut answers).await?;
    Ok(answers.remove(0).unwrap_or(Ok(())))
}

/// The sequence number of the `index`-th request; 0 is that of notifications.
fn sequence(index: usize) -> u32 {
    index as u32 + 1
}

/// Sends a datagram, and reads answers up to that of the `last` message in it.
async fn exchange(
    socket: &KernelSocket,
    datagram: &[u8],
    last: usize,
    answers: &mut Answers,
) -> Result<(), KernelError> {
    (socket.send(datagram).await).map_err(|error| broken("send changes", &error))?;
    // The kernel processed the datagram on this thread, for about a millisecond.
    tokio::task::yield_now().await;
    tokio::time::timeout(ANSWERED_WITHIN, collect(socket, last, answers))
        .await
        .map_err(|_| KernelError::Broken(format!("no answer within {ANSWERED_WITHIN:?}")))?
}

async fn collect(socket: &KernelSocket, last: usize, answers: &mut Answers) -> Result<(), KernelError> {
    let mut buffer = Vec::new();
    while answers[last].is_none() {
        (socket.receive(&mut buffer).await).map_err(|error| broken("read answers", &error))?;
        record(&buffer, answers).map_err(|error| KernelError::Broken(error.to_string()))?;
    }
    Ok(())
}

/// Assigns the answers in a datagram to their requests.
fn record(datagram: &[u8], answers: &mut Answers) -> Result<(), Malformed> {
    for frame in frames(datagram) {
        let frame = frame?;
        let index = (frame.sequence as usize).wrapping_sub(1);
        if let Some(answer) = answers.get_mut(index).filter(|_| frame.kind == NLMSG_ERROR) {
            *answer = Some(frame.result()?);
        }
    }
    Ok(())
}
