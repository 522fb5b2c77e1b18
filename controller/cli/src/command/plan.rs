//! `sextant plan`: the changes that a node's agent would make in its kernel now.

use serde_json::Value;
use sextant_proto::NodeName;

use crate::{
    answer::Plan,
    failure::Failure,
    global::Output,
    json,
    link::Link,
    show::{self, Show},
    text,
};

/// `sextant plan NODE`.
pub(crate) async fn plan(link: &mut Link, output: Output, node: &NodeName) -> Result<(), Failure> {
    let plan = link.plan(node).await?;
    show::print(output, &Plan::new(node, plan)?)
}

impl Show for Plan {
    fn text(&self, _now_unix_ms: u64) -> String {
        text::plan(self)
    }

    fn json(&self) -> Value {
        json::value(json::Plan::from(self))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use sextant_proto::{
        Prefix,
        v1::{self, planned_change::Action},
    };

    use super::*;

    fn plan(changes: Vec<v1::PlannedChange>) -> Plan {
        let plan = v1::Plan { paused: true, revision: 12, changes, more: 0 };
        Plan::new(&"host1".parse().unwrap(), plan).unwrap()
    }

    fn change() -> v1::PlannedChange {
        let destination: Prefix = "2001:db8:1:2::/64".parse().unwrap();
        v1::PlannedChange {
            action: Action::Add.into(),
            destination: Some(destination.into()),
            route: "2001:db8:1:2::/64 via 2001:db8::3 dev eth0 proto 66 metric 512".into(),
            why: "peer host3 has no route yet".into(),
            waits: String::new(),
        }
    }

    #[test]
    fn changes_are_listed_with_their_reasons() {
        assert_eq!(
            plan(vec![change()]).text(0),
            "host1: 1 pending change (revision 12); paused: not applied until `sextant resume`\n\
             ACTION  ROUTE                                                           REASON                       WAITING FOR\n\
             add     2001:db8:1:2::/64 via 2001:db8::3 dev eth0 proto 66 metric 512  peer host3 has no route yet  -\n"
        );
        assert_eq!(plan(vec![change()]).json()["changes"][0]["waits"], Value::Null);
    }

    #[test]
    fn an_empty_plan_has_nothing_to_do() {
        let plan = Plan { paused: false, ..plan(vec![]) };
        assert_eq!(plan.text(0), "host1: nothing to do (revision 12)\n");
        assert_eq!(
            plan.json(),
            json!({ "node": "host1", "revision": 12, "paused": false, "changes": [], "more": 0 })
        );
    }
}
