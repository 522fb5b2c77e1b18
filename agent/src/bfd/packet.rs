//! The BFD control packet (RFC 5880 §4.1), without authentication. Pure.

use std::time::Duration;

const VERSION: u8 = 1;
/// The mandatory section's length, which is all there is without authentication.
pub const LEN: usize = 24;

const POLL: u8 = 0x20;
const FINAL: u8 = 0x10;
const AUTHENTICATED: u8 = 0x04;
const DEMAND: u8 = 0x02;
const MULTIPOINT: u8 = 0x01;

/// A session's state (RFC 5880 §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Held down on purpose.
    AdminDown,
    /// Nothing is heard.
    Down,
    /// The neighbour is heard, and does not hear us yet as far as we know.
    Init,
    /// Both hear each other.
    Up,
}

/// Why a session went down last (RFC 5880 §4.1), as far as this speaker says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Diagnostic {
    /// It has not.
    None = 0,
    /// Nothing was heard for the detection time.
    TimeExpired = 1,
    /// The neighbour said so.
    NeighbourDown = 3,
    /// On purpose.
    AdminDown = 7,
}

/// A control packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// The sender's last reason, a [`Diagnostic`] or another number.
    pub diagnostic: u8,
    /// The sender's state.
    pub state: State,
    /// The sender wants an answer with `finished` set.
    pub poll: bool,
    /// The answer to a poll.
    pub finished: bool,
    /// The sender asks us not to send while all is well.
    pub demand: bool,
    /// So many packets may be lost in a row.
    pub multiplier: u8,
    /// The sender's number for the session; not 0.
    pub mine: u32,
    /// The receiver's, as the sender knows it; 0 if it does not.
    pub yours: u32,
    /// The sender does not send more often.
    pub min_tx: Duration,
    /// The sender does not want packets more often; zero: no packets at all.
    pub min_rx: Duration,
}

/// Why a packet is discarded (RFC 5880 §6.8.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Shorter than it must be, or than it says.
    #[error("too short")]
    Short,
    /// Not version 1.
    #[error("version {0}, not 1")]
    Version(u8),
    /// It is authenticated, and no key is configured.
    #[error("authenticated")]
    Authenticated,
    /// For more than one receiver.
    #[error("multipoint")]
    Multipoint,
    /// A detection time of zero.
    #[error("multiplier 0")]
    Multiplier,
    /// A discriminator of 0 where there has to be one.
    #[error("discriminator 0")]
    Discriminator,
}

impl Packet {
    /// The octets of it. Intervals are cut to whole microseconds, up to 71 minutes.
    pub fn encode(&self) -> [u8; LEN] {
        let flag = |set: bool, bit| if set { bit } else { 0 };
        let flags = flag(self.poll, POLL) | flag(self.finished, FINAL) | flag(self.demand, DEMAND);
        let mut octets = [0; LEN];
        octets[0] = VERSION << 5 | self.diagnostic & 0x1f;
        octets[1] = (self.state as u8) << 6 | flags;
        octets[2] = self.multiplier;
        octets[3] = LEN as u8;
        let words = [self.mine, self.yours, micros(self.min_tx), micros(self.min_rx), 0];
        for (place, word) in octets[4..].chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        octets
    }

    /// Reads the octets of a datagram.
    ///
    /// # Errors
    /// Why they are to be discarded.
    pub fn decode(octets: &[u8]) -> Result<Self, Malformed> {
        let (&[first, second, multiplier, len], rest) = octets.split_first_chunk().ok_or(Malformed::Short)?;
        if first >> 5 != VERSION {
            return Err(Malformed::Version(first >> 5));
        }
        if usize::from(len) < LEN || usize::from(len) > octets.len() || rest.len() < LEN - 4 {
            return Err(Malformed::Short);
        }
        let word = |nth: usize| {
            rest[4 * nth..4 * nth + 4].iter().fold(0, |word, octet| word << 8 | u32::from(*octet))
        };
        let packet = Self {
            diagnostic: first & 0x1f,
            state: [State::AdminDown, State::Down, State::Init, State::Up][usize::from(second >> 6)],
            poll: second & POLL != 0,
            finished: second & FINAL != 0,
            demand: second & DEMAND != 0,
            multiplier,
            mine: word(0),
            yours: word(1),
            min_tx: Duration::from_micros(word(2).into()),
            min_rx: Duration::from_micros(word(3).into()),
        };
        packet.check(second)
    }

    fn check(self, flags: u8) -> Result<Self, Malformed> {
        if flags & AUTHENTICATED != 0 {
            return Err(Malformed::Authenticated);
        }
        if flags & MULTIPOINT != 0 {
            return Err(Malformed::Multipoint);
        }
        if self.multiplier == 0 {
            return Err(Malformed::Multiplier);
        }
        let nameless = self.yours == 0 && matches!(self.state, State::Init | State::Up);
        if self.mine == 0 || nameless {
            return Err(Malformed::Discriminator);
        }
        Ok(self)
    }
}

fn micros(interval: Duration) -> u32 {
    u32::try_from(interval.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What FRR 8.4's bfdd sent, in the order it did, to a peer that said Down, Init, and Up with a poll, then Down again. Its
    /// config: `bfd` / `peer 2001:db8::1 local-address 2001:db8::fe:1 interface vb` / `receive-interval 100` /
    /// `transmit-interval 100`; run by `bfdd -f bfdd.conf` beside zebra in a namespace, recorded by a socket on port 3784 of
    /// another one.
    const RECORDED: [&str; 6] = [
        "20400318c86f242800000000000f4240000f42400000c350",
        "20800318c86f24285e17a001000f4240000f42400000c350",
        "20e00318c86f24285e17a001000186a0000186a00000c350",
        "20d00318c86f24285e17a001000186a0000186a00000c350",
        "20c00318c86f24285e17a001000186a0000186a00000c350",
        "23400318c86f242800000000000186a0000186a00000c350",
    ];

    fn octets(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn a_packet_of_frr_is_decoded() {
        let read = RECORDED.map(|text| Packet::decode(&octets(text)).unwrap());
        let states = read.map(|packet| (packet.state, packet.poll, packet.finished, packet.diagnostic));
        assert_eq!(
            states,
            [
                (State::Down, false, false, 0),
                (State::Init, false, false, 0),
                (State::Up, true, false, 0),
                (State::Up, false, true, 0),
                (State::Up, false, false, 0),
                (State::Down, false, false, 3),
            ]
        );
        let up = read[4];
        assert_eq!((up.mine, up.yours, up.multiplier), (0xc86f_2428, 0x5e17_a001, 3));
        assert_eq!((up.min_tx, up.min_rx), (Duration::from_millis(100), Duration::from_millis(100)));
        assert_eq!(read[0].min_tx, Duration::from_secs(1));
    }

    #[test]
    fn a_packet_of_frr_is_encoded_the_same_but_for_echo() {
        for text in RECORDED {
            let recorded = octets(text);
            let written = Packet::decode(&recorded).unwrap().encode();
            assert_eq!(written[..20], recorded[..20], "{text}");
            assert_eq!(written[20..], [0; 4]);
        }
    }

    #[test]
    fn an_invalid_packet_is_discarded() {
        let with = |at: usize, octet: u8| {
            let mut octets = octets(RECORDED[4]);
            octets[at] = octet;
            Packet::decode(&octets).unwrap_err()
        };
        assert_eq!(with(0, 0x40), Malformed::Version(2));
        assert_eq!(with(1, 0xc4), Malformed::Authenticated);
        assert_eq!(with(1, 0xc1), Malformed::Multipoint);
        assert_eq!(with(2, 0), Malformed::Multiplier);
        assert_eq!(with(3, 23), Malformed::Short);
        assert_eq!(with(3, 25), Malformed::Short);
        let mut nameless = octets(RECORDED[4]);
        nameless[8..12].fill(0);
        assert_eq!(Packet::decode(&nameless), Err(Malformed::Discriminator));
        let mut nobody = octets(RECORDED[0]);
        nobody[4..8].fill(0);
        assert_eq!(Packet::decode(&nobody), Err(Malformed::Discriminator));
        for len in 0..LEN {
            assert_eq!(Packet::decode(&octets(RECORDED[0])[..len]), Err(Malformed::Short), "{len} octets");
        }
    }

    proptest! {
        #[test]
        fn octets_of_any_kind_are_read_or_refused(octets in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(packet) = Packet::decode(&octets) {
                prop_assert_eq!(Packet::decode(&packet.encode()), Ok(packet));
            }
        }
    }
}
