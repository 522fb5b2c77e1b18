//! The formats of metrics: which one a client accepts, and the classic text of OpenMetrics. Pure.

/// A format of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// OpenMetrics 1.0.0.
    OpenMetrics,
    /// Prometheus' text format 0.0.4, which every client reads.
    Text,
}

impl Format {
    /// The `Content-Type` of the format.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// The format that an `Accept` header prefers (RFC 9110 §12.5.1), the first one of equals; text if it accepts neither.
    pub(super) fn preferred(accept: &str) -> Self {
        let mut best = (Self::Text, 0.0);
        for (format, quality) in accept.split(',').filter_map(range) {
            if quality > best.1 {
                best = (format, quality);
            }
        }
        best.0
    }
}

/// The format of a media range, and its quality.
fn range(range: &str) -> Option<(Format, f32)> {
    let mut parts = range.split(';').map(str::trim);
    let media = parts.next()?.to_ascii_lowercase();
    let (mut version, mut quality) = (None, 1.0);
    for (name, value) in parts.filter_map(|part| part.split_once('=')) {
        match name.trim().to_ascii_lowercase().as_str() {
            "version" => version = Some(value.trim().trim_matches('"')),
            "q" => quality = value.trim().parse().ok()?,
            _ => {}
        }
    }
    let of = |known: &str| version.is_none_or(|version| version == known);
    let format = match media.as_str() {
        "application/openmetrics-text" if of("1.0.0") => Format::OpenMetrics,
        "text/plain" if of("0.0.4") => Format::Text,
        "text/*" | "*/*" => Format::Text,
        _ => return None,
    };
    Some((format, quality))
}

/// The classic text of metrics in OpenMetrics: a counter's family has the name of its samples, and there is no end marker.
pub(super) fn classic(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    for family in families(open_metrics) {
        let suffix = match kind(&family) {
            Some("counter") => "_total",
            Some("info") => "_info",
            _ => "",
        };
        for line in family {
            if let Some(line) = classic_line(line, suffix) {
                text.push_str(&line);
                text.push('\n');
            }
        }
    }
    text
}

/// The lines of each family: it begins with `# HELP`, or with `# TYPE` if it has no help.
fn families(text: &str) -> Vec<Vec<&str>> {
    let (mut families, mut in_head) = (Vec::<Vec<&str>>::new(), false);
    for line in text.lines() {
        let is_head = line.starts_with("# ");
        if families.is_empty() || (is_head && !in_head) {
            families.push(Vec::new());
        }
        in_head = is_head;
        families.last_mut().expect("one was pushed").push(line);
    }
    families
}

fn kind<'a>(family: &[&'a str]) -> Option<&'a str> {
    family.iter().find_map(|line| line.strip_prefix("# TYPE ")?.split(' ').nth(1))
}

fn classic_line(line: &str, suffix: &str) -> Option<String> {
    let Some(head) = line.strip_prefix("# ") else {
        // An exemplar follows the value.
        return Some(line.split(" # {").next().unwrap_or(line).to_owned());
    };
    let (word, rest) = head.split_once(' ')?;
    let (name, rest) = rest.split_once(' ')?;
    match (word, rest) {
        ("HELP", help) => Some(format!("# HELP {name}{suffix} {help}")),
        ("TYPE", "info" | "stateset") => Some(format!("# TYPE {name}{suffix} gauge")),
        ("TYPE", "unknown") => Some(format!("# TYPE {name} untyped")),
        ("TYPE", kind) => Some(format!("# TYPE {name}{suffix} {kind}")),
        // Units, and the end marker.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::{
        encoding::text::encode,
        metrics::{
            counter::Counter,
            gauge::Gauge,
            histogram::{Histogram, exponential_buckets},
            info::Info,
        },
        registry::{Registry, Unit},
    };

    use super::*;

    #[test]
    fn the_accepted_format_of_the_highest_quality_is_sent() {
        use Format::{OpenMetrics, Text};
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                            application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;q=0.4,\
                            text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, format) in [
            ("", Text),
            ("*/*", Text),
            ("text/html", Text),
            ("garbage;;=,", Text),
            ("application/openmetrics-text", OpenMetrics),
            ("Application/OpenMetrics-Text; Version=\"1.0.0\"; charset=utf-8", OpenMetrics),
            ("application/openmetrics-text;version=2.0.0", Text),
            ("application/openmetrics-text;q=0", Text),
            ("application/openmetrics-text;q=0.1,text/plain;version=0.0.4;q=0.2", Text),
            ("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5", OpenMetrics),
            ("text/plain;q=0.5,application/openmetrics-text;q=0.5", Text),
            (prometheus_3, OpenMetrics),
        ] {
            assert_eq!(Format::preferred(accept), format, "{accept}");
        }
    }

    #[test]
    fn classic_text_has_each_family_by_the_name_of_its_samples() {
        let mut registry = Registry::default();
        let (counter, gauge) = (Counter::<u64>::default(), Gauge::<i64>::default());
        counter.inc();
        registry.register("events", "Events", counter);
        registry.register_with_unit("age", "Age", Unit::Seconds, gauge);
        let histogram = Histogram::new(exponential_buckets(1.0, 2.0, 2));
        histogram.observe(1.5);
        registry.register("delay", "Delay", histogram);
        registry.register("build", "Build", Info::new([("version", "1")]));
        let mut open_metrics = String::new();
        encode(&mut open_metrics, &registry).unwrap();
        assert!(open_metrics.ends_with("# EOF\n"), "{open_metrics}");
        let expected = "# HELP events_total Events.\n\
                        # TYPE events_total counter\n\
                        events_total 1\n\
                        # HELP age_seconds Age.\n\
                        # TYPE age_seconds gauge\n\
                        age_seconds 0\n\
                        # HELP delay Delay.\n\
                        # TYPE delay histogram\n\
                        delay_sum 1.5\n\
                        delay_count 1\n\
                        delay_bucket{le=\"1.0\"} 0\n\
                        delay_bucket{le=\"2.0\"} 1\n\
                        delay_bucket{le=\"+Inf\"} 1\n\
                        # HELP build_info Build.\n\
                        # TYPE build_info gauge\n\
                        build_info{version=\"1\"} 1\n";
        assert_eq!(classic(&open_metrics), expected);
    }

    #[test]
    fn exemplars_are_for_open_metrics_only() {
        assert_eq!(classic("a_total 1 # {trace=\"x\"} 1.0\n# EOF\n"), "a_total 1\n");
    }
}
