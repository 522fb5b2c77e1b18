//! Answers without node ids and epochs, for viewers: over plain text these two prove who an agent is, so that only people who may
//! act see them.
//!
//! The messages of an answer are rewritten by their descriptors, in whatever field they have such a value: a new field, message or
//! call needs nothing here. Texts lose what looks like a node id.

use std::{
    borrow::Cow,
    collections::HashMap,
    pin::Pin,
    sync::LazyLock,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body::Frame;
use prost::{
    DecodeError, Message,
    encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint, skip_field},
};
use prost_types::{FileDescriptorSet, field_descriptor_proto::Type};
use sextant_proto::v1;
use tonic::{
    Status,
    body::Body,
    codegen::http::{HeaderMap, HeaderValue, Response},
};

/// The octets before each message of a gRPC stream: a flag, and the length.
const HEADER: usize = 5;
/// Stands for a value in a text.
const HIDDEN: &str = "(hidden)";
/// The hexadecimal digits of a node id.
const DIGITS: usize = 32;
const GRPC_MESSAGE: &str = "grpc-message";

/// The fields of a message that are not merely copied, by number.
type Fields = HashMap<u32, Field>;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Field {
    /// Not for viewers.
    Secret,
    Text,
    Message(String),
}

#[derive(Debug, Default)]
struct Descriptors {
    messages: HashMap<String, Fields>,
    /// The message of each call's answer, by path.
    answers: HashMap<String, String>,
}

static DESCRIPTORS: LazyLock<Descriptors> = LazyLock::new(|| {
    // The set is part of this build.
    FileDescriptorSet::decode(v1::DESCRIPTORS).map(|set| Descriptors::of(&set)).unwrap_or_default()
});

/// Whether only people who may act see the field `name` of `message`, which is of the type `of`.
fn is_secret(message: &str, name: &str, of: &str) -> bool {
    let revision_of_an_epoch =
        name == "claimed" && [".sextant.v1.Peer", ".sextant.v1.PeerClaim"].contains(&message);
    name == "node_id" || of == ".sextant.v1.Epoch" || revision_of_an_epoch
}

impl Descriptors {
    fn of(set: &FileDescriptorSet) -> Self {
        let mut all = Self::default();
        for file in &set.file {
            let package = file.package();
            for message in &file.message_type {
                all.message(&format!(".{package}.{}", message.name()), message);
            }
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{package}.{}/{}", service.name(), method.name());
                    all.answers.insert(path, method.output_type().to_owned());
                }
            }
        }
        all
    }

    fn message(&mut self, name: &str, message: &prost_types::DescriptorProto) {
        let field = |field: &prost_types::FieldDescriptorProto| {
            let number = u32::try_from(field.number()).ok()?;
            let kind = match field.r#type() {
                _ if is_secret(name, field.name(), field.type_name()) => Field::Secret,
                Type::String => Field::Text,
                Type::Message => Field::Message(field.type_name().to_owned()),
                _ => return None,
            };
            Some((number, kind))
        };
        self.messages.insert(name.to_owned(), message.field.iter().filter_map(field).collect());
        for nested in &message.nested_type {
            self.message(&format!("{name}.{}", nested.name()), nested);
        }
    }

    /// The message `name` without what is not for viewers.
    fn conceal(&self, name: &str, mut message: &[u8], out: &mut Vec<u8>) -> Result<(), DecodeError> {
        let fields = self.messages.get(name);
        while message.has_remaining() {
            let (number, wire) = decode_key(&mut message)?;
            let field = fields.and_then(|fields| fields.get(&number));
            if wire != WireType::LengthDelimited {
                let mut rest = message;
                skip_field(wire, number, &mut rest, prost::encoding::DecodeContext::default())?;
                let value = message.get(..message.len() - rest.len()).unwrap_or_default();
                if field != Some(&Field::Secret) {
                    encode_key(number, wire, out);
                    out.put_slice(value);
                }
                message = rest;
                continue;
            }
            let length = usize::try_from(decode_varint(&mut message)?).unwrap_or(usize::MAX);
            let Some((value, rest)) = message.split_at_checked(length) else {
                // Only a message that is cut off; decoding it tells the error.
                let mut cut = message;
                skip_field(WireType::SixtyFourBit, number, &mut cut, Default::default())?;
                return Ok(());
            };
            message = rest;
            let value = match field {
                Some(Field::Secret) => continue,
                Some(Field::Text) => text(value),
                Some(Field::Message(inner)) => {
                    let mut concealed = Vec::with_capacity(value.len());
                    self.conceal(inner, value, &mut concealed)?;
                    Cow::Owned(concealed)
                }
                None => Cow::Borrowed(value),
            };
            encode_key(number, wire, out);
            encode_varint(value.len() as u64, out);
            out.put_slice(&value);
        }
        Ok(())
    }
}

fn text(octets: &[u8]) -> Cow<'_, [u8]> {
    match std::str::from_utf8(octets).map(without_ids) {
        Ok(Cow::Owned(text)) => Cow::Owned(text.into_bytes()),
        _ => Cow::Borrowed(octets),
    }
}

/// The text without node ids, and without epochs (`13@` and the incarnation).
fn without_ids(text: &str) -> Cow<'_, str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '@';
    let is_id = |word: &str| {
        let id = word.rsplit_once('@').map_or(word, |(_, id)| id);
        id.len() == DIGITS && id.bytes().all(|it| it.is_ascii_hexdigit())
    };
    if !text.split(|c| !is_part(c)).any(is_id) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for part in text.split_inclusive(|c| !is_part(c)) {
        let word = part.trim_end_matches(|c| !is_part(c));
        shown.push_str(if is_id(word) { HIDDEN } else { word });
        shown.push_str(&part[word.len()..]);
    }
    Cow::Owned(shown)
}

/// The message of the answer to the call at this path.
pub(super) fn answer_of(path: &str) -> Option<&'static str> {
    DESCRIPTORS.answers.get(path).map(String::as_str)
}

/// The response, whose messages are of the type `message`, for a viewer.
pub(super) fn response(mut response: Response<Body>, message: &'static str) -> Response<Body> {
    conceal_error(response.headers_mut());
    response.map(|inner| Body::new(Concealed { inner, message, received: BytesMut::new() }))
}

fn conceal_error(headers: &mut HeaderMap) {
    let Some(value) = headers.get_mut(GRPC_MESSAGE) else { return };
    if let Ok(Cow::Owned(text)) = value.to_str().map(without_ids)
        && let Ok(concealed) = HeaderValue::from_str(&text)
    {
        *value = concealed;
    }
}

/// The body of a response.
struct Concealed {
    inner: Body,
    message: &'static str,
    /// The part of a message that has arrived.
    received: BytesMut,
}

impl Concealed {
    /// The messages that have arrived completely.
    fn complete(&mut self) -> Result<Bytes, Status> {
        let mut out = Vec::new();
        while let Some(header) = self.received.first_chunk::<HEADER>() {
            let [flag, length @ ..] = *header;
            let length = u32::from_be_bytes(length) as usize;
            if self.received.len() < HEADER + length {
                break;
            }
            let message = self.received.split_to(HEADER + length);
            let mut concealed = Vec::with_capacity(length);
            let done = match flag {
                0 => DESCRIPTORS.conceal(self.message, &message[HEADER..], &mut concealed),
                _ => return Err(Status::internal("a compressed answer cannot be checked")),
            };
            done.map_err(|error| Status::internal(error.to_string()))?;
            out.put_u8(0);
            out.put_u32(u32::try_from(concealed.len()).unwrap_or(u32::MAX));
            out.put_slice(&concealed);
        }
        Ok(out.into())
    }
}

impl http_body::Body for Concealed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            let frame = match ready!(Pin::new(&mut self.inner).poll_frame(context)) {
                None => return Poll::Ready(None),
                Some(Err(status)) => return Poll::Ready(Some(Err(status))),
                Some(Ok(frame)) => frame,
            };
            match frame.into_data() {
                Ok(data) => {
                    self.received.extend_from_slice(&data);
                    let complete = self.complete()?;
                    if !complete.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(complete))));
                    }
                }
                Err(frame) => {
                    let frame = frame.into_trailers().map(|mut trailers| {
                        conceal_error(&mut trailers);
                        Frame::trailers(trailers)
                    });
                    return Poll::Ready(Some(Ok(frame.unwrap_or_else(|frame| frame))));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }
}

#[cfg(test)]
mod tests;
