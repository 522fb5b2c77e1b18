//! Nodes for people.

use sextant_proto::{Applied, ClaimPhase, Epoch, PeerClaim, Problem, Revision};

use super::{age, ndp, table};
use crate::{
    answer::{ClaimDetails, Cluster, Liveness, Node},
    troubles::FLAPPING,
};

/// Stands for a value that viewers do not get.
const HIDDEN: &str = "(hidden)";

/// All nodes. Container prefixes that are parts of the host prefixes, failures and problems are columns only if there are any.
pub(crate) fn list(cluster: &Cluster, now_unix_ms: u64) -> String {
    let row = |node: &Node| row(node, cluster.revision, now_unix_ms);
    let header = ["NAME", "STATE", "PREFIX", "NEXT-HOP", "AGENT", "APPLIED", "SINCE"];
    let nodes = &cluster.nodes;
    let failed = extra("FAILED", nodes, failed, |node| failed(node).to_string());
    let problems = extra("PROBLEMS", nodes, |node| problems(node).len(), kinds);
    let containers = extra("CONTAINERS", nodes, narrower, containers);
    let extras: Vec<_> = containers.into_iter().chain(failed).chain(problems).collect();
    table::with(header, nodes.iter().map(row), &extras)
}

/// A column that is shown only if it has an entry for one of `nodes`.
fn extra(
    header: &'static str,
    nodes: &[Node],
    count: impl Fn(&Node) -> usize,
    cell: impl Fn(&Node) -> String,
) -> Option<table::Column> {
    let any = nodes.iter().any(|node| count(node) > 0);
    any.then(|| table::Column { header, cells: nodes.iter().map(cell).collect() })
}

/// The number of its claims whose containers get a part of the host prefix.
fn narrower(node: &Node) -> usize {
    let narrower = |(claim, details): &(&PeerClaim, &ClaimDetails)| {
        details.container_prefixes.first().is_some_and(|first| *first != claim.prefix)
    };
    node.claims().filter(narrower).count()
}

/// The container prefix of each claim: the first one, which the engine is given.
fn containers(node: &Node) -> String {
    let first = node.claims().filter_map(|(_, details)| details.container_prefixes.first());
    first.map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn row(node: &Node, newest: Revision, now_unix_ms: u64) -> [String; 7] {
    [
        node.name().to_string(),
        state(node),
        node.claims().map(|(claim, _)| claim.prefix.to_string()).collect::<Vec<_>>().join(","),
        texts(&node.peer.next_hops).into_iter().next().unwrap_or_default(),
        agent(node).into(),
        applied(node, newest),
        age(now_unix_ms, node.since_unix_ms),
    ]
}

/// E.g. `ready`; `ready (agent unknown)` if it is unknown whether its agent is connected; without an agent `ready (forwarding
/// without agent)`, `ready (dead)`, or `ready (down)` while its peers have not reported which.
pub(crate) fn state(node: &Node) -> String {
    let down = match node.liveness {
        _ if node.unknown => " (agent unknown)",
        Liveness::Forwarding => " (forwarding without agent)",
        Liveness::Dead => " (dead)",
        Liveness::Up | Liveness::Unknown if node.down => " (down)",
        Liveness::Up | Liveness::Unknown => "",
    };
    format!("{}{down}", node.state())
}

/// The state of its host as observed by its peers.
fn seen(node: &Node, now_unix_ms: u64) -> Vec<String> {
    let what = match node.liveness {
        Liveness::Forwarding => "forwarding without agent",
        Liveness::Dead => "dead",
        Liveness::Up | Liveness::Unknown => return Vec::new(),
    };
    vec![format!("{what}, since {} ago", age(now_unix_ms, node.liveness_since_unix_ms))]
}

/// The state of its agent, and duplicates of its node id.
fn agents(node: &Node, now_unix_ms: u64) -> Vec<String> {
    let superseded =
        format!("superseded {} times within 5 minutes by another agent with its node id", node.superseded);
    let more = (node.superseded >= FLAPPING).then_some(superseded);
    let since = (agent(node) == "stopped")
        .then(|| format!(" on request {} ago", age(now_unix_ms, node.stopped_unix_ms)));
    let agent = format!("{}{}", agent(node), since.unwrap_or_default());
    let duplicate = (!node.duplicate_from.is_empty())
        .then(|| format!("duplicate node id: the agent at {} is refused", node.duplicate_from));
    std::iter::once(agent).chain(more).chain(duplicate).collect()
}

fn agent(node: &Node) -> &'static str {
    match node.peer.session {
        _ if node.revoked => "revoked",
        _ if node.unknown => "unknown",
        true => "connected",
        false if node.waits() => "waiting",
        false if node.stopped_unix_ms > 0 => "stopped",
        false => "down",
    }
}

/// The applied revision if it is the newest, otherwise the distance to it.
fn applied(node: &Node, newest: Revision) -> String {
    match (&node.applied, node.behind(newest)) {
        (Some(applied), Some(0)) => applied.ack.revision.to_string(),
        (_, Some(behind)) => format!("behind {behind}"),
        (_, None) => String::new(),
    }
}

fn failed(node: &Node) -> usize {
    node.applied.as_ref().map_or(0, |applied| applied.ack.failed.len())
}

fn problems(node: &Node) -> &[Problem] {
    node.applied.as_ref().map_or(&[], |applied| &applied.ack.problems)
}

/// The kinds of its problems, each once.
fn kinds(node: &Node) -> String {
    let mut kinds: Vec<&str> = Vec::new();
    for problem in problems(node) {
        if !kinds.contains(&problem.what.as_str()) {
            kinds.push(&problem.what);
        }
    }
    kinds.join(",")
}

/// All details of a node.
pub(crate) fn show(node: &Node, cluster: &Cluster, now_unix_ms: u64) -> String {
    let peer = &node.peer;
    let epoch = |claim: &PeerClaim| match claim.claimed {
        Revision::ZERO => HIDDEN.to_owned(),
        revision => Epoch { incarnation: cluster.incarnation, revision }.to_string(),
    };
    let ago = |then| format!("{} ago", age(now_unix_ms, then));
    let reported = |what: fn(&Applied) -> Vec<String>| node.applied.as_ref().map(what).unwrap_or_default();
    let mut rows = vec![
        ("name", vec![peer.name.to_string()]),
        ("id", vec![node.node_id.map_or_else(|| HIDDEN.to_owned(), |id| id.to_string())]),
        ("state", vec![state(node)]),
        ("since", vec![ago(node.since_unix_ms)]),
        ("pool", node.claims().map(|(claim, _)| pool(claim, node)).collect()),
        ("prefix", node.claims().map(|(claim, _)| claim.prefix.to_string()).collect()),
        (
            "container prefix",
            node.claims().flat_map(|(_, details)| texts(&details.container_prefixes)).collect(),
        ),
        ("claimed", node.claims().map(|(_, details)| ago(details.claimed_unix_ms)).collect()),
        ("epoch", node.claims().map(|(claim, _)| epoch(claim)).collect()),
        ("next hops", texts(&peer.next_hops)),
        ("uplinks", texts(&node.uplinks)),
        ("agent", agents(node, now_unix_ms)),
        ("seen by peers", seen(node, now_unix_ms)),
        ("agent version", reported(|it| vec![it.version.clone()])),
        ("applied", vec![applied(node, cluster.revision)]),
        ("failed routes", reported(failed_routes)),
        ("conflicts", reported(|it| texts(&it.ack.conflicts))),
        ("problems", problems(node).iter().map(|it| problem(it, now_unix_ms)).collect()),
        ("drain laggards", texts(&node.laggards)),
    ];
    rows.extend(node.ndp.as_ref().map(|ndp| {
        let unknown = |why: &String| vec![format!("unknown: {why}")];
        ("neighbour proxy", ndp.as_ref().map_or_else(unknown, ndp::summary))
    }));
    table::keys(&rows)
}

/// The pool of a claim: `primary` if it is the first of several, with its state if the node is further in another pool, and its
/// phase if that is not the usual one.
fn pool(claim: &PeerClaim, node: &Node) -> String {
    let is_first = node.peer.primary().is_some_and(|primary| primary.pool == claim.pool);
    let primary = (is_first && node.peer.claims.len() > 1).then(|| "primary".to_owned());
    let state = (claim.state != node.state()).then(|| claim.state.to_string());
    let phase = (claim.phase != ClaimPhase::Current).then(|| claim.phase.to_string());
    let more: Vec<_> = primary.into_iter().chain(state).chain(phase).collect();
    if more.is_empty() { claim.pool.to_string() } else { format!("{} ({})", claim.pool, more.join(", ")) }
}

fn problem(problem: &Problem, now_unix_ms: u64) -> String {
    format!("{}: {problem} (since {} ago)", problem.what, age(now_unix_ms, problem.since_unix_ms))
}

fn failed_routes(applied: &Applied) -> Vec<String> {
    let text = |route: &sextant_proto::FailedRoute| format!("{}: {}", route.destination, route.error);
    applied.ack.failed.iter().map(text).collect()
}

fn texts<T: ToString>(items: &[T]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use sextant_proto::NodeState;

    use super::*;
    use crate::answer::sample;

    #[test]
    fn nodes_in_a_table() {
        assert_eq!(
            list(&sample::healthy(), sample::NOW),
            "NAME   STATE  PREFIX             NEXT-HOP     AGENT      APPLIED  SINCE  CONTAINERS\n\
             host1  ready  2001:db8:1::/64    2001:db8::1  connected  42       3m     2001:db8:1::/80\n\
             host2  ready  2001:db8:1:1::/64  2001:db8::2  connected  42       3m     2001:db8:1:1::/80\n\
             host3  ready  2001:db8:1:2::/64  2001:db8::3  connected  42       3m     2001:db8:1:2::/80\n"
        );
    }

    #[test]
    fn container_prefixes_that_are_the_host_prefixes_are_not_repeated() {
        let mut cluster = sample::healthy();
        cluster.nodes.iter_mut().for_each(|node| {
            node.details[0].container_prefixes = vec![node.peer.claims[0].prefix];
        });
        assert!(!list(&cluster, sample::NOW).contains("CONTAINERS"));
        let first = cluster.nodes[0].peer.claims[0].prefix;
        cluster.nodes[0].details[0].container_prefixes.push(first.nth(80, 1).unwrap());
        assert!(!list(&cluster, sample::NOW).contains(":1:0:0/80"), "only the first one");
    }

    #[test]
    fn failures_are_in_the_table() {
        assert_eq!(
            list(&sample::troubled(), sample::NOW),
            "NAME   STATE         PREFIX             NEXT-HOP     AGENT      APPLIED   SINCE  CONTAINERS         FAILED\n\
             host1  ready         2001:db8:1::/64    2001:db8::1  connected  42        3m     2001:db8:1::/80    0\n\
             host2  ready (down)  2001:db8:1:1::/64  2001:db8::2  down       -         3m     2001:db8:1:1::/80  0\n\
             host3  ready         2001:db8:1:2::/64  2001:db8::3  connected  behind 2  3m     2001:db8:1:2::/80  1\n"
        );
    }

    #[test]
    fn problems_are_in_the_table_and_with_the_node() {
        let mut cluster = sample::troubled();
        sample::lose_bridge(&mut cluster.nodes[0]);
        let problems = &mut cluster.nodes[0].applied.as_mut().unwrap().ack.problems;
        problems.push(Problem { saw: "bridge \"docker1\" does not exist".into(), ..problems[0].clone() });
        let listed = list(&cluster, sample::NOW);
        let last: Vec<_> = listed.lines().map(|line| line.split("  ").last().unwrap().trim()).collect();
        assert_eq!(last, ["PROBLEMS", "bridge-missing", "-", "-"]);
        assert!(listed.contains("FAILED"), "{listed}");
        let shown = show(&cluster.nodes[0], &cluster, sample::NOW);
        let line = "problems          bridge-missing: bridge \"docker0\" does not exist; start the container engine (since 2m ago)\n";
        assert!(shown.contains(line), "{shown}");
    }

    #[test]
    fn the_observation_of_the_peers_is_shown() {
        let mut cluster = sample::troubled();
        let seen = [
            (
                Liveness::Forwarding,
                "ready (forwarding without agent)",
                "forwarding without agent, since 2m ago",
            ),
            (Liveness::Dead, "ready (dead)", "dead, since 2m ago"),
            (Liveness::Unknown, "ready (down)", "-"),
        ];
        for (liveness, in_list, in_show) in seen {
            let host2 = &mut cluster.nodes[1];
            (host2.liveness, host2.liveness_since_unix_ms) = (liveness, sample::NOW - 120_000);
            assert!(
                list(&cluster, sample::NOW).contains(&format!("host2  {in_list}  2001:")),
                "{liveness:?}"
            );
            let shown = show(&cluster.nodes[1], &cluster, sample::NOW);
            assert!(shown.contains(&format!("seen by peers     {in_show}\n")), "{shown}");
        }
    }

    #[test]
    fn what_is_answered_for_is_shown_if_it_was_asked_for() {
        let mut cluster = sample::healthy();
        assert!(!show(&cluster.nodes[0], &cluster, sample::NOW).contains("neighbour proxy"));
        cluster.nodes[0].ndp = Some(Ok(sample::ndp()));
        let shown = show(&cluster.nodes[0], &cluster, sample::NOW);
        assert!(shown.contains("neighbour proxy   mode prefix, answer live"), "{shown}");
        cluster.nodes[0].ndp = Some(Err("the agent of node \"host1\" did not answer".into()));
        let shown = show(&cluster.nodes[0], &cluster, sample::NOW);
        assert!(shown.contains("neighbour proxy   unknown: the agent of node"), "{shown}");
    }

    #[test]
    fn the_primary_one_of_several_claims_is_marked() {
        let mut cluster = sample::healthy();
        let node = &mut cluster.nodes[0];
        let ula = PeerClaim {
            pool: "ula".parse().unwrap(),
            state: NodeState::Joining,
            ..node.peer.claims[0].clone()
        };
        node.peer.claims.push(ula);
        node.details.push(node.details[0].clone());
        let shown = show(&cluster.nodes[0], &cluster, sample::NOW);
        assert!(
            shown.contains("pool              main (primary)\n                  ula (joining)\n"),
            "{shown}"
        );
    }

    #[test]
    fn id_and_epoch_are_shown_as_hidden_to_a_viewer() {
        let mut cluster = sample::troubled();
        cluster.nodes[2].node_id = None;
        cluster.nodes[2].peer.claims[0].claimed = Revision::ZERO;
        let shown = show(&cluster.nodes[2], &cluster, sample::NOW);
        assert!(shown.contains("id                (hidden)\n"), "{shown}");
        assert!(shown.contains("epoch             (hidden)\n"), "{shown}");
    }

    #[test]
    fn one_node() {
        let cluster = sample::troubled();
        assert_eq!(
            show(&cluster.nodes[2], &cluster, sample::NOW),
            "name              host3\n\
             id                00000000000000000000000000000003\n\
             state             ready\n\
             since             3m ago\n\
             pool              main\n\
             prefix            2001:db8:1:2::/64\n\
             container prefix  2001:db8:1:2::/80\n\
             claimed           2h ago\n\
             epoch             13@000000000000000000000000000000ff\n\
             next hops         2001:db8::3\n\
             uplinks           eth0 2001:db8::3/64\n\
             agent             connected\n\
             seen by peers     -\n\
             agent version     0.1.0\n\
             applied           behind 2\n\
             failed routes     2001:db8:1:1::/64: File exists\n\
             conflicts         2001:db8:1::/64 proto static metric 100 via fe80::1 dev eth0: theirs wins\n\
             problems          -\n\
             drain laggards    -\n"
        );
    }
}
