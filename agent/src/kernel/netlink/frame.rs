//! The frames of a netlink datagram: headers, acknowledgements, attributes.
//!
//! Parsed here and not by a library, so that an unused attribute never makes a message unreadable, and because no library
//! parses the text of extended acknowledgements.

use std::net::Ipv6Addr;

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage};
use netlink_packet_route::RouteNetlinkMessage;

use super::super::Errno;

/// NLMSG_ERROR: an acknowledgement, or an error.
pub const NLMSG_ERROR: u16 = 2;
/// NLMSG_DONE: the end of a dump.
pub const NLMSG_DONE: u16 = 3;
/// The dump is inconsistent: the dumped objects changed meanwhile.
pub const NLM_F_DUMP_INTR: u16 = 0x10;
/// The acknowledgement does not repeat the request's payload.
const NLM_F_CAPPED: u16 = 0x100;
/// The acknowledgement carries attributes.
const NLM_F_ACK_TLVS: u16 = 0x200;
/// The attribute with the kernel's text.
const NLMSGERR_ATTR_MSG: u16 = 1;
const HEADER_LEN: usize = 16;
/// The bits of an attribute's type without its flags.
const NLA_TYPE_MASK: u16 = 0x3fff;

/// An invalid netlink message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed message: {0}")]
pub struct Malformed(pub String);

/// One message of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// nlmsg_type.
    pub kind: u16,
    /// nlmsg_flags.
    pub flags: u16,
    /// nlmsg_seq: the sequence number of the request.
    pub sequence: u32,
    /// nlmsg_pid: the port of the request's sender; 0 is the kernel itself.
    pub port: u32,
    /// The bytes after the header.
    pub payload: &'a [u8],
}

/// The frames of a datagram; ends after the first malformed one.
pub fn frames(datagram: &[u8]) -> impl Iterator<Item = Result<Frame<'_>, Malformed>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let taken = take_frame(rest);
        rest = taken.as_ref().map_or(&[], |(_, rest)| rest);
        Some(taken.map(|(frame, _)| frame))
    })
}

fn take_frame(bytes: &[u8]) -> Result<(Frame<'_>, &[u8]), Malformed> {
    let short = || Malformed(format!("{} octets of a message", bytes.len()));
    let (head, _) = bytes.split_first_chunk::<HEADER_LEN>().ok_or_else(short)?;
    let [l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, p0, p1, p2, p3] = *head;
    let len = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
    let frame = Frame {
        kind: u16::from_ne_bytes([k0, k1]),
        flags: u16::from_ne_bytes([f0, f1]),
        sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
        port: u32::from_ne_bytes([p0, p1, p2, p3]),
        payload: bytes.get(HEADER_LEN..len).ok_or_else(short)?,
    };
    Ok((frame, bytes.get(padded(len)..).unwrap_or(&[])))
}

impl Frame<'_> {
    /// The result in an NLMSG_ERROR or NLMSG_DONE: `Ok` for an acknowledgement or a complete dump.
    ///
    /// # Errors
    /// The outer one if the frame is too short.
    pub fn result(&self) -> Result<Result<(), Errno>, Malformed> {
        let code = match self.payload.first_chunk::<4>() {
            Some(code) => i32::from_ne_bytes(*code),
            // The kernel may end a dump with an empty NLMSG_DONE.
            None if self.kind == NLMSG_DONE => 0,
            None => return Err(Malformed(format!("{} octets of an error", self.payload.len()))),
        };
        Ok(match code {
            0 => Ok(()),
            code => Err(Errno { code: code.saturating_abs(), detail: self.extended_text() }),
        })
    }

    /// The kernel's text (NLMSGERR_ATTR_MSG); may be empty.
    fn extended_text(&self) -> String {
        if self.flags & NLM_F_ACK_TLVS == 0 {
            return String::new();
        }
        message_attribute(self.payload.get(self.attributes_start()..).unwrap_or(&[]))
    }

    /// The offset of the attributes: after the code, and in an error also after the repeated part of the request.
    fn attributes_start(&self) -> usize {
        let repeated = match self.payload.get(4..8) {
            _ if self.kind == NLMSG_DONE => 0,
            Some(_) if self.flags & NLM_F_CAPPED != 0 => HEADER_LEN,
            Some(len) => u32_of(len).map_or(HEADER_LEN, |len| len.next_multiple_of(4) as usize),
            None => 0,
        };
        4 + repeated
    }
}

/// The kernel's explanation of an error, from what follows the code on a socket with capped and extended acknowledgements:
/// the header of the request, then attributes. Empty if there is none.
pub fn explanation(after_code: &[u8]) -> String {
    message_attribute(after_code.get(HEADER_LEN..).unwrap_or(&[]))
}

/// The value of NLMSGERR_ATTR_MSG; empty if it is missing.
fn message_attribute(attributes: &[u8]) -> String {
    let text = attribute_values(attributes).find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG);
    text.map(|(_, text)| String::from_utf8_lossy(until_nul(text)).into_owned()).unwrap_or_default()
}

/// Appends a request to a buffer of messages.
pub fn append_request(message: RouteNetlinkMessage, flags: u16, sequence: u32, buffer: &mut Vec<u8>) {
    let mut message = NetlinkMessage::from(message);
    message.header.flags = NLM_F_REQUEST | flags;
    message.header.sequence_number = sequence;
    message.finalize();
    let start = buffer.len();
    buffer.resize(start + padded(message.buffer_len()), 0);
    message.serialize(&mut buffer[start..]);
}

/// A message that is being appended to a buffer of messages.
pub struct Message<'a> {
    /// The buffer; the payload is appended to it.
    pub buffer: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> Message<'a> {
    /// Appends the header.
    pub fn begin(buffer: &'a mut Vec<u8>, kind: u16, flags: u16, sequence: u32) -> Self {
        let start = buffer.len();
        let ([k0, k1], [f0, f1], [s0, s1, s2, s3]) =
            (kind.to_ne_bytes(), flags.to_ne_bytes(), sequence.to_ne_bytes());
        buffer.extend_from_slice(&[0, 0, 0, 0, k0, k1, f0, f1, s0, s1, s2, s3, 0, 0, 0, 0]);
        Self { buffer, start }
    }

    /// Writes its length into its header.
    pub fn end(self) {
        let len = (self.buffer.len() - self.start) as u32;
        self.buffer[self.start..self.start + 4].copy_from_slice(&len.to_ne_bytes());
    }
}

/// Requests an acknowledgement if the message succeeds (NLM_F_ACK); a failure is always answered.
pub fn request_acknowledgement(message: &mut [u8]) {
    message[6] |= NLM_F_ACK.to_ne_bytes()[0];
    message[7] |= NLM_F_ACK.to_ne_bytes()[1];
}

/// Appends an attribute; its value is 65,531 bytes long at most.
pub fn push_attribute(kind: u16, value: &[u8], buffer: &mut Vec<u8>) {
    let ([l0, l1], [k0, k1]) = ((4 + value.len() as u16).to_ne_bytes(), kind.to_ne_bytes());
    buffer.extend_from_slice(&[l0, l1, k0, k1]);
    buffer.extend_from_slice(value);
    if !value.len().is_multiple_of(4) {
        buffer.resize(padded(buffer.len()), 0);
    }
}

/// The attributes' types, without their flags (NLA_F_NESTED, NLA_F_NET_BYTEORDER), and values; up to the first malformed
/// one.
pub fn attribute_values(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let [l0, l1, k0, k1] = *rest.first_chunk()?;
        let len = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = rest.get(4..len)?;
        rest = rest.get(padded(len)..).unwrap_or(&[]);
        Some((u16::from_ne_bytes([k0, k1]) & NLA_TYPE_MASK, value))
    })
}

/// A length with the padding after it (NLMSG_ALIGN, NLA_ALIGN).
pub fn padded(len: usize) -> usize {
    (len + 3) & !3
}

/// A number in the host's byte order.
pub fn u32_of(value: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(value.try_into().ok()?))
}

/// An IPv6 address.
pub fn ipv6_of(value: &[u8]) -> Option<Ipv6Addr> {
    Some(Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?))
}

/// A text without the NUL that ends it.
pub fn until_nul(value: &[u8]) -> &[u8] {
    value.split(|octet| *octet == 0).next().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame with the header that the kernel would give it.
    fn message(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&u32::to_ne_bytes(16 + payload.len() as u32));
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&7u32.to_ne_bytes());
        bytes.extend_from_slice(&9u32.to_ne_bytes());
        bytes.extend_from_slice(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn error_payload(code: i32, repeated: &[u8], text: &str) -> Vec<u8> {
        let mut payload = code.to_ne_bytes().to_vec();
        payload.extend_from_slice(repeated);
        payload.extend_from_slice(&u16::to_ne_bytes(4 + text.len() as u16 + 1));
        payload.extend_from_slice(&NLMSGERR_ATTR_MSG.to_ne_bytes());
        payload.extend_from_slice(text.as_bytes());
        payload.push(0);
        payload
    }

    #[test]
    fn attributes_are_padded_and_have_flags() {
        let bytes = [[5, 0, 1, 0, 7, 0, 0, 0], [8, 0, 2, 0x80, 1, 2, 3, 4]].concat();
        let all: Vec<_> = attribute_values(&bytes).collect();
        assert_eq!(all, [(1, [7].as_slice()), (2, &[1, 2, 3, 4])]);
    }

    fn only(bytes: &[u8]) -> Frame<'_> {
        let all: Vec<_> = frames(bytes).collect();
        assert_eq!(all.len(), 1, "{all:?}");
        all.into_iter().next().unwrap().unwrap()
    }

    #[test]
    fn the_text_follows_a_capped_request() {
        let payload = error_payload(-22, &[0; 16], "Invalid gateway");
        let bytes = message(NLMSG_ERROR, NLM_F_CAPPED | NLM_F_ACK_TLVS, &payload);
        let errno = only(&bytes).result().unwrap().unwrap_err();
        assert_eq!((errno.code, errno.detail.as_str()), (22, "Invalid gateway"));
    }

    #[test]
    fn the_text_follows_a_whole_request() {
        let request = message(24, 1, &[1, 2, 3, 4, 5, 6, 7, 8]);
        let bytes = message(NLMSG_ERROR, NLM_F_ACK_TLVS, &error_payload(-17, &request, "there"));
        let errno = only(&bytes).result().unwrap().unwrap_err();
        assert_eq!((errno.code, errno.detail.as_str()), (17, "there"));
    }

    #[test]
    fn the_end_of_a_dump_can_fail_with_a_text() {
        let payload = error_payload(-2, &[], "FIB table does not exist");
        let bytes = message(NLMSG_DONE, NLM_F_ACK_TLVS, &payload);
        let errno = only(&bytes).result().unwrap().unwrap_err();
        assert_eq!(errno.detail, "FIB table does not exist");
        assert_eq!(only(&message(NLMSG_DONE, 0, &[])).result(), Ok(Ok(())));
    }

    #[test]
    fn several_frames_and_a_malformed_end() {
        let mut bytes = message(NLMSG_ERROR, 0, &[0; 20]);
        bytes.extend(message(24, 2, &[1, 2, 3]));
        bytes.extend([200, 0, 0, 0, 1]);
        let all: Vec<_> = frames(&bytes).collect();
        assert_eq!(all.len(), 3, "{all:?}");
        assert_eq!(all[0].as_ref().unwrap().result(), Ok(Ok(())));
        assert_eq!(all[1].as_ref().unwrap().payload, &[1, 2, 3]);
        assert!(all[2].is_err());
    }

    #[test]
    fn an_error_without_a_code_is_malformed() {
        assert!(only(&message(NLMSG_ERROR, 0, &[0, 0])).result().is_err());
    }
}
