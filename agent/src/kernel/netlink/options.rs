//! Options of netlink sockets that a kernel may lack. Nothing depends on them.

use std::{io, sync::Once};

use netlink_sys::Socket;

/// Requests the kernel's text with each error, without a copy of the request (NETLINK_CAP_ACK, Linux 4.3; NETLINK_EXT_ACK, Linux
/// 4.12). Returns whether errors have texts; without them they have only their numbers.
pub fn explain_errors(socket: &mut Socket) -> bool {
    static WITHOUT: Once = Once::new();
    let capped = is_set("NETLINK_CAP_ACK", socket.set_cap_ack(true), &WITHOUT);
    // The texts follow the copy of the request, the length of which not every reader knows.
    capped && is_set("NETLINK_EXT_ACK", socket.set_ext_ack(true), &WITHOUT)
}

/// Has the kernel filter dumps by table and protocol (NETLINK_GET_STRICT_CHK, Linux 4.20). Without it a dump is larger; its reader
/// filters all the same.
pub fn filter_dumps(socket: &mut Socket) {
    static WITHOUT: Once = Once::new();
    is_set("NETLINK_GET_STRICT_CHK", socket.set_netlink_get_strict_chk(true), &WITHOUT);
}

fn is_set(option: &str, set: io::Result<()>, without: &Once) -> bool {
    if let Err(error) = &set {
        without.call_once(
            || tracing::info!(option, %error, "kernel without a netlink option; going on without it"),
        );
    }
    set.is_ok()
}
