//! Each alert fires after its time and not before, and its texts name what is concerned: `promtool test rules` with made-up values.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

/// The alert, the series with its value in each minute, what the alert's labels or texts must have, and its minutes.
const ALERTS: &[(&str, &str, &str, &str, u32)] = &[
    ("SextantAgentDown", "up{job=\"sextant-agent\",instance=\"h1\"}", "0", "h1", 2),
    ("SextantHostDead", "sextant_agent_peers_dead{instance=\"h1\"}", "2", "2 hosts", 1),
    (
        "SextantHostWithoutAgent",
        "sextant_agent_peers_forwarding_without_agent{instance=\"h1\"}",
        "1",
        "1 hosts",
        5,
    ),
    ("SextantRoutesFailed", "sextant_agent_routes_failed{instance=\"h1\"}", "3", "3 routes", 1),
    ("SextantAgentDisconnected", "sextant_agent_connected{instance=\"h1\"}", "0", "h1", 2),
    ("SextantHostNotSetUp", "sextant_agent_ready{instance=\"h1\"}", "0", "h1", 5),
    ("SextantProblems", "sextant_agent_problems{instance=\"h1\"}", "1", "1 problems", 10),
    ("SextantControllerDown", "up{job=\"sextant-controller\",instance=\"c1\"}", "0", "c1", 2),
    ("SextantStoreUnreachable", "sextant_controller_store_ready{instance=\"c1\"}", "0", "c1", 1),
    ("SextantAgentsBehind", "sextant_controller_agents_behind{instance=\"c1\"}", "4", "4 agents", 5),
    (
        "SextantCertificateEnds",
        "sextant_agent_certificate_end_timestamp_seconds{instance=\"h1\"}",
        "14000",
        "h1",
        10,
    ),
    (
        "SextantCertificateEnds",
        "sextant_controller_certificate_end_timestamp_seconds{instance=\"c1\"}",
        "1200000",
        "c1",
        10,
    ),
    (
        "SextantCertificateEnds",
        "sextant_controller_issuing_certificate_end_timestamp_seconds{instance=\"c1\"}",
        "1200000",
        "c1",
        10,
    ),
    ("SextantBackupFailing", "sextant_controller_backup_failing{instance=\"c1\"}", "1", "c1", 5),
];

fn rules() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/prometheus/alerts.yml").canonicalize().unwrap()
}

/// What promtool says of a file with one test: whether `alert` fires at this minute.
fn promtool(series: &str, value: &str, alert: &str, minute: u32) -> (bool, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("test.yml");
    let text = format!(
        "rule_files: ['{}']\nevaluation_interval: 30s\ntests:\n  - interval: 30s\n    input_series:\n      - series: '{series}'\n        \
         values: '{value}x60'\n    alert_rule_test:\n      - eval_time: {minute}m\n        alertname: {alert}\n        exp_alerts: []\n",
        rules().display(),
    );
    fs::write(&file, text).unwrap();
    let output = Command::new("promtool").args(["test", "rules"]).arg(&file).output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    // With no alert expected, the test fails where one fires, and shows it.
    assert!(output.status.success() || said.contains("got:"), "{said}");
    (!output.status.success(), said)
}

#[test]
fn each_alert_fires_after_its_time_and_not_before() {
    for (alert, series, value, shown, minutes) in ALERTS {
        let (early, said) = promtool(series, value, alert, minutes - 1);
        assert!(!early, "{alert} before {minutes} min: {said}");
        let (fires, said) = promtool(series, value, alert, *minutes);
        assert!(fires && said.contains(shown), "{alert} after {minutes} min: {said}");
    }
}

#[test]
fn no_alert_fires_for_values_that_are_right() {
    for (alert, series, _, _, minutes) in ALERTS {
        let is_one = ["up{", "connected", "ready"].iter().any(|name| series.contains(name));
        let is_end = series.contains("end_timestamp");
        let right = if is_one {
            "1"
        } else if is_end {
            "90000000"
        } else {
            "0"
        };
        assert!(!promtool(series, right, alert, *minutes).0, "{alert}");
    }
}

#[test]
fn every_alert_is_tested_and_has_its_texts() {
    let text = fs::read_to_string(rules()).unwrap();
    let names: BTreeSet<_> = text.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let tested: BTreeSet<_> = ALERTS.iter().map(|(name, ..)| *name).collect();
    assert_eq!(names, tested);
    for key in ["severity: ", "summary: ", "description: ", "for: "] {
        assert_eq!(text.matches(key).count(), names.len(), "{key}");
    }
}
