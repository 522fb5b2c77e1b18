//! `sextant whoami`: the caller's name and role, as the controller sees them.

use serde_json::Value;
use sextant_proto::v1;

use crate::{
    failure::Failure,
    global::Output,
    json,
    link::Link,
    show::{self, Show},
    text,
};

/// `sextant whoami`.
pub(crate) async fn whoami(link: &mut Link, output: Output) -> Result<(), Failure> {
    show::print(output, &link.who_am_i().await?)
}

impl Show for v1::WhoAmIResponse {
    fn text(&self, now_unix_ms: u64) -> String {
        let name = text::one_line(&self.name);
        if self.uri.is_empty() {
            return format!("{name}, who may do everything: the connection is plain text\n");
        }
        let role =
            if self.role.is_empty() { String::new() } else { format!(" ({})", text::one_line(&self.role)) };
        let left = text::age(self.ends_unix_ms, now_unix_ms);
        format!("{name}{role} of cluster {}; the certificate ends in {left}\n", text::one_line(&self.cluster))
    }

    fn json(&self) -> Value {
        json::value(json::Caller::from(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caller_is_named_with_role_and_end() {
        let plain = v1::WhoAmIResponse { name: "anybody".into(), ..Default::default() };
        assert!(plain.text(0).starts_with("anybody, who may do everything"), "{}", plain.text(0));
        let ann = v1::WhoAmIResponse {
            name: "admin ann".into(),
            uri: "spiffe://c1/admin/ann".into(),
            role: "operator".into(),
            ends_unix_ms: 7_201_000,
            cluster: "c1".into(),
            ..Default::default()
        };
        assert_eq!(ann.text(1000), "admin ann (operator) of cluster c1; the certificate ends in 2h\n");
        assert_eq!(ann.json()["role"], "operator");
        assert_eq!(plain.json()["uri"], Value::Null);
    }
}
