//! The paths to announce to routers in a state of the cluster, and their changes. Pure.

use std::{collections::BTreeMap, net::Ipv6Addr, sync::Arc};

use sextant_proto::{Claim, NodeName, NodeState, PoolName, Prefix};

use crate::{
    cluster::{Verdicts, View},
    routes::{is_routed, own_state},
    settings::{Announce, BgpSettings, PoolSettings},
};

/// How a prefix is reached.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path {
    /// The next hop's host; `None` is this host.
    pub next_hop: Option<Ipv6Addr>,
    /// It will be withdrawn soon: routers prefer another path (graceful shutdown, RFC 8326).
    pub leaving: bool,
    /// The settings of the prefix's pool, if it has any of its own.
    pub pool: Option<Arc<PoolSettings>>,
}

/// The paths to announce to neighbours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The announced paths.
    pub paths: Paths,
    /// The host is drained: sessions end, and none begins.
    pub drained: bool,
}

/// Announced paths by prefix.
pub type Paths = BTreeMap<Prefix, Path>;

/// The input of announcements. Missing knowledge withdraws nothing (DESIGN I5).
#[derive(Debug, Clone, Copy)]
pub struct Cluster<'a> {
    /// This node.
    pub node: &'a NodeName,
    /// Its claims.
    pub claims: &'a [Claim],
    /// The view of the cluster.
    pub view: &'a View,
    /// Verdicts on hosts without agents.
    pub verdicts: &'a Verdicts,
    /// The peers have withdrawn, or this node is drained.
    pub withdrawn: bool,
    /// The prefixes that the previous run of the agent announced last.
    pub remembered: &'a [Prefix],
}

/// The paths to announce.
pub fn paths(cluster: &Cluster<'_>, settings: &BgpSettings) -> Paths {
    let own = cluster.claims.iter().filter_map(|claim| Some((claim.prefix, own(cluster, claim, settings)?)));
    let others = others(cluster, settings).filter(|_| settings.announce == Announce::All);
    others.chain(own).collect()
}

/// Whether prefixes of this pool are announced.
pub fn is_announced(pool: &PoolName, settings: &BgpSettings) -> bool {
    settings.pools.get(pool).is_none_or(|pool| pool.announce)
}

fn own(cluster: &Cluster<'_>, claim: &Claim, settings: &BgpSettings) -> Option<Path> {
    let pool = &claim.pool.name;
    let path = |leaving| path(None, leaving, pool, settings);
    if cluster.view.incarnation().is_none() {
        // No controller has answered yet.
        return path(false).filter(|_| cluster.remembered.contains(&claim.prefix));
    }
    match own_state(cluster.node, claim, cluster.view).filter(|_| !cluster.withdrawn)? {
        NodeState::Draining => path(true),
        NodeState::Ready => path(false),
        NodeState::Joining | NodeState::Drained => None,
    }
}

fn others<'a>(
    cluster: &'a Cluster<'_>,
    settings: &'a BgpSettings,
) -> impl Iterator<Item = (Prefix, Path)> + 'a {
    let routed = cluster.view.peers().filter(|peer| is_routed(cluster.node, peer));
    let alive = routed.filter(|peer| !cluster.verdicts.is_dead(peer));
    alive.flat_map(move |peer| {
        let next_hop = peer.next_hops.first().copied();
        let claims = peer.ready_claims().filter(move |_| next_hop.is_some());
        claims.filter_map(move |claim| Some((claim.prefix, path(next_hop, false, &claim.pool, settings)?)))
    })
}

/// `None` if prefixes of the pool are not announced.
fn path(next_hop: Option<Ipv6Addr>, leaving: bool, pool: &PoolName, settings: &BgpSettings) -> Option<Path> {
    let pool_settings = settings.pools.get(pool).cloned();
    is_announced(pool, settings).then_some(Path { next_hop, leaving, pool: pool_settings })
}

/// The difference that a neighbour does not know yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct News {
    /// No longer reached.
    pub withdrawn: Vec<Prefix>,
    /// Reached anew, or otherwise.
    pub announced: Vec<(Prefix, Path)>,
}

/// The difference between the announced paths and the wanted ones.
pub fn news(announced: &Paths, wanted: &Paths) -> News {
    let gone = announced.keys().filter(|prefix| !wanted.contains_key(prefix)).copied();
    let fresh = wanted.iter().filter(|(prefix, path)| announced.get(prefix) != Some(path));
    News {
        withdrawn: gone.collect(),
        announced: fresh.map(|(prefix, path)| (*prefix, path.clone())).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use sextant_proto::{Control, Epoch, Incarnation, Peer, PeerClaim, Pool, Revision};

    use super::*;
    use crate::{
        cluster::{Snapshot, Verdict},
        settings::PoolsSettings,
    };

    fn incarnation() -> Incarnation {
        static STORE: std::sync::LazyLock<Incarnation> = std::sync::LazyLock::new(Incarnation::random);
        *STORE
    }

    fn claim() -> Claim {
        let pool = Pool::new("main".parse().unwrap(), "2001:db8:8000::/40".parse().unwrap(), 64, 64).unwrap();
        let epoch = Epoch { incarnation: incarnation(), revision: Revision(1) };
        Claim { prefix: "2001:db8:8000:1::/64".parse().unwrap(), epoch, pool }
    }

    fn peer(n: u16, state: NodeState) -> Peer {
        Peer {
            name: format!("h{n}").parse().unwrap(),
            claims: vec![PeerClaim::current(
                format!("2001:db8:8000:{n:x}::/64").parse().unwrap(),
                "main".parse().unwrap(),
                Revision(n.into()),
                state,
            )],
            next_hops: vec![format!("2001:db8::{n:x}").parse().unwrap()],
            session: true,
            drain_timeout: Duration::ZERO,
        }
    }

    fn view(peers: Vec<Peer>) -> View {
        let (incarnation, control) = (incarnation(), Control::default());
        let revision = Revision(9);
        let (linearizable, recovering, pools) = (true, false, vec![]);
        let mut view = View::default();
        view.apply_snapshot(Snapshot {
            mark: None,
            incarnation,
            revision,
            linearizable,
            recovering,
            control,
            pools,
            peers,
        });
        view
    }

    fn settings(announce: Announce, pools: PoolsSettings) -> BgpSettings {
        BgpSettings {
            local_as: 65001,
            router_id: None,
            listen_port: 179,
            announce,
            import_metric: 768,
            pools,
            neighbours: vec![],
        }
    }

    fn text(announce: Announce, view: &View, withdrawn: bool, remembered: &[Prefix]) -> Vec<String> {
        let (node, claim) = ("h1".parse().unwrap(), claim());
        let verdicts = Verdicts::from([("h3".parse().unwrap(), Verdict::Dead)]);
        let cluster =
            Cluster { node: &node, claims: &[claim], view, verdicts: &verdicts, withdrawn, remembered };
        let line = |(prefix, path): (Prefix, Path)| {
            let hop = path.next_hop.map_or("us".to_owned(), |hop| hop.to_string());
            format!("{prefix} via {hop}{}", if path.leaving { ", leaving" } else { "" })
        };
        paths(&cluster, &settings(announce, PoolsSettings::new())).into_iter().map(line).collect()
    }

    #[test]
    fn the_own_prefix_from_ready_to_drained() {
        let of = |state, withdrawn| text(Announce::Own, &view(vec![peer(1, state)]), withdrawn, &[]);
        assert!(of(NodeState::Joining, false).is_empty());
        assert_eq!(of(NodeState::Ready, false), ["2001:db8:8000:1::/64 via us"]);
        assert_eq!(of(NodeState::Draining, false), ["2001:db8:8000:1::/64 via us, leaving"]);
        assert!(of(NodeState::Draining, true).is_empty());
        assert!(of(NodeState::Drained, true).is_empty());
    }

    #[test]
    fn all_but_the_dead() {
        let lost = |n| Peer { session: false, ..peer(n, NodeState::Ready) };
        let peers = vec![peer(1, NodeState::Ready), lost(2), lost(3), peer(4, NodeState::Draining)];
        assert_eq!(
            text(Announce::All, &view(peers), false, &[]),
            ["2001:db8:8000:1::/64 via us", "2001:db8:8000:2::/64 via 2001:db8::2"]
        );
    }

    #[test]
    fn i5_without_a_controller_what_was_announced_stays_so() {
        let nothing = View::default();
        assert!(text(Announce::Own, &nothing, false, &[]).is_empty());
        assert_eq!(text(Announce::Own, &nothing, false, &[claim().prefix]), ["2001:db8:8000:1::/64 via us"]);
    }

    #[test]
    fn each_claim_is_announced_as_its_pool_says() {
        let (node, main) = ("h1".parse().unwrap(), claim());
        let pool = Pool::new("ula".parse().unwrap(), "fd00::/16".parse().unwrap(), 64, 64).unwrap();
        let epoch = Epoch { revision: Revision(2), ..main.epoch };
        let ula = Claim { prefix: "fd00:0:0:1::/64".parse().unwrap(), epoch, pool };
        let with_ula = |n: u16, state| {
            let prefix = format!("fd00:0:0:{n:x}::/64").parse().unwrap();
            let claimed = Revision(u64::from(n) + 1);
            let mut peer = peer(n, NodeState::Ready);
            peer.claims.push(PeerClaim::current(prefix, "ula".parse().unwrap(), claimed, state));
            peer
        };
        let of = |state, announce, remembered: &[Prefix], known: Option<View>| {
            let view = known.unwrap_or_else(|| view(vec![with_ula(1, state), with_ula(2, state)]));
            let (claims, verdicts) = ([main.clone(), ula.clone()], Verdicts::default());
            let cluster = Cluster {
                node: &node,
                claims: &claims,
                view: &view,
                verdicts: &verdicts,
                withdrawn: false,
                remembered,
            };
            let pool = PoolSettings { announce, communities: None, large_communities: None };
            let pools = PoolsSettings::from([("ula".parse().unwrap(), Arc::new(pool))]);
            let line = |(prefix, path): (Prefix, Path)| {
                format!("{prefix}{}", if path.pool.is_some() { " of ula" } else { "" })
            };
            paths(&cluster, &settings(Announce::All, pools)).into_iter().map(line).collect::<Vec<_>>()
        };
        let [ours, theirs] = ["2001:db8:8000:1::/64", "2001:db8:8000:2::/64"];
        let both = [ours, theirs, "fd00:0:0:1::/64 of ula", "fd00:0:0:2::/64 of ula"];
        assert_eq!(of(NodeState::Ready, true, &[], None), both);
        assert_eq!(of(NodeState::Joining, true, &[], None), [ours, theirs]);
        assert_eq!(of(NodeState::Ready, false, &[], None), [ours, theirs]);
        let remembered = [main.prefix, ula.prefix];
        let alone = |announce| of(NodeState::Ready, announce, &remembered, Some(View::default()));
        assert_eq!(alone(true), [ours, "fd00:0:0:1::/64 of ula"]);
        assert_eq!(alone(false), [ours]);
    }

    fn some_paths() -> impl Strategy<Value = Paths> {
        let path = (proptest::option::of(0u128..3), any::<bool>()).prop_map(|(hop, leaving)| Path {
            next_hop: hop.map(Ipv6Addr::from_bits),
            leaving,
            pool: None,
        });
        let prefix = (0u128..6).prop_map(|n| Prefix::new(Ipv6Addr::from_bits(n << 64), 64).unwrap());
        proptest::collection::btree_map(prefix, path, 0..6)
    }

    proptest! {
        #[test]
        fn news_lead_from_the_announced_paths_to_the_wanted_ones(announced in some_paths(), wanted in some_paths()) {
            let news = news(&announced, &wanted);
            let mut now = announced;
            now.retain(|prefix, _| !news.withdrawn.contains(prefix));
            now.extend(news.announced);
            prop_assert_eq!(&now, &wanted);
            prop_assert_eq!(super::news(&now, &wanted), News::default());
        }
    }
}
