//! The kernel's notifications of changed rules of nf_tables.
//!
//! One task for each subscription: it waits for datagrams. It ends when all receivers are dropped, or when the socket fails: then
//! the receivers' channel ends.

use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;
use tokio::sync::watch;

use super::{
    super::KernelError,
    conversation::broken,
    filter,
    socket::{KernelSocket, is_overrun},
};

/// The multicast group of nf_tables (include/uapi/linux/netfilter/nfnetlink.h).
const NFNLGRP_NFTABLES: u32 = 7;
/// The last notification of each transaction: NFNL_SUBSYS_NFTABLES and NFT_MSG_NEWGEN (include/uapi/linux/netfilter/nf_tables.h).
const NEW_GENERATION: u16 = 10 << 8 | 15;
/// Size of the receive buffer, in bytes. A lost notification says as much as a received one.
const BUFFER: usize = 64 << 10;

/// Subscribes to the number of changes.
pub fn subscribe() -> Result<watch::Receiver<u64>, KernelError> {
    let socket = KernelSocket::open_of(NETLINK_NETFILTER, &[NFNLGRP_NFTABLES], BUFFER)
        .and_then(|socket| socket.attach_filter(&filter::only(NEW_GENERATION)).map(|()| socket))
        .map_err(|error| broken("subscribe to changes of nf_tables", &error))?;
    let (changes, receiver) = watch::channel(0);
    tokio::spawn(listen(socket, changes));
    Ok(receiver)
}

async fn listen(socket: KernelSocket, changes: watch::Sender<u64>) {
    let mut buffer = Vec::new();
    loop {
        let received: io::Result<()> = tokio::select! {
            () = changes.closed() => return,
            received = socket.receive(&mut buffer) => received,
        };
        match received {
            Err(error) if !is_overrun(&error) => {
                tracing::error!(%error, "notifications of nf_tables failed");
                return;
            }
            _ => changes.send_modify(|count| *count += 1),
        }
    }
}
