//! A real Prometheus in the switch's namespace.

use std::{collections::BTreeSet, fs, path::Path};

use sextant_tests::{Host, Lab, Process, SECONDS, poll};

const URL: &str = "http://[::1]:9090";

pub struct Prometheus {
    _process: Process,
}

impl Prometheus {
    /// Starts it with the rules of `deploy/prometheus`, of which each waits a thirtieth of its time.
    pub fn start(lab: &Lab, hosts: &[Host], controller: &str) -> Self {
        let dir = lab.dir().join("prometheus");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("alerts.yml"), hastened()).unwrap();
        let agents: Vec<_> = hosts.iter().map(|host| format!("'[{}]:7302'", host.address())).collect();
        let config = format!(
            "global:\n  scrape_interval: 500ms\n  scrape_timeout: 400ms\n  evaluation_interval: 500ms\nrule_files: [alerts.yml]\nscrape_configs:\n  \
             - job_name: sextant-agent\n    static_configs:\n      - targets: [{}]\n  \
             - job_name: sextant-controller\n    static_configs:\n      - targets: ['{controller}']\n",
            agents.join(", ")
        );
        fs::write(dir.join("prometheus.yml"), config).unwrap();
        let words = [
            "prometheus".to_owned(),
            format!("--config.file={}", dir.join("prometheus.yml").display()),
            format!("--storage.tsdb.path={}", dir.join("data").display()),
            "--web.listen-address=[::1]:9090".to_owned(),
        ];
        let prometheus = Self { _process: lab.switch().spawn("prometheus", &words).unwrap() };
        poll("Prometheus has seen all", 30 * SECONDS, || {
            let up = query(lab, "sum(up)")?;
            anyhow::ensure!(up.contains(&format!("=> {} ", hosts.len() + 1)), "{up}");
            Ok(())
        });
        prometheus
    }
}

/// The rules with a thirtieth of their times.
fn hastened() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/prometheus/alerts.yml");
    let text = fs::read_to_string(path).unwrap();
    let line = |line: &str| match line.trim().strip_prefix("for: ") {
        Some(time) => {
            let minutes: u32 = time.trim_end_matches('m').parse().unwrap();
            format!("        for: {}s\n", 2 * minutes)
        }
        None => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

fn query(lab: &Lab, expression: &str) -> anyhow::Result<String> {
    lab.switch().check(&["promtool", "query", "instant", URL, expression])
}

/// The names of the alerts in `expression`.
fn names(lab: &Lab, expression: &str) -> anyhow::Result<BTreeSet<String>> {
    let found = query(lab, expression)?;
    let name = |line: &str| Some(line.split_once("alertname=\"")?.1.split('"').next()?.to_owned());
    Ok(found.lines().filter_map(name).collect())
}

/// The alerts that fire now.
pub fn firing(lab: &Lab) -> anyhow::Result<BTreeSet<String>> {
    names(lab, "ALERTS{alertstate=\"firing\"}")
}

/// The alerts that have fired in the last quarter of an hour.
pub fn fired(lab: &Lab) -> BTreeSet<String> {
    names(lab, "max_over_time(ALERTS{alertstate=\"firing\"}[15m])").unwrap()
}
