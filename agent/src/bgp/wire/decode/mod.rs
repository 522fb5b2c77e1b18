//! What a neighbour has sent: messages out of octets, and what becomes of an UPDATE that is wrong (RFC 7606). Pure.
//!
//! The codec tells most of it. Put right here: the code of messages that are too short for their kind (RFC 4271 §6.1),
//! NOTIFICATION messages that are wrong themselves (§6.4), well-known attributes that nobody knows, a NEXT_HOP that says
//! nothing (RFC 4760 §3), attributes that an external neighbour has no say in (RFC 7606 §7.5, §7.9, §7.10), and wrong
//! UPDATE messages that name no route (§5.2).

use bytes::BytesMut;
use rustbgpd_wire::{
    Afi, DecodeError, MAX_MESSAGE_LEN, Message, MessageType, ParsedUpdate, PathAttribute,
    RouteRefreshMessage, Safi, UpdateMessage,
    constants::attr_type,
    decode_message,
    notification::update_subcode,
    peek_message_length,
    validate::{ErrorDisposition, UpdateValidationOptions, validate_update_attributes_with_context},
};

/// Where in a message its kind stands.
const KIND: usize = 18;

/// Why the session cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::bgp) enum Misread {
    /// It is answered with a NOTIFICATION.
    #[error("{0}")]
    Answered(DecodeError),
    /// A NOTIFICATION that is wrong itself: it is not answered (RFC 4271 §6.4).
    #[error("a NOTIFICATION of {0} octets")]
    Notification(u16),
}

/// What becomes of an UPDATE (RFC 7606 §2), from the weakest to the strongest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::bgp) enum Treatment {
    /// It is as it should be.
    Taken,
    /// Without the attributes that are wrong.
    AttributesDiscarded,
    /// What it announces counts as withdrawn.
    AsWithdrawal,
}

/// An UPDATE that leaves the session as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::bgp) struct Update {
    /// What it says, without the attributes that are discarded.
    pub(in crate::bgp) parsed: ParsedUpdate,
    /// What becomes of it.
    pub(in crate::bgp) treatment: Treatment,
    /// What is wrong with it, in words.
    pub(in crate::bgp) faults: Vec<String>,
}

/// The two ends of an UPDATE's session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::bgp) struct Between {
    /// Both are of one AS.
    pub(in crate::bgp) internal: bool,
    /// The neighbour understands AS numbers of four octets.
    pub(in crate::bgp) four_octet_as: bool,
}

/// Takes the next whole message out of `received`; `None` if it is not all there yet.
///
/// # Errors
/// A [`Misread`], after which nothing in `received` is to be trusted.
pub(in crate::bgp) fn next_message(received: &mut BytesMut) -> Result<Option<Message>, Misread> {
    let Some(length) = peek_message_length(received, MAX_MESSAGE_LEN).map_err(Misread::Answered)? else {
        return Ok(None);
    };
    check_length(MessageType::from_u8(received[KIND]), length)?;
    if received.len() < usize::from(length) {
        return Ok(None);
    }
    let kind = received[KIND];
    let mut message = received.split_to(usize::from(length)).freeze();
    let decoded = decode_message(&mut message, MAX_MESSAGE_LEN);
    decoded.map(Some).map_err(|error| Misread::Answered(header_error(error, kind, length)))
}

/// What is behind the fixed part of a ROUTE-REFRESH was not agreed on: its length is what is wrong.
fn header_error(error: DecodeError, kind: u8, length: u16) -> DecodeError {
    match MessageType::from_u8(kind) {
        Some(MessageType::RouteRefresh) => DecodeError::InvalidLength { length },
        _ => error,
    }
}

/// RFC 4271 §6.1, before the rest is there: a message that cannot be one of its kind needs no waiting for.
fn check_length(kind: Option<MessageType>, length: u16) -> Result<(), Misread> {
    let fits = match kind {
        Some(MessageType::Open) => length >= 29,
        Some(MessageType::Update) => length >= 23,
        Some(MessageType::Notification) if length < 21 => return Err(Misread::Notification(length)),
        Some(MessageType::Keepalive) => length == 19,
        Some(MessageType::RouteRefresh) => length >= 23,
        _ => true,
    };
    if fits { Ok(()) } else { Err(Misread::Answered(DecodeError::InvalidLength { length })) }
}

/// What an UPDATE says, and what becomes of it.
///
/// # Errors
/// If the session cannot go on.
pub(in crate::bgp) fn read_update(update: &UpdateMessage, between: Between) -> Result<Update, DecodeError> {
    let revised = update.parse_revised(between.four_octet_as, between.internal, false, &[])?;
    let mut parsed = revised.update;
    let mut found: Vec<(Treatment, String)> = Vec::new();
    for wrong in revised.malformed {
        let weight = match wrong.disposition {
            _ if no_say(wrong.type_code, between) => Treatment::AttributesDiscarded,
            ErrorDisposition::AttributeDiscard => Treatment::AttributesDiscarded,
            ErrorDisposition::TreatAsWithdraw => Treatment::AsWithdrawal,
            ErrorDisposition::SessionReset => return Err(wrong.error),
        };
        found.push((weight, format!("{}: {}", name(wrong.type_code), wrong.error)));
    }
    parsed.attributes.retain(|attribute| !no_say(attribute.type_code(), between));
    parsed.attributes.iter_mut().for_each(name_next_hop);
    if parsed.announced.is_empty() {
        parsed.attributes.retain(|attribute| !matches!(attribute, PathAttribute::NextHop(_)));
    }
    // What is missing where something else makes it a withdrawal already is no news.
    let weight = |found: &[(Treatment, String)]| found.iter().map(|(weight, _)| *weight).max();
    if weight(&found) < Some(Treatment::AsWithdrawal)
        && let Some(words) = check_attributes(&parsed, between)?
    {
        found.push((Treatment::AsWithdrawal, words));
    }
    let treatment = weight(&found).unwrap_or(Treatment::Taken);
    let faults: Vec<_> = found.into_iter().map(|(_, words)| words).collect();
    if treatment == Treatment::AsWithdrawal && !names_a_route(&parsed) {
        return Err(nothing_to_withdraw(&faults));
    }
    Ok(Update { parsed, treatment, faults })
}

/// Some routers send no global next hop (`::`) before the link-local one: then that is the next hop.
fn name_next_hop(attribute: &mut PathAttribute) {
    if let PathAttribute::MpReachNlri(reach) = attribute
        && (reach.afi, reach.safi) == (Afi::Ipv6, Safi::Unicast)
        && reach.next_hop.is_unspecified()
        && let Some(link_local) = reach.link_local_next_hop
    {
        reach.next_hop = link_local.into();
    }
}

/// Attributes that are not an external neighbour's to set, right or wrong: they are left out.
fn no_say(type_code: u8, between: Between) -> bool {
    let internal_only = [attr_type::LOCAL_PREF, attr_type::ORIGINATOR_ID, attr_type::CLUSTER_LIST];
    !between.internal && internal_only.contains(&type_code)
}

/// The attributes taken together: what makes the UPDATE a withdrawal, in words.
fn check_attributes(parsed: &ParsedUpdate, between: Between) -> Result<Option<String>, DecodeError> {
    let in_body = !parsed.announced.is_empty();
    // RFC 2545 wants a global address first. FRR repeats the link-local one where its link has no global address.
    let mut options = UpdateValidationOptions::default();
    options.link_local_next_hop = true;
    let (attributes, announces) = (&parsed.attributes, names_a_route(parsed));
    let checked =
        validate_update_attributes_with_context(attributes, announces, in_body, !between.internal, options);
    let Err(wrong) = checked else { return Ok(None) };
    let (subcode, name) = (wrong.error.subcode, name(wrong.type_code));
    let words = match subcode {
        update_subcode::MISSING_WELLKNOWN => format!("{name} is missing"),
        update_subcode::UNRECOGNIZED_WELLKNOWN => {
            format!("{name} is said to be well-known, and is not known")
        }
        update_subcode::INVALID_NEXT_HOP => format!("the next hop in {name} cannot be one"),
        _ => format!("{name} is wrong"),
    };
    // RFC 7606 leaves an unrecognised well-known attribute what it was in RFC 4271 §6.3.
    let resets = wrong.error.disposition == ErrorDisposition::SessionReset
        || subcode == update_subcode::UNRECOGNIZED_WELLKNOWN;
    if resets {
        return Err(DecodeError::UpdateAttributeError { subcode, data: wrong.error.data, detail: words });
    }
    Ok(Some(words))
}

fn names_a_route(parsed: &ParsedUpdate) -> bool {
    let reach = |it: &PathAttribute| matches!(it, PathAttribute::MpReachNlri(_));
    !parsed.announced.is_empty() || parsed.attributes.iter().any(reach)
}

/// RFC 7606 §5.2: nobody can say what is withdrawn then.
fn nothing_to_withdraw(faults: &[String]) -> DecodeError {
    let detail = format!("{}, in an UPDATE that announces nothing", faults.join("; "));
    let (subcode, data) = (update_subcode::MALFORMED_ATTRIBUTE_LIST, Vec::new());
    DecodeError::UpdateAttributeError { subcode, data, detail }
}

/// Whether a ROUTE-REFRESH asks for what we tell; others are ignored (RFC 2918 §4, RFC 7313 §3).
pub(in crate::bgp) fn asks_for_ours(message: &RouteRefreshMessage) -> bool {
    (message.afi_raw, message.subtype_raw, message.safi_raw) == (Afi::Ipv6 as u16, 0, Safi::Unicast as u8)
}

/// An attribute's own name.
fn name(type_code: u8) -> String {
    let known = match type_code {
        attr_type::ORIGIN => "ORIGIN",
        attr_type::AS_PATH => "AS_PATH",
        attr_type::NEXT_HOP => "NEXT_HOP",
        attr_type::MULTI_EXIT_DISC => "MULTI_EXIT_DISC",
        attr_type::LOCAL_PREF => "LOCAL_PREF",
        attr_type::ATOMIC_AGGREGATE => "ATOMIC_AGGREGATE",
        attr_type::AGGREGATOR => "AGGREGATOR",
        attr_type::COMMUNITIES => "COMMUNITIES",
        attr_type::ORIGINATOR_ID => "ORIGINATOR_ID",
        attr_type::CLUSTER_LIST => "CLUSTER_LIST",
        attr_type::MP_REACH_NLRI => "MP_REACH_NLRI",
        attr_type::MP_UNREACH_NLRI => "MP_UNREACH_NLRI",
        attr_type::EXTENDED_COMMUNITIES => "EXTENDED COMMUNITIES",
        attr_type::LARGE_COMMUNITIES => "LARGE_COMMUNITY",
        0 => return "an attribute".to_owned(),
        other => return format!("attribute {other}"),
    };
    known.to_owned()
}

#[cfg(test)]
mod tests;
