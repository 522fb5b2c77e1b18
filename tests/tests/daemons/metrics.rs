//! `/metrics` in the format that the client prefers.

use sextant_tests::cluster::{Cluster, GUIDE};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// The `Accept` header of Prometheus 2.
const PROMETHEUS: &str =
    "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";

#[test]
fn metrics_are_sent_in_the_preferred_format_with_its_content_type() {
    let cluster = Cluster::start("metrics formats", 1, GUIDE);
    let (agent, controller) = (&cluster.agents[0], cluster.controller.as_ref().unwrap());
    let asked = |accept| [agent.metrics(accept).unwrap(), controller.metrics(accept).unwrap()];
    for (content_type, body) in asked(PROMETHEUS) {
        assert_eq!(content_type, OPEN_METRICS);
        assert!(body.ends_with("\n# EOF\n"), "{body}");
    }
    for (content_type, body) in asked("*/*").into_iter().chain(asked("text/plain")) {
        assert_eq!(content_type, TEXT);
        assert!(!body.contains("# EOF") && body.contains("# TYPE sextant_"), "{body}");
        let counters = body.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"));
        for counter in counters {
            let sampled = body
                .lines()
                .any(|line| line.strip_prefix(counter).is_some_and(|rest| rest.starts_with([' ', '{'])));
            assert!(sampled, "no sample of {counter} in\n{body}");
        }
    }
}
