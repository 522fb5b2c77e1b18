//! The parts of a snapshot, each within the size that agents take in one message. Pure.

use prost::Message;
use sextant_proto::v1;

/// The size of a part beyond which no node is added, in octets. gRPC messages have at most 4 MiB by default.
const FULL: usize = 256 * 1024;

/// All pools, then the nodes.
pub(super) fn chunks(pools: Vec<v1::Pool>, peers: impl Iterator<Item = v1::Peer>) -> Vec<v1::SnapshotChunk> {
    let mut chunks = vec![v1::SnapshotChunk { pools, peers: Vec::new() }];
    let mut room = 0;
    for peer in peers {
        let size = peer.encoded_len();
        if room < size {
            chunks.push(v1::SnapshotChunk::default());
            room = FULL;
        }
        room = room.saturating_sub(size);
        if let Some(last) = chunks.last_mut() {
            last.peers.push(peer);
        }
    }
    chunks
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The most that gRPC takes in one message by default.
    const MOST: usize = 4 * 1024 * 1024;

    proptest! {
        #[test]
        fn each_part_fits_into_a_message_and_no_node_is_left_out(
            hops in proptest::collection::vec(prop_oneof![0usize..8, 0usize..100_000], 0..40),
        ) {
            let peer = |(n, hops): (usize, &usize)| v1::Peer {
                name: format!("h{n}"),
                next_hops: vec![vec![1u8; 16].into(); *hops],
                ..v1::Peer::default()
            };
            let peers: Vec<_> = hops.iter().enumerate().map(peer).collect();
            let chunks = chunks(vec![v1::Pool::default()], peers.clone().into_iter());
            prop_assert!(chunks.iter().all(|chunk| chunk.encoded_len() < MOST));
            prop_assert_eq!(chunks[0].pools.len(), 1);
            let all: Vec<_> = chunks.into_iter().flat_map(|chunk| chunk.peers).collect();
            prop_assert_eq!(all, peers);
        }
    }

    #[test]
    fn small_nodes_share_a_part() {
        let peers = (0..10_000).map(|n| v1::Peer { name: format!("h{n}"), ..v1::Peer::default() });
        assert_eq!(chunks(Vec::new(), peers).len(), 2);
    }
}
