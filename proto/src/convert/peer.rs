//! Nodes, their uplinks, and what their agents report.

use std::time::Duration;

use super::{MessageError, address, all, limits::text, octets, parse, required};
use crate::{
    BgpNeighbour, ClaimPhase, Conflict, Control, FailedRoute, InterfaceAddress, NodeState, Peer, PeerClaim,
    Prefix, PrefixError, Problem, Revision, Uplink, Verdict, is_link_name, link_name_octets, link_name_text,
    quoted, v1,
};

impl TryFrom<v1::NodeState> for NodeState {
    type Error = MessageError;

    fn try_from(state: v1::NodeState) -> Result<Self, MessageError> {
        match state {
            v1::NodeState::Joining => Ok(Self::Joining),
            v1::NodeState::Ready => Ok(Self::Ready),
            v1::NodeState::Draining => Ok(Self::Draining),
            v1::NodeState::Drained => Ok(Self::Drained),
            v1::NodeState::Unspecified => {
                Err(MessageError::new("state", "is not one that this version knows"))
            }
        }
    }
}

impl From<NodeState> for v1::NodeState {
    fn from(state: NodeState) -> Self {
        match state {
            NodeState::Joining => Self::Joining,
            NodeState::Ready => Self::Ready,
            NodeState::Draining => Self::Draining,
            NodeState::Drained => Self::Drained,
        }
    }
}

impl TryFrom<v1::ClaimPhase> for ClaimPhase {
    type Error = MessageError;

    fn try_from(phase: v1::ClaimPhase) -> Result<Self, MessageError> {
        Ok(match phase {
            v1::ClaimPhase::Unspecified => Self::Current,
            v1::ClaimPhase::Deprecated => Self::Deprecated,
        })
    }
}

impl From<ClaimPhase> for v1::ClaimPhase {
    fn from(phase: ClaimPhase) -> Self {
        match phase {
            ClaimPhase::Current => Self::Unspecified,
            ClaimPhase::Deprecated => Self::Deprecated,
        }
    }
}

impl TryFrom<v1::PeerClaim> for PeerClaim {
    type Error = MessageError;

    fn try_from(message: v1::PeerClaim) -> Result<Self, MessageError> {
        Ok(Self {
            state: message.state().try_into()?,
            phase: message.phase().try_into()?,
            prefix: required("prefix", message.prefix)?,
            pool: parse("pool", &message.pool)?,
            claimed: Revision(message.claimed),
        })
    }
}

impl From<&PeerClaim> for v1::PeerClaim {
    fn from(claim: &PeerClaim) -> Self {
        Self {
            prefix: Some(claim.prefix.into()),
            claimed: claim.claimed.0,
            pool: claim.pool.to_string(),
            state: v1::NodeState::from(claim.state).into(),
            phase: v1::ClaimPhase::from(claim.phase).into(),
        }
    }
}

impl TryFrom<v1::Peer> for Peer {
    type Error = MessageError;

    fn try_from(message: v1::Peer) -> Result<Self, MessageError> {
        let hops = message.next_hops.iter().map(|hop| address(hop)).collect::<Result<_, _>>();
        let primary = v1::PeerClaim {
            prefix: message.prefix,
            claimed: message.claimed,
            pool: message.pool,
            state: message.state,
            phase: message.phase,
        };
        let mut claims = vec![PeerClaim::try_from(primary)?];
        claims.extend(all::<_, PeerClaim>("more_claims", message.more_claims)?);
        Ok(Self {
            name: parse("name", &message.name)?,
            claims,
            next_hops: hops.map_err(|error| MessageError::new("next_hops", error))?,
            session: message.session,
            drain_timeout: Duration::from_millis(message.drain_timeout_ms),
        })
    }
}

impl From<&Peer> for v1::Peer {
    fn from(peer: &Peer) -> Self {
        let mut claims = peer.claims.iter().map(v1::PeerClaim::from);
        let primary = claims.next().unwrap_or_default();
        Self {
            name: peer.name.to_string(),
            prefix: primary.prefix,
            claimed: primary.claimed,
            pool: primary.pool,
            state: primary.state,
            phase: primary.phase,
            next_hops: peer.next_hops.iter().map(|&hop| octets(hop)).collect(),
            session: peer.session,
            drain_timeout_ms: millis(peer.drain_timeout),
            more_claims: claims.collect(),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl TryFrom<v1::InterfaceAddress> for InterfaceAddress {
    type Error = PrefixError;

    fn try_from(message: v1::InterfaceAddress) -> Result<Self, PrefixError> {
        let addr = address(&message.address)?;
        let len = u8::try_from(message.length).ok();
        let on_link = len.and_then(|len| Prefix::containing(addr, len));
        Ok(Self { addr, on_link: on_link.ok_or(PrefixError::Length(message.length))? })
    }
}

impl From<&InterfaceAddress> for v1::InterfaceAddress {
    fn from(address: &InterfaceAddress) -> Self {
        Self { address: octets(address.addr), length: address.on_link.len().into() }
    }
}

/// The longest name of a route protocol, in octets.
const MAX_PROTOCOL_NAME: usize = 32;

impl TryFrom<v1::Uplink> for Uplink {
    type Error = MessageError;

    fn try_from(message: v1::Uplink) -> Result<Self, MessageError> {
        let octets = link_name_octets(&message.interface);
        if !is_link_name(&message.interface) {
            let problem = format!("\"{}\" is not the name of an interface", quoted(&link_name_text(&octets)));
            return Err(MessageError::new("interface", problem));
        }
        Ok(Self { addresses: all("addresses", message.addresses)?, interface: link_name_text(&octets) })
    }
}

impl From<&Uplink> for v1::Uplink {
    fn from(uplink: &Uplink) -> Self {
        Self {
            interface: uplink.interface.clone(),
            addresses: uplink.addresses.iter().map(Into::into).collect(),
        }
    }
}

impl From<v1::Control> for Control {
    fn from(message: v1::Control) -> Self {
        Self {
            paused: message.paused,
            resumed: Revision(message.resumed),
            confirmed_removals: message.confirmed_removals,
        }
    }
}

impl From<Control> for v1::Control {
    fn from(control: Control) -> Self {
        Self {
            paused: control.paused,
            resumed: control.resumed.0,
            confirmed_removals: control.confirmed_removals,
        }
    }
}

impl TryFrom<v1::FailedRoute> for FailedRoute {
    type Error = MessageError;

    fn try_from(message: v1::FailedRoute) -> Result<Self, MessageError> {
        Ok(Self { destination: required("destination", message.destination)?, error: text(message.error) })
    }
}

impl From<&FailedRoute> for v1::FailedRoute {
    fn from(failed: &FailedRoute) -> Self {
        Self { destination: Some(failed.destination.into()), error: failed.error.clone() }
    }
}

impl TryFrom<v1::Conflict> for Conflict {
    type Error = MessageError;

    fn try_from(message: v1::Conflict) -> Result<Self, MessageError> {
        Ok(Self {
            destination: required("destination", message.destination)?,
            protocol: protocol(message.protocol),
            metric: message.metric,
            ours_wins: message.ours_wins,
            ours: message.ours.map(|ours| required("ours", Some(ours))).transpose()?,
            leads: text(message.leads),
        })
    }
}

/// The name or number of a route protocol. People paste it into commands, so it is one word, or nothing.
fn protocol(name: String) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let is_protocol = !name.is_empty() && name.len() <= MAX_PROTOCOL_NAME && name.chars().all(is_word);
    if is_protocol { name } else { "unknown".into() }
}

impl From<&Conflict> for v1::Conflict {
    fn from(conflict: &Conflict) -> Self {
        Self {
            destination: Some(conflict.destination.into()),
            protocol: conflict.protocol.clone(),
            metric: conflict.metric,
            ours_wins: conflict.ours_wins,
            ours: conflict.ours.map(Into::into),
            leads: conflict.leads.clone(),
        }
    }
}

impl TryFrom<v1::Verdict> for Verdict {
    type Error = MessageError;

    fn try_from(message: v1::Verdict) -> Result<Self, MessageError> {
        Ok(Self { node: parse("node", &message.node)?, forwarding: message.forwarding })
    }
}

impl From<&Verdict> for v1::Verdict {
    fn from(verdict: &Verdict) -> Self {
        Self { node: verdict.node.to_string(), forwarding: verdict.forwarding }
    }
}

impl From<v1::Problem> for Problem {
    fn from(message: v1::Problem) -> Self {
        let v1::Problem { what, saw, fix, since_unix_ms } = message;
        Self { what: text(what), saw: text(saw), fix: text(fix), since_unix_ms }
    }
}

impl From<&Problem> for v1::Problem {
    fn from(problem: &Problem) -> Self {
        let Problem { what, saw, fix, since_unix_ms } = problem.clone();
        Self { what, saw, fix, since_unix_ms }
    }
}

impl TryFrom<v1::BgpNeighbour> for BgpNeighbour {
    type Error = MessageError;

    fn try_from(message: v1::BgpNeighbour) -> Result<Self, MessageError> {
        Ok(Self {
            address: address(&message.address).map_err(|error| MessageError::new("address", error))?,
            interface: text(message.interface),
            remote_as: message.remote_as,
            state: text(message.state),
            since_unix_ms: message.since_unix_ms,
            sent: message.sent,
            received: message.received,
            error: text(message.error),
            bfd: text(message.bfd),
            imported: message.imported,
        })
    }
}

impl From<&BgpNeighbour> for v1::BgpNeighbour {
    fn from(it: &BgpNeighbour) -> Self {
        Self {
            address: octets(it.address),
            interface: it.interface.clone(),
            remote_as: it.remote_as,
            state: it.state.clone(),
            since_unix_ms: it.since_unix_ms,
            sent: it.sent,
            received: it.received,
            error: it.error.clone(),
            bfd: it.bfd.clone(),
            imported: it.imported,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> Peer {
        let claim = |prefix: &str, pool: &str, claimed, state| PeerClaim {
            prefix: prefix.parse().unwrap(),
            pool: pool.parse().unwrap(),
            claimed: Revision(claimed),
            state,
            phase: ClaimPhase::Current,
        };
        Peer {
            name: "host1".parse().unwrap(),
            claims: vec![
                claim("2001:db8:1::/64", "main", 3, NodeState::Ready),
                PeerClaim {
                    phase: ClaimPhase::Deprecated,
                    ..claim("fd00:1::/64", "ula", 5, NodeState::Joining)
                },
            ],
            next_hops: vec!["2001:db8::1".parse().unwrap()],
            session: true,
            drain_timeout: Duration::from_secs(30),
        }
    }

    #[test]
    fn a_peer_round_trips_with_all_its_claims() {
        assert_eq!(Peer::try_from(v1::Peer::from(&peer())).unwrap(), peer());
        assert_eq!(peer().state(), NodeState::Ready);
    }

    #[test]
    fn who_does_not_know_of_several_claims_sees_the_primary_one() {
        let message = v1::Peer { more_claims: Vec::new(), ..v1::Peer::from(&peer()) };
        let seen = Peer::try_from(message).unwrap();
        assert_eq!(seen.claims, peer().claims[..1]);
    }

    #[test]
    fn a_protocol_is_one_word() {
        for (said, read) in [
            ("static", "static"),
            ("66", "66"),
            ("ra_proxy-2", "ra_proxy-2"),
            ("static; reboot", "unknown"),
            ("$(reboot)", "unknown"),
            ("", "unknown"),
            (&"x".repeat(33), "unknown"),
        ] {
            let destination = Some(v1::Prefix { address: octets("fd00::".parse().unwrap()), length: 64 });
            let message = v1::Conflict { destination, protocol: said.into(), ..Default::default() };
            assert_eq!(Conflict::try_from(message).unwrap().protocol, read);
        }
    }

    #[test]
    fn an_unknown_state_is_refused() {
        let message = v1::Peer { name: "a".into(), state: 99, ..Default::default() };
        let error = Peer::try_from(message).unwrap_err();
        assert!(error.to_string().contains("state"), "{error}");
    }

    #[test]
    fn an_interface_address_keeps_its_host_bits() {
        let message = v1::InterfaceAddress { address: octets("2001:db8::1".parse().unwrap()), length: 64 };
        let address = InterfaceAddress::try_from(message.clone()).unwrap();
        assert_eq!(address.on_link.to_string(), "2001:db8::/64");
        assert_eq!(v1::InterfaceAddress::from(&address), message);
    }
}
