//! The whole cluster for people: the first line states whether it is healthy, the next ones the problems of the queried
//! controller.

use std::collections::BTreeMap;

use sextant_proto::counted;

use super::{
    age,
    alike::{Line, folded},
    nodes,
    phrases::{one_line, some_names},
    pools, table,
};
use crate::{
    answer::{Backups, Cluster, Controller, PoolUse, Revoked},
    troubles::{Trouble, troubles},
};

/// The problems of the queried controller, the facts, then all other problems.
pub(crate) fn status(cluster: &Cluster, now_unix_ms: u64) -> String {
    let troubles = troubles(cluster);
    let (own, others): (Vec<_>, Vec<_>) =
        troubles.iter().partition(|trouble| matches!(trouble, Trouble::Controller { asked: true, .. }));
    let own = lines(&own, now_unix_ms);
    let stale = if cluster.stale { "\nLast known state:\n" } else { "\n" };
    let list = lines(&others, now_unix_ms);
    let list = if list.is_empty() { list } else { format!("\nNeeds attention:\n{list}") };
    format!("{}\n{own}{stale}{}{list}", headline(cluster, &troubles), facts(cluster, now_unix_ms))
}

/// A line for each problem; alike problems of a node share one.
fn lines(troubles: &[&Trouble], now_unix_ms: u64) -> String {
    let keyed = |it: &&Trouble| {
        let key = it.node().map(|node| (node.clone(), it.kind(), it.what().map(str::to_owned)));
        (key, one_line(&it.to_string()))
    };
    let keyed: Vec<_> = troubles.iter().map(keyed).collect();
    let line = |line: Line| {
        let first = line.parts.iter().filter_map(|at| troubles[*at].since_unix_ms()).min();
        let since = first.map(|since| format!(" (since {} ago)", age(now_unix_ms, since)));
        format!("  {}{}\n", line.text, since.unwrap_or_default())
    };
    folded(&keyed).into_iter().map(line).collect()
}

fn headline(cluster: &Cluster, troubles: &[Trouble]) -> String {
    match (troubles.len(), cluster.nodes.len()) {
        (0, 0) => "All is well: no node has joined yet.".into(),
        (0, nodes) => format!("All is well: {}.", counted(nodes, "node")),
        (problems, _) => format!("Not all is well: {}.", counted(problems, "problem")),
    }
}

fn facts(cluster: &Cluster, now_unix_ms: u64) -> String {
    let routers = (!cluster.routers.is_empty()).then(|| ("routers", vec![routers(cluster)]));
    let facts = [
        ("cluster", vec![cluster.name.clone()]),
        ("store", store(cluster)),
        ("incarnation", vec![cluster.incarnation.to_string()]),
        ("revision", vec![cluster.revision.to_string()]),
        ("controllers", cluster.controllers.iter().map(controller).collect()),
        ("pools", cluster.pools.iter().map(pool).collect()),
        ("nodes", vec![by_state(cluster)]),
    ];
    let backups = cluster.backups.as_ref().map(|it| ("backups", vec![backups(it, now_unix_ms)]));
    let revoked = cluster.revoked.iter().map(|it| revoked(it, now_unix_ms)).collect::<Vec<_>>();
    let revoked = (!revoked.is_empty()).then_some(("revoked", revoked));
    let plain = (cluster.tls == "warn").then(|| ("plain text", plain(&cluster.plain)));
    let more = routers.into_iter().chain(backups).chain(revoked).chain(plain);
    table::keys(&facts.into_iter().chain(more).collect::<Vec<_>>())
}

fn revoked(revoked: &Revoked, now_unix_ms: u64) -> String {
    let Revoked { node, by, since_unix_ms } = revoked;
    format!("{node}, by {by} {} ago", age(now_unix_ms, *since_unix_ms))
}

/// Who uses plain text as long as it is taken beside TLS.
fn plain(plain: &[String]) -> Vec<String> {
    if plain.is_empty() {
        return vec![
            "taken beside TLS, and no agent or controller uses it: set tls-mode = \"strict\"".to_owned(),
        ];
    }
    std::iter::once("taken beside TLS, and used by:".to_owned()).chain(plain.iter().cloned()).collect()
}

/// An open recovery window is no problem, but it explains why nothing is deleted.
fn store(cluster: &Cluster) -> Vec<String> {
    let recovering =
        "recovery window open: routes to nodes that have not registered yet are kept until it closes";
    let note = cluster.recovering.then(|| recovering.to_owned());
    std::iter::once(cluster.store.clone()).chain(note).collect()
}

fn backups(backups: &Backups, now_unix_ms: u64) -> String {
    let last = match backups.last_unix_ms {
        0 => "none yet".to_owned(),
        last => format!("last {} ago", age(now_unix_ms, last)),
    };
    format!("every {} to {}, {last}", humantime::format_duration(backups.every), backups.directory)
}

fn controller(controller: &Controller) -> String {
    let kinds = controller.problems.iter().map(|problem| format!(", {}", problem.what)).collect::<String>();
    format!("{} at {}, version {}{kinds}", controller.id, controller.address, controller.version)
}

fn pool(used: &PoolUse) -> String {
    let pool = &used.pool;
    let full = if used.claimed >= used.capacity { ": full" } else { "" };
    format!("{} {}, {} claimed{full}", pool.name, pool.prefix, pools::claimed(used))
}

/// The names of the agents that route to all nodes and hold no prefix.
fn routers(cluster: &Cluster) -> String {
    let names: Vec<_> = cluster.routers.iter().map(|router| router.name.clone()).collect();
    some_names(&names)
}

fn by_state(cluster: &Cluster) -> String {
    let mut states: BTreeMap<_, (String, usize)> = BTreeMap::new();
    for node in &cluster.nodes {
        let state = states.entry((node.state(), node.down, node.liveness));
        state.or_insert_with(|| (nodes::state(node), 0)).1 += 1;
    }
    let parts: Vec<_> = states.values().map(|(state, n)| format!("{n} {state}")).collect();
    match parts.as_slice() {
        [] => counted(0_usize, "node"),
        parts => parts.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::sample;

    #[test]
    fn a_full_pool_is_marked() {
        let mut cluster = sample::healthy();
        cluster.pools[0].claimed = cluster.pools[0].capacity;
        let text = status(&cluster, sample::NOW);
        assert!(text.contains("65536 of 65536 claimed: full\n") && text.starts_with("All is well"), "{text}");
    }

    #[test]
    fn a_healthy_cluster() {
        assert_eq!(
            status(&sample::healthy(), sample::NOW),
            "All is well: 3 nodes.\n\
             \n\
             cluster      default\n\
             store        embedded:/var/lib/sextant/controller/controller.redb\n\
             incarnation  000000000000000000000000000000ff\n\
             revision     42\n\
             controllers  c1 at [::1]:7300, version 0.1.0\n\
             pools        main 2001:db8:1::/48, 3 of 65536 claimed\n\
             nodes        3 ready\n"
        );
    }

    #[test]
    fn revoked_nodes_and_users_of_plain_text_are_listed() {
        let mut cluster = sample::healthy();
        sample::revoke(&mut cluster, 1);
        cluster.tls = "warn".into();
        let text = status(&cluster, sample::NOW);
        assert!(text.contains("\nrevoked      host2, by admin ann at 2001:db8::5 3m ago\n"), "{text}");
        assert!(
            text.contains("\nplain text   taken beside TLS, and no agent or controller uses it"),
            "{text}"
        );
        assert!(text.contains("node host2 is revoked, but holds its claim"), "{text}");
        cluster.plain = vec!["node host1".into(), "controller c2 at [::1]:7300".into()];
        let text = status(&cluster, sample::NOW);
        let lines = "plain text   taken beside TLS, and used by:\n             node host1\n             controller c2 at";
        assert!(text.contains(lines), "{text}");
        cluster.tls = "strict".into();
        assert!(!status(&cluster, sample::NOW).contains("plain text"));
    }

    #[test]
    fn automatic_backups_are_shown_and_their_failure_is_a_problem() {
        let mut cluster = sample::healthy();
        let mut backups = sample::backups();
        backups.last_unix_ms = sample::NOW - 300_000;
        cluster.backups = Some(backups.clone());
        let text = status(&cluster, sample::NOW);
        let line = "\nbackups      every 1h to /var/lib/sextant/controller/backups, last 5m ago\n";
        assert!(text.starts_with("All is well: ") && text.ends_with(line), "{text}");
        backups.failing = "backup directory \"/b\": it cannot be read: gone".into();
        cluster.backups = Some(backups);
        let text = status(&cluster, sample::NOW);
        assert!(text.starts_with("Not all is well: 1 problem."), "{text}");
        assert!(
            text.contains(
                "  automatic backups fail: backup directory \"/b\": it cannot be read: gone; make "
            ),
            "{text}"
        );
    }

    #[test]
    fn problems_come_last() {
        let text = status(&sample::troubled(), sample::NOW);
        let (facts, problems) = text.split_once("\nNeeds attention:\n").unwrap();
        assert!(facts.starts_with("Not all is well: 4 problems.\n\n"), "{text}");
        assert!(facts.ends_with("nodes        2 ready, 1 ready (down)\n"), "{text}");
        assert_eq!(
            problems,
            "  \
             node host2 is ready, but its agent is not connected; start sextant-agent there, or run `sextant node forget host2` if the host is gone for good\n  \
             node host3 is behind by 2 revisions; if this persists, see the log of sextant-agent there\n  \
             node host3: route 2001:db8:1:1::/64 failed: File exists\n  \
             node host3: conflict with 2001:db8:1::/64 proto static metric 100 via fe80::1 dev eth0: theirs wins, so packets to node host1 take it; unless this is intended, see on that host: ip -6 route show table all 2001:db8:1::/64; if the route leads to an interface of that host, keep it and give the containers or hosts there another prefix; otherwise remove it where it is configured\n"
        );
    }

    #[test]
    fn a_problem_of_a_host_is_shown_with_its_age_and_fix() {
        let mut cluster = sample::healthy();
        sample::lose_bridge(&mut cluster.nodes[1]);
        let text = status(&cluster, sample::NOW);
        assert!(text.starts_with("Not all is well: 1 problem.\n"), "{text}");
        let line =
            "\n  node host2: bridge \"docker0\" does not exist; start the container engine (since 2m ago)\n";
        assert!(text.ends_with(line), "{text}");
    }

    /// The number in the first line is that of all problems.
    #[test]
    fn alike_problems_of_a_node_are_one_line() {
        let mut cluster = sample::healthy();
        sample::lose_bridge(&mut cluster.nodes[1]);
        let problems = &mut cluster.nodes[1].applied.as_mut().unwrap().ack.problems;
        let first = problems[0].clone();
        for n in 1..16 {
            let saw = first.saw.replace("docker0", &format!("br{n}"));
            problems.push(sextant_proto::Problem {
                saw,
                since_unix_ms: first.since_unix_ms + n,
                ..first.clone()
            });
        }
        cluster.nodes[2].applied = cluster.nodes[1].applied.clone();
        let text = status(&cluster, sample::NOW);
        let (head, lines) = text.split_once("\nNeeds attention:\n").unwrap();
        assert!(head.starts_with("Not all is well: 32 problems.\n"), "{text}");
        let likewise = "br1, br2, br3, br4, br5, br6, br7, br8, br9, br10 and 5 more";
        let line = |node| {
            format!(
                "  node {node}: bridge \"docker0\" does not exist; start the container engine (15 more like this: \
                 {likewise}) (since 2m ago)\n"
            )
        };
        assert_eq!(lines, format!("{}{}", line("host2"), line("host3")));
    }

    #[test]
    fn a_lost_store_comes_first_and_no_node_is_blamed() {
        let mut cluster = sample::troubled();
        sample::lose_store(&mut cluster);
        cluster.silent.push("host2".parse().unwrap());
        cluster.nodes.truncate(2);
        assert_eq!(
            status(&cluster, sample::NOW),
            "Not all is well: 1 problem.\n  \
             controller c1 at [::1]:7300 (queried): store unavailable: etcd:http://e:2379 gave no answer within 2s; \
             start etcd (since 5s ago)\n\
             \n\
             Last known state:\n\
             cluster      default\n\
             store        embedded:/var/lib/sextant/controller/controller.redb\n             \
             recovery window open: routes to nodes that have not registered yet are kept until it closes\n\
             incarnation  000000000000000000000000000000ff\n\
             revision     42\n\
             controllers  c1 at [::1]:7300, version 0.1.0, store-unavailable\n\
             pools        main 2001:db8:1::/48, 3 of 65536 claimed\n\
             nodes        2 ready (agent unknown)\n"
        );
    }

    #[test]
    fn an_empty_cluster_needs_a_pool() {
        let mut cluster = sample::healthy();
        cluster.nodes.clear();
        assert!(status(&cluster, sample::NOW).starts_with("All is well: no node has joined yet.\n"));
        cluster.pools.clear();
        let text = status(&cluster, sample::NOW);
        assert!(text.starts_with("Not all is well: 1 problem.\n"), "{text}");
        assert!(text.contains("nodes        0 nodes\n"), "{text}");
        assert!(text.contains("  there is no pool; add one: sextant pool add"), "{text}");
    }
}
