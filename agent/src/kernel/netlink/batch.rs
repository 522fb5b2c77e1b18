//! Many changes in few datagrams, and an answer for each change.
//!
//! The kernel does what a datagram asks for while it is being sent, in order, and queues its answers. It answers each
//! message that fails with an error of its sequence number, asked or not, and the last one of each datagram with an
//! acknowledgement if it succeeds (`netlink_rcv_skb` in net/netlink/af_netlink.c). An answer that does not fit into the
//! receive buffer makes the socket fail with ENOBUFS. So when the last message is answered and the socket has not failed,
//! every other message has been done that has no error: an acknowledgement for each would say no more, and take a quarter
//! longer. A datagram holds as many messages as answers fit, should all of them fail.

use std::time::Duration;

use netlink_packet_core::NLM_F_ACK;
use netlink_packet_route::RouteNetlinkMessage;

use super::{
    super::{Change, Errno, KernelError},
    conversation::broken,
    frame::{Malformed, NLMSG_ERROR, append_request, ask_for_acknowledgement, frames},
    route,
    socket::RouteSocket,
};

/// What an answer takes of the receive buffer, in bytes; measured 832, and some for the kernel's words.
const ANSWER: usize = 2048;
/// More messages in one datagram make it no faster, and hold up the thread for a millisecond.
const MOST_MESSAGES: usize = 256;
/// A datagram of this size fits into the default send buffer, whatever the last message adds (64 KiB at most).
const MOST_BYTES: usize = 64 << 10;
/// The answers are there when the datagram has been sent; who waits that long waits for nothing.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

/// A request, and the flags it needs beside NLM_F_REQUEST and NLM_F_ACK.
pub type Request = (RouteNetlinkMessage, u16);

type Answers = Vec<Option<Result<(), Errno>>>;

/// Does the changes in their order.
pub async fn apply(socket: &RouteSocket, changes: &[Change]) -> Result<Vec<Result<(), Errno>>, KernelError> {
    let most = (socket.room() / ANSWER).clamp(1, MOST_MESSAGES);
    let mut answers: Answers = vec![None; changes.len()];
    let (mut datagram, mut next) = (Vec::with_capacity(MOST_BYTES * 2), 0);
    while next < changes.len() {
        let batch = fill(&changes[next..], next, most, &mut datagram, &mut answers);
        next += batch.taken;
        if let Some(last) = batch.last {
            exchange(socket, &datagram, last, &mut answers).await?;
        }
    }
    // What has no error has been done.
    Ok(answers.into_iter().map(|answer| answer.unwrap_or(Ok(()))).collect())
}

/// What went into a datagram.
struct Batch {
    /// How many changes.
    taken: usize,
    /// The index of the last one that is asked for; none if all were refused before.
    last: Option<usize>,
}

/// Fills a datagram with at most `most` of `changes`, the first of which is the `first` of all.
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
            Err(refused) => answers[index] = Some(Err(refused)),
        }
        taken += 1;
    }
    if last.is_some() {
        ask_for_acknowledgement(&mut datagram[last_starts..]);
    }
    Batch { taken, last }
}

/// Makes one request that is answered by an acknowledgement.
pub async fn request(
    socket: &RouteSocket,
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
    socket: &RouteSocket,
    datagram: &[u8],
    last: usize,
    answers: &mut Answers,
) -> Result<(), KernelError> {
    (socket.send(datagram).await).map_err(|error| broken("send changes", &error))?;
    // The send did the kernel's work on this thread, for about a millisecond.
    tokio::task::yield_now().await;
    tokio::time::timeout(ANSWERED_WITHIN, collect(socket, last, answers))
        .await
        .map_err(|_| KernelError::Broken(format!("no answer within {ANSWERED_WITHIN:?}")))?
}

async fn collect(socket: &RouteSocket, last: usize, answers: &mut Answers) -> Result<(), KernelError> {
    let mut buffer = Vec::new();
    while answers[last].is_none() {
        (socket.receive(&mut buffer).await).map_err(|error| broken("read answers", &error))?;
        note(&buffer, answers).map_err(|error| KernelError::Broken(error.to_string()))?;
    }
    Ok(())
}

/// Puts the answers in a datagram to their requests.
fn note(datagram: &[u8], answers: &mut Answers) -> Result<(), Malformed> {
    for frame in frames(datagram) {
        let frame = frame?;
        let index = (frame.sequence as usize).wrapping_sub(1);
        if let Some(answer) = answers.get_mut(index).filter(|_| frame.kind == NLMSG_ERROR) {
            *answer = Some(frame.verdict()?);
        }
    }
    Ok(())
}
