//! Changes of links and addresses, through rtnetlink.
//!
//! A separate task drives the socket. A request without an acknowledgement has failed, even if rtnetlink reports success: it
//! does so if the task ends before the kernel has answered.

use std::{
    future::Future,
    io,
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use netlink_packet_core::ErrorMessage;
use netlink_packet_route::{
    RouteNetlinkMessage,
    address::{AddressAttribute, AddressFlags, AddressHeaderFlags},
};
use netlink_sys::{AsyncSocket, TokioSocket};
use nix::libc::EINVAL;
use rtnetlink::{AddressAddRequest, AddressMessageBuilder, Error, Handle, LinkBridge, LinkUnspec};
use sextant_proto::link_name_octets;
use tokio::{sync::watch, task::JoinHandle};

use super::{
    super::{Errno, KernelError},
    conversation::broken,
    frame, options,
};

/// The kernel answers while it processes the request: after this time there will be no answer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

/// The kernel's answer to a request.
pub type Answer = Result<(), Errno>;

/// Changes links and addresses of the network namespace in which it was opened. Its task ends with it.
pub struct Configuration {
    handle: Handle,
    /// Whether the kernel explains its errors.
    explains: bool,
    connection: JoinHandle<()>,
    open: watch::Receiver<()>,
}

impl Configuration {
    /// Opens the socket, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// [`KernelError::Broken`] if no netlink socket can be opened.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn open() -> Result<Self, KernelError> {
        let (connection, handle, explains) = connect().map_err(|error| broken("open the socket", &error))?;
        let (is_open, open) = watch::channel(());
        let connection = tokio::spawn(async move {
            connection.await;
            drop(is_open);
        });
        Ok(Self { handle, explains, connection, open })
    }

    /// Waits until the task has ended, after which every request fails.
    pub fn closed(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut open = self.open.clone();
        async move { while open.changed().await.is_ok() {} }
    }

    /// Creates a bridge that is up. It gets a fixed MAC address: otherwise the kernel uses the lowest MAC address of its ports,
    /// which changes with each container, and invalidates the neighbour entries of the other containers.
    pub async fn create_bridge(&self, name: &str) -> Result<Answer, KernelError> {
        let Some(name) = name_of_library(name) else { return Ok(Err(not_utf8())) };
        let bridge = LinkBridge::new(&name).address(random_mac().to_vec()).build();
        self.answered(self.handle.link().add(bridge).execute()).await
    }

    /// Gives a link another name. Before Linux 6.2, the kernel refuses that while the link is up.
    pub async fn rename_link(&self, index: u32, name: &str) -> Result<Answer, KernelError> {
        let Some(name) = name_of_library(name) else { return Ok(Err(not_utf8())) };
        let link = LinkUnspec::new_with_index(index).name(name).build();
        self.answered(self.handle.link().set(link).execute()).await
    }

    /// Sets a link up.
    pub async fn set_up(&self, index: u32) -> Result<Answer, KernelError> {
        let link = LinkUnspec::new_with_index(index).up().build();
        self.answered(self.handle.link().set(link).execute()).await
    }

    /// Sets a link down.
    pub async fn set_down(&self, index: u32) -> Result<Answer, KernelError> {
        let link = LinkUnspec::new_with_index(index).down().build();
        self.answered(self.handle.link().set(link).execute()).await
    }

    /// Sets a link's MTU.
    pub async fn set_mtu(&self, index: u32, mtu: u32) -> Result<Answer, KernelError> {
        let link = LinkUnspec::new_with_index(index).mtu(mtu).build();
        self.answered(self.handle.link().set(link).execute()).await
    }

    /// Deletes a link.
    pub async fn delete_link(&self, index: u32) -> Result<Answer, KernelError> {
        self.answered(self.handle.link().del(index).execute()).await
    }

    /// Adds an address without duplicate address detection (IFA_F_NODAD).
    pub async fn add_address(&self, index: u32, addr: Ipv6Addr, len: u8) -> Result<Answer, KernelError> {
        self.answered(self.address(index, addr, len).execute()).await
    }

    /// Sets an address again in place: the kernel restores its connected route.
    pub async fn renew_address(&self, index: u32, addr: Ipv6Addr, len: u8) -> Result<Answer, KernelError> {
        self.answered(self.address(index, addr, len).replace().execute()).await
    }

    fn address(&self, index: u32, addr: Ipv6Addr, len: u8) -> AddressAddRequest {
        let mut request = self.handle.address().add(index, IpAddr::V6(addr), len);
        let message = request.message_mut();
        message.header.flags = AddressHeaderFlags::Nodad;
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        request
    }

    /// Removes an address.
    pub async fn remove_address(&self, index: u32, addr: Ipv6Addr, len: u8) -> Result<Answer, KernelError> {
        let address = AddressMessageBuilder::<Ipv6Addr>::new().index(index).address(addr, len).build();
        self.answered(self.handle.address().del(address).execute()).await
    }
}

impl Configuration {
    async fn answered(
        &self,
        request: impl Future<Output = Result<(), Error>>,
    ) -> Result<Answer, KernelError> {
        let answer = answered(request).await?;
        // Without the options the rest of the answer is the request.
        let plain = |errno: Errno| Errno { detail: String::new(), ..errno };
        Ok(if self.explains { answer } else { answer.map_err(plain) })
    }
}

impl Drop for Configuration {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// A link's name for the library, which takes text only.
fn name_of_library(name: &str) -> Option<String> {
    String::from_utf8(link_name_octets(name)).ok()
}

fn not_utf8() -> Errno {
    Errno { code: EINVAL, detail: "only a name in UTF-8 can be given to a link".to_owned() }
}

/// A connection that passes acknowledgements on, with the kernel's explanation of errors if it has any.
fn connect() -> io::Result<(rtnetlink::proto::Connection<RouteNetlinkMessage>, Handle, bool)> {
    let (mut connection, handle, _unsolicited) = rtnetlink::new_connection_with_socket::<TokioSocket>()?;
    connection.set_forward_ack(true);
    let explains = options::explain_errors(connection.socket_mut().socket_mut());
    Ok((connection, handle, explains))
}

/// The kernel's answer to a request. An acknowledgement that is passed on is an error without a code to rtnetlink.
async fn answered(request: impl Future<Output = Result<(), Error>>) -> Result<Answer, KernelError> {
    match tokio::time::timeout(ANSWERED_WITHIN, request).await {
        Ok(Err(Error::NetlinkError(answer))) => Ok(answer_of(&answer)),
        Ok(Err(error)) => Err(KernelError::Broken(error.to_string())),
        Ok(Ok(())) => Err(KernelError::Broken("the connection ended before the kernel answered".to_owned())),
        Err(_) => Err(KernelError::Broken(format!("no answer within {ANSWERED_WITHIN:?}"))),
    }
}

fn answer_of(message: &ErrorMessage) -> Answer {
    match message.code {
        None => Ok(()),
        Some(code) => {
            let detail = frame::explanation(&message.header);
            Err(Errno { code: code.get().saturating_abs(), detail })
        }
    }
}

/// A locally administered unicast address (IEEE 802, the second-lowest bit of the first octet).
fn random_mac() -> [u8; 6] {
    let mut mac: [u8; 6] = rand::random();
    mac[0] = (mac[0] & !1) | 2;
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_unanswered_request_fails() {
        let configuration = Configuration::open().unwrap();
        let closed = configuration.closed();
        configuration.connection.abort();
        closed.await;
        let error = configuration.set_up(4_000_000).await.unwrap_err();
        assert!(matches!(error, KernelError::Broken(_)), "{error}");
    }

    #[tokio::test]
    async fn a_connection_that_ends_during_a_request_is_no_acknowledgement() {
        let done = answered(async { Ok(()) }).await.unwrap_err();
        assert_eq!(done.to_string(), "netlink: the connection ended before the kernel answered");
    }

    #[tokio::test]
    async fn the_kernel_explains_a_refusal() {
        let configuration = Configuration::open().unwrap();
        let refused = configuration.remove_address(4_000_000, Ipv6Addr::LOCALHOST, 64).await.unwrap();
        assert_eq!(refused.unwrap_err().code, nix::libc::ENODEV);
    }
}
