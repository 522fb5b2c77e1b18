use http_body::Body as _;
use prost_types::{DescriptorProto, field_descriptor_proto::Label};

use super::{super::permissions, *};

const ID: [u8; 16] = [0xab; 16];
const DEPTH: usize = 6;

fn hex() -> String {
    "ab".repeat(16)
}

/// All messages by name.
fn messages() -> HashMap<String, DescriptorProto> {
    fn add(all: &mut HashMap<String, DescriptorProto>, name: String, message: &DescriptorProto) {
        for nested in &message.nested_type {
            add(all, format!("{name}.{}", nested.name()), nested);
        }
        all.insert(name, message.clone());
    }
    let mut all = HashMap::new();
    for file in FileDescriptorSet::decode(v1::DESCRIPTORS).unwrap().file {
        for message in &file.message_type {
            add(&mut all, format!(".{}.{}", file.package(), message.name()), message);
        }
    }
    all
}

/// A message with a value in each field: octets are a node id, texts name one and an epoch, numbers are 7.
fn filled(all: &HashMap<String, DescriptorProto>, name: &str, depth: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for field in &all[name].field {
        let number = u32::try_from(field.number()).unwrap();
        let value = match field.r#type() {
            Type::String => format!("node id {}, epoch 7@{}.", hex(), hex()).into_bytes(),
            Type::Bytes => ID.to_vec(),
            Type::Message if depth == 0 => continue,
            Type::Message => filled(all, field.type_name(), depth - 1),
            Type::Double | Type::Fixed64 => {
                encode_key(number, WireType::SixtyFourBit, &mut out);
                out.put_u64_le(7);
                continue;
            }
            Type::Float | Type::Fixed32 => {
                encode_key(number, WireType::ThirtyTwoBit, &mut out);
                out.put_u32_le(7);
                continue;
            }
            _ if field.label() == Label::Repeated => vec![7, 7],
            _ => {
                encode_key(number, WireType::Varint, &mut out);
                encode_varint(7, &mut out);
                continue;
            }
        };
        encode_key(number, WireType::LengthDelimited, &mut out);
        encode_varint(value.len() as u64, &mut out);
        out.extend(value);
    }
    out
}

/// The names of the fields that have a value, as paths.
fn fields(all: &HashMap<String, DescriptorProto>, name: &str, mut message: &[u8], at: &str) -> Vec<String> {
    let mut found = Vec::new();
    while message.has_remaining() {
        let (number, wire) = decode_key(&mut message).unwrap();
        let field = all[name].field.iter().find(|it| it.number().cast_unsigned() == number).unwrap();
        let path = format!("{at}.{}", field.name());
        if wire == WireType::LengthDelimited {
            let length = usize::try_from(decode_varint(&mut message).unwrap()).unwrap();
            let (value, rest) = message.split_at(length);
            if field.r#type() == Type::Message {
                found.extend(fields(all, field.type_name(), value, &path));
            }
            message = rest;
        } else {
            skip_field(wire, number, &mut message, Default::default()).unwrap();
        }
        found.push(path);
    }
    found
}

#[test]
fn no_answer_that_viewers_get_has_a_node_id_or_an_epoch() {
    let all = messages();
    let (mut checked, mut hidden) = (0, Vec::new());
    for path in permissions::reads().filter(|path| path.starts_with("/sextant.")) {
        let name = answer_of(path).unwrap();
        let message = filled(&all, name, DEPTH);
        let mut concealed = Vec::new();
        DESCRIPTORS.conceal(name, &message, &mut concealed).unwrap();
        let has = |octets: &[u8], what: &[u8]| octets.windows(what.len()).any(|it| it == what);
        assert!(!has(&concealed, hex().as_bytes()), "{path} has an id in a text");
        let (before, after) = (fields(&all, name, &message, ""), fields(&all, name, &concealed, ""));
        let secret = |path: &&String| {
            let parts: Vec<&str> = path.split('.').collect();
            parts.iter().any(|part| ["node_id", "epoch"].contains(part))
                || path.ends_with("peer.claimed")
                || path.ends_with("more_claims.claimed")
        };
        assert_eq!(after.iter().find(secret), None, "{path}");
        let lost: Vec<_> = before.iter().filter(|it| !after.contains(it)).collect();
        assert!(lost.iter().all(secret), "{path} loses {lost:?}");
        hidden.extend(lost.into_iter().cloned());
        checked += 1;
    }
    assert!(checked > 8, "{checked}");
    for known in [".nodes.node_id", ".nodes.peer.claimed", ".nodes.peer.more_claims.claimed"] {
        assert!(hidden.iter().any(|it| it == known), "{known} is not among {hidden:?}");
    }
}

#[test]
fn each_octet_field_of_16_that_viewers_get_is_known() {
    // A new field with an id under another name must be looked at: octets that viewers get are addresses, incarnations and files.
    let all = messages();
    let mut names = std::collections::BTreeSet::new();
    for path in permissions::reads().filter(|path| path.starts_with("/sextant.")) {
        let name = answer_of(path).unwrap();
        let mut concealed = Vec::new();
        DESCRIPTORS.conceal(name, &filled(&all, name, DEPTH), &mut concealed).unwrap();
        octets(&all, name, &concealed, &mut names);
    }
    let expected = ["address", "addresses", "gateway", "incarnation", "mac", "next_hop", "next_hops"];
    let unexpected: Vec<_> = names.iter().filter(|name| !expected.contains(&name.as_str())).collect();
    assert!(unexpected.is_empty(), "{unexpected:?}");
}

fn octets(
    all: &HashMap<String, DescriptorProto>,
    name: &str,
    mut message: &[u8],
    names: &mut std::collections::BTreeSet<String>,
) {
    while message.has_remaining() {
        let (number, wire) = decode_key(&mut message).unwrap();
        let field = all[name].field.iter().find(|it| it.number().cast_unsigned() == number).unwrap();
        if wire != WireType::LengthDelimited {
            skip_field(wire, number, &mut message, Default::default()).unwrap();
            continue;
        }
        let length = usize::try_from(decode_varint(&mut message).unwrap()).unwrap();
        let (value, rest) = message.split_at(length);
        match field.r#type() {
            Type::Message => octets(all, field.type_name(), value, names),
            Type::Bytes => drop(names.insert(field.name().to_owned())),
            _ => {}
        }
        message = rest;
    }
}

#[test]
fn texts_lose_ids_and_epochs_and_nothing_else() {
    let id = hex();
    let cases = [
        (
            format!("belongs to node id {id} (prefix 2001:db8::/64)"),
            "belongs to node id (hidden) (prefix 2001:db8::/64)",
        ),
        (format!("13@{id}"), "(hidden)"),
        (format!("({id}),"), "((hidden)),"),
        (format!("{id}{id}"), ""),
        ("controller 9f27d1c04a6be583".to_owned(), ""),
        ("österreichisch".to_owned(), ""),
    ];
    for (text, expected) in cases {
        let expected = if expected.is_empty() { text.as_str() } else { expected };
        assert_eq!(without_ids(&text), expected);
    }
}

#[tokio::test]
async fn a_stream_of_messages_is_rewritten_across_frames_and_so_is_its_error() {
    use std::pin::pin;

    let id = hex();
    let event =
        v1::Event { detail: format!("id {id}"), node: "h1".into(), revision: 5, ..Default::default() };
    let mut octets = Vec::new();
    for _ in 0..2 {
        let message = event.encode_to_vec();
        octets.put_u8(0);
        octets.put_u32(u32::try_from(message.len()).unwrap());
        octets.extend(message);
    }
    let mut trailers = HeaderMap::new();
    trailers.insert(GRPC_MESSAGE, HeaderValue::from_str(&format!("node%20id {id}")).unwrap());
    let pieces = octets.chunks(7).map(Bytes::copy_from_slice).map(Frame::data);
    let frames: Vec<Result<_, Status>> = pieces.chain([Frame::trailers(trailers)]).map(Ok).collect();
    let inner = Body::new(Frames(frames.into()));
    let name = answer_of("/sextant.v1.AdminService/Events").unwrap();
    let mut body = pin!(response(Response::new(inner), name).into_body());
    let (mut received, mut trailers) = (BytesMut::new(), None);
    while let Some(frame) = std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await {
        match frame.unwrap().into_data() {
            Ok(data) => received.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    for _ in 0..2 {
        received.advance(1);
        let length = received.get_u32() as usize;
        let shown = v1::Event::decode(received.split_to(length)).unwrap();
        assert_eq!(shown, v1::Event { detail: "id (hidden)".into(), ..event.clone() });
    }
    assert!(received.is_empty());
    assert_eq!(trailers.unwrap()[GRPC_MESSAGE], "node%20id (hidden)");
}

struct Frames(std::collections::VecDeque<Result<Frame<Bytes>, Status>>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Poll::Ready(self.0.pop_front())
    }
}
