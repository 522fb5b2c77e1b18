//! A cluster with containers, in which conditions are caused and their fixes carried out.

use std::fs;

use sextant_proto::Prefix;
use sextant_tests::{
    AgentOptions, Container, ControllerOptions, Host, SECONDS, expect_text, ping_matrix, poll,
};

use crate::cluster::{Cluster, GUIDE};

/// The programs of which a fix may name commands.
const PROGRAMS: [&str; 4] = ["ip ", "sysctl -w ", "sextant ", "grep "];

pub struct Bed {
    pub cluster: Cluster,
    pub containers: Vec<Container>,
    renewed: u32,
}

impl Bed {
    /// Two hosts with a container each. `prepare` changes the hosts before their agents start with these settings.
    pub fn start(test: &str, settings: [&str; 2], prepare: impl FnOnce(&Cluster)) -> Self {
        let mut bed =
            Self { cluster: Cluster::without_agents(test, 2, GUIDE), containers: Vec::new(), renewed: 0 };
        // Without a recovery window (DESIGN I6), agents remove routes for earlier settings at once.
        bed.cluster.controller = None;
        let args = ["--recovery-window", "0", "--down-after", "5"].map(str::to_owned).to_vec();
        bed.cluster.start_controller(ControllerOptions { args, ..ControllerOptions::default() });
        prepare(&bed.cluster);
        for (index, text) in settings.into_iter().enumerate() {
            let options = bed.options(index, text);
            bed.cluster.start_agent_with(index, options);
        }
        bed.cluster.settle();
        bed.containers = bed.cluster.hosts.iter().map(|host| host.container("c").unwrap()).collect();
        bed
    }

    /// As [`Bed::start`], with the uplink in the settings and nothing to prepare; all is well.
    pub fn well(test: &str) -> Self {
        let bed = Self::start(test, ["uplink.interface = \"eth0\""; 2], |_| ());
        bed.expect_well();
        bed
    }

    fn options(&self, index: usize, settings: &str) -> AgentOptions {
        let file = self.cluster.lab.dir().join(format!("{index}.toml"));
        fs::write(&file, settings).unwrap();
        let args = ["--config".to_owned(), file.display().to_string()].to_vec();
        let bridge_create = !settings.contains("bridge.create");
        let (uplink, bridge) = (String::new(), String::new());
        AgentOptions { uplink, bridge, bridge_create, args, ..AgentOptions::default() }
    }

    pub fn host(&self, index: usize) -> &Host {
        &self.cluster.hosts[index]
    }

    /// Writes agent.toml of a host, and restarts its agent.
    pub fn restart(&mut self, index: usize, settings: &str) {
        self.stop(index);
        self.start_again(index, settings);
    }

    pub fn stop(&self, index: usize) {
        self.cluster.agents[index].process.terminate(10 * SECONDS).unwrap();
    }

    pub fn start_again(&mut self, index: usize, settings: &str) {
        self.start_as(index, self.options(index, settings));
    }

    fn start_as(&mut self, index: usize, options: AgentOptions) {
        self.cluster.agents[index] = self.cluster.lab.agent(self.host(index), options).unwrap();
    }

    /// Waits until status has a trouble with these words; returns its text.
    pub fn expect(&self, words: &str) -> String {
        poll(&format!("status names {words}"), 40 * SECONDS, || {
            let status = self.cluster.lab.cli_json(&["status"])?;
            let troubles = status["troubles"].as_array().into_iter().flatten();
            let texts: Vec<_> = troubles.filter_map(|it| it["text"].as_str()).map(str::to_owned).collect();
            let found = texts.iter().find(|text| text.contains(words)).cloned();
            found.ok_or_else(|| anyhow::anyhow!("{texts:#?}"))
        })
    }

    /// Waits until the agent of a host that is not ready names the condition at `/readyz`; returns the text.
    pub fn expect_unready(&self, index: usize, words: &str) -> String {
        poll(&format!("/readyz names {words}"), 20 * SECONDS, || {
            match self.cluster.agents[index].http("/readyz")? {
                (503, body) if body.contains(words) => anyhow::Ok(body),
                other => anyhow::bail!("{other:?}"),
            }
        })
    }

    /// Carries a command out on a host; `sextant` in its place.
    pub fn run(&self, index: usize, command: &str) {
        if let Some(args) = command.strip_prefix("sextant ") {
            self.cluster.sextant(&args.split(' ').collect::<Vec<_>>());
        } else {
            self.host(index).check(&["sh", "-c", command]).unwrap();
        }
    }

    /// Nothing is reported, and the containers reach each other.
    pub fn expect_well(&self) {
        poll("all is well", 40 * SECONDS, || {
            let text = self.cluster.sextant(&["status"]);
            if text.starts_with("All is well") { Ok(()) } else { Err(text) }
        });
        self.expect_reached();
    }

    /// A host has another prefix: its container is created again.
    pub fn renew_container(&mut self, index: usize) {
        let prefix = self.cluster.prefix(self.host(index).name());
        self.renew_in(index, prefix);
    }

    /// As [`Bed::renew_container`], in the prefix of this pool.
    pub fn renew_container_in(&mut self, index: usize, pool: &str) {
        let node = self.cluster.node(self.host(index).name());
        let claims = node["claims"].as_array().unwrap_or_else(|| panic!("{node}"));
        let claim = claims.iter().find(|claim| claim["pool"] == pool).unwrap_or_else(|| panic!("{node}"));
        self.renew_in(index, claim["host_prefix"].as_str().unwrap().parse().unwrap());
    }

    fn renew_in(&mut self, index: usize, prefix: Prefix) {
        self.renewed += 1;
        let name = format!("c{}", self.renewed);
        self.containers[index] = self.host(index).container_in(&name, prefix).unwrap();
    }

    pub fn expect_reached(&self) {
        expect_text("all pings answered", 10 * SECONDS, "", || ping_matrix(&self.containers));
    }

    /// As [`Bed::expect_well`], and all routes are those of the switched topology.
    pub fn expect_healed(&self) {
        self.expect_well();
        self.cluster.expect_full_mesh();
    }
}

/// The commands of a fix, in their order: in backquotes, or up to the next comma, semicolon or parenthesis.
pub fn commands(text: &str) -> Vec<&str> {
    let (mut found, mut rest) = (Vec::new(), text);
    while let Some((from, end)) = next_command(rest) {
        found.push(rest[from..end].trim().trim_end_matches('.'));
        rest = &rest[end..];
    }
    found
}

fn next_command(text: &str) -> Option<(usize, usize)> {
    let begins = |(at, _): &(usize, char)| {
        let before = text[..*at].chars().next_back();
        before.is_none_or(|it| it == '`' || it == ' ')
            && PROGRAMS.iter().any(|it| text[*at..].starts_with(it))
    };
    let (from, _) = text.char_indices().find(begins)?;
    let quoted = text[..from].ends_with('`');
    let ends = |it: char| if quoted { it == '`' } else { [',', ';', '(', ')'].contains(&it) };
    Some((from, text[from..].find(ends).map_or(text.len(), |len| from + len)))
}

/// The line of agent.toml that a fix names: after `key`, its value in the fix, or `value` if the operator is to choose it.
pub fn setting(text: &str, key: &str, value: &str) -> String {
    let words = match key.rsplit_once('.') {
        Some((section, name)) => format!("[{section}] {name}"),
        None => key.to_owned(),
    };
    assert!(text.contains("agent.toml"), "{text}");
    if let Some((_, rest)) = text.split_once(&format!("{words} = ")) {
        let ends = |it: char| if rest.starts_with('[') { it == ']' } else { [' ', ',', ';'].contains(&it) };
        let end = rest.find(ends).unwrap_or(rest.len());
        let bracket = if rest.starts_with('[') { "]" } else { "" };
        return format!("{key} = {}{bracket}", &rest[..end]);
    }
    assert!(text.contains(&words), "no {words} in {text}");
    format!("{key} = {value}")
}
