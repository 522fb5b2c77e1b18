//! A controller without its store: status reports the store first, and no agent.

use std::time::Instant;

use serde_json::Value;
use sextant_tests::{AgentOptions, Controller, ControllerOptions, Host, Lab, SECONDS, poll};

/// After how much silence an agent counts as down, in these tests.
const DOWN_AFTER: &str = "2";
/// The controller on a host of its own, which can be cut from etcd; and the one beside etcd.
const APART: u16 = 3;
const BESIDE: u16 = 1;
/// What says of a node that its agent or host is gone.
const BLAMED: [&str; 3] = ["node_down", "node_never_came", "node_silent"];

struct Status {
    code: i32,
    text: String,
    json: Value,
}

impl Status {
    fn of(lab: &Lab, number: u16) -> Self {
        let (table, json) = (
            lab.cli_of(number, &["status"]).unwrap(),
            lab.cli_of(number, &["-o", "json", "status"]).unwrap(),
        );
        let json = serde_json::from_str(&json.stdout).unwrap_or_else(|error| panic!("{error}: {json:?}"));
        Self { code: table.code, text: table.stdout, json }
    }

    fn troubles(&self, kind: &str) -> Vec<&Value> {
        self.json["troubles"].as_array().unwrap().iter().filter(|trouble| trouble["kind"] == kind).collect()
    }

    fn blames_no_agent(&self) {
        assert!(BLAMED.iter().all(|kind| self.troubles(kind).is_empty()), "{}", self.text);
    }

    /// The controller that was asked has no store; `since` is not before `earliest`.
    fn says_that_the_store_is_gone(&self, earliest_unix_ms: u64) {
        let mut lines = self.text.lines();
        assert!(lines.next().unwrap().starts_with("Not all is well: "), "{}", self.text);
        let first = lines.next().unwrap();
        let words = ["(queried): store unavailable: etcd:", "start etcd, or restore the network", "(since "];
        assert!(words.iter().all(|word| first.contains(word)), "{}", self.text);
        assert_eq!(
            (self.code, &self.json["well"], &self.json["stale"]),
            (5, &Value::from(false), &Value::from(true))
        );
        let own = &self.json["troubles"][0];
        assert_eq!((&own["kind"], &own["what"]), (&"controller_problem".into(), &"store-unavailable".into()));
        assert!(own["since_unix_ms"].as_u64().unwrap() >= earliest_unix_ms, "{own}");
        let nodes = self.json["nodes"].as_array().unwrap();
        assert!(
            nodes.len() == 2
                && nodes.iter().all(|node| node["connected"].is_null() && node["down"].is_null()),
            "{nodes:?}"
        );
        assert!(self.text.contains("2 ready (agent unknown)"), "{}", self.text);
        self.blames_no_agent();
    }
}

/// Waits until the cluster is healthy; no agent is blamed meanwhile.
fn recovers(lab: &Lab, number: u16) {
    poll(&format!("healthy by controller {number}"), 30 * SECONDS, || {
        let status = Status::of(lab, number);
        status.blames_no_agent();
        is_well(&status)
    });
}

fn is_well(status: &Status) -> Result<(), String> {
    let controllers = status.json["controllers"].as_array().unwrap();
    let well = status.code == 0
        && status.text.starts_with("All is well: 2 nodes.\n\n")
        && controllers.len() == 2
        && controllers.iter().all(|it| it["problems"].as_array().unwrap().is_empty())
        && status.json["nodes"].as_array().unwrap().iter().all(|node| node["connected"] == true);
    if well { Ok(()) } else { Err(status.text.clone()) }
}

fn now_unix_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    since.as_millis().try_into().unwrap()
}

fn controller(lab: &Lab, number: u16, host: Option<&Host>, store: &str) -> Controller {
    let args = ["--down-after", DOWN_AFTER].map(str::to_owned).to_vec();
    let (host, store) = (host.cloned(), Some(store.to_owned()));
    lab.controller(ControllerOptions { number, host, store, args, ..ControllerOptions::default() }).unwrap()
}

/// Lets nothing of etcd through to `host`.
fn cut_from_etcd(host: &Host) {
    let rules = "add table ip6 cut; add chain ip6 cut in { type filter hook input priority 0; }; \
                 add rule ip6 cut in tcp sport 2379 drop";
    host.check(&["nft", rules]).unwrap();
}

#[test]
fn a_controller_without_its_store_reports_the_store_and_no_agent() {
    let lab = Lab::new("no store").unwrap();
    let mut etcd = lab.etcd(1, &[]).unwrap();
    let (apart, hosts) = (lab.host("c3").unwrap(), lab.hosts(2).unwrap());
    let controllers =
        [controller(&lab, APART, Some(&apart), &etcd.store()), controller(&lab, BESIDE, None, &etcd.store())];
    controllers.iter().for_each(|it| it.wait_ready(30 * SECONDS).unwrap());
    lab.cli(&["pool", "add", "main", "2001:db8:8000::/40", "--host-len", "64"]).unwrap().succeeded().unwrap();
    let agent = |(host, controllers): (&Host, Vec<u16>)| {
        lab.agent(host, AgentOptions { controllers, ..AgentOptions::default() }).unwrap()
    };
    let _agents: Vec<_> = hosts.iter().zip([vec![APART, BESIDE], vec![BESIDE, APART]]).map(agent).collect();
    poll("both nodes are ready", 30 * SECONDS, || {
        let nodes = lab.cli_json(&["node", "list"])?;
        let ready = nodes.as_array().into_iter().flatten().filter(|node| node["state"] == "ready").count();
        anyhow::ensure!(ready == 2, "{nodes}");
        anyhow::Ok(())
    });
    [APART, BESIDE].into_iter().for_each(|number| recovers(&lab, number));

    // Cut from one of the two controllers: that one knows at once, the other one as soon as it asks.
    let (cut, began) = (Instant::now(), now_unix_ms());
    cut_from_etcd(&apart);
    Status::of(&lab, APART).says_that_the_store_is_gone(began);
    while cut.elapsed() < 8 * SECONDS {
        Status::of(&lab, APART).says_that_the_store_is_gone(began);
        let seen = Status::of(&lab, BESIDE);
        let reported = seen.troubles("controller_problem");
        let words = ["[2001:db8::c:3]:7300: store unavailable: etcd:", "start etcd"];
        assert!(
            reported.len() == 1
                && words.iter().all(|word| reported[0]["text"].as_str().unwrap().contains(word)),
            "{}",
            seen.text
        );
        assert!(
            seen.code == 0
                && seen.json["stale"] == false
                && seen.json["controllers"].as_array().unwrap().len() == 2,
            "{}",
            seen.text
        );
        seen.blames_no_agent();
    }
    apart.check(&["nft", "delete table ip6 cut"]).unwrap();
    [APART, BESIDE].into_iter().for_each(|number| recovers(&lab, number));

    // Dead for all.
    let (dead, began) = (Instant::now(), now_unix_ms());
    etcd.kill().unwrap();
    while dead.elapsed() < 6 * SECONDS {
        [APART, BESIDE]
            .into_iter()
            .for_each(|number| Status::of(&lab, number).says_that_the_store_is_gone(began));
    }
    etcd.restart(&lab).unwrap();
    [APART, BESIDE].into_iter().for_each(|number| recovers(&lab, number));

    // A controller that is frozen is named, until its record in the store ends. Its agent may be on its way to the other one.
    controllers[1].process.freeze().unwrap();
    let seen = Status::of(&lab, APART);
    let words = ["Not all is well: ", "controller-silent", "[2001:db8::c:1]:7300: does not answer"];
    assert!(words.iter().all(|word| seen.text.contains(word)), "{}", seen.text);
    controllers[1].process.thaw().unwrap();
    // Its agent may have moved, which takes a while.
    poll("the cluster is healthy again", 30 * SECONDS, || is_well(&Status::of(&lab, APART)));
}
