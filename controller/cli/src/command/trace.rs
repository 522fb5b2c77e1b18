//! `sextant trace`: the path between two nodes, or containers on them.

use serde_json::Value;
use sextant_proto::{quoted, trace::Verdict};

use crate::{
    answer::Trace,
    failure::Failure,
    global::Output,
    json,
    link::Link,
    show::{self, Show},
    text,
};

/// `sextant trace FROM TO`. The observations are shown even if the command fails.
pub(crate) async fn trace(link: &mut Link, output: Output, from: &str, to: &str) -> Result<(), Failure> {
    if from == to {
        return Err(Failure::Usage(format!("both ends are \"{}\"; name two", quoted(from))));
    }
    let trace = Trace::try_from(link.trace(from, to).await?)?;
    show::print(output, &trace)?;
    verdict(&trace)
}

/// The result of the command.
fn verdict(trace: &Trace) -> Result<(), Failure> {
    if let Some((_, why)) = trace.unasked.first() {
        return Err(Failure::Unavailable(format!("only half of the path was checked: {why}")));
    }
    let not_working: Vec<_> = trace.directions.iter().filter(|it| it.verdict != Verdict::Works).collect();
    match not_working[..] {
        [] => Ok(()),
        [broken] => Err(Failure::Failed(format!("the path {} is broken", text::path(broken)))),
        [_, _] if trace.directions.len() == 2 => {
            Err(Failure::Failed("the path is broken in both directions".to_owned()))
        }
        ref broken => {
            let paths: Vec<_> = broken.iter().map(|it| text::path(it)).collect();
            Err(Failure::Failed(format!("these paths are broken: {}", paths.join(", "))))
        }
    }
}

impl Show for Trace {
    fn text(&self, _now_unix_ms: u64) -> String {
        text::trace(self)
    }

    fn json(&self) -> Value {
        json::value(json::Trace::from(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::sample;
    use serde_json::json;

    #[test]
    fn the_exit_code_is_the_worst_of_both_directions() {
        let mut trace = sample::trace();
        let failure = verdict(&trace).unwrap_err();
        assert_eq!((failure.exit_code(), failure.to_string().as_str()), (1, "the path h2 → h1 is broken"));
        trace.directions[1].verdict = Verdict::Works;
        assert!(verdict(&trace).is_ok());
        trace.unasked.push(("h2".parse().unwrap(), "no agent of node \"h2\" is connected".into()));
        assert_eq!(verdict(&trace).unwrap_err().exit_code(), 5);
    }

    #[test]
    fn json_has_all_observations() {
        let value = sample::trace().json();
        let (works, broken) = (&value["directions"][0], &value["directions"][1]);
        assert_eq!((&works["verdict"], &works["fix"]), (&json!("works"), &Value::Null));
        assert_eq!(works["probe"]["answered_us"], json!([80, 200, 110]));
        assert_eq!((&broken["at"], &broken["arrived"]), (&json!("h2"), &json!(0)));
        assert_eq!(broken["checks"][0]["state"], json!("broken"));
        let fix = json!("on h2: ip -6 rule add to 2001:db8:1::/64 lookup 254 pref 99");
        for it in [broken, &broken["checks"][0]] {
            assert_eq!((&it["fix"], &it["mend"]), (&fix, &fix), "the former name is printed too");
        }
    }
}
