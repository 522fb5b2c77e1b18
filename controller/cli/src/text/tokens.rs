//! Join tokens for people.

use sextant_proto::v1;

use super::{age, one_line, table};

/// Tokens in a table.
pub(crate) fn list(tokens: &[v1::JoinToken], now_unix_ms: u64) -> String {
    let row = |it: &v1::JoinToken| {
        let used = format!("{} of {}", it.used_by.len(), it.count);
        let ends = if it.expires_unix_ms > now_unix_ms {
            format!("in {}", age(it.expires_unix_ms, now_unix_ms))
        } else {
            format!("{} ago", age(now_unix_ms, it.expires_unix_ms))
        };
        let by: Vec<String> = it.used_by.iter().map(|name| one_line(name)).collect();
        [one_line(&it.id), one_line(&it.nodes), used, ends, by.join(" ")]
    };
    table::table(["ID", "NODE", "USED", "ENDS", "BY"], tokens.iter().map(row))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_in_a_table() {
        let token = |id: &str, nodes: &str, count, used_by: &[&str], expires_unix_ms| v1::JoinToken {
            id: id.into(),
            nodes: nodes.into(),
            count,
            used_by: used_by.iter().map(|&it| it.to_owned()).collect(),
            expires_unix_ms,
            ..Default::default()
        };
        let tokens = [
            token("00000000000000a1", "h7", 1, &[], 961_000),
            token("00000000000000b2", "web-*", 20, &["web-1", "web-2"], 1_000),
        ];
        assert_eq!(
            list(&tokens, 61_000),
            "ID                NODE   USED     ENDS    BY\n\
             00000000000000a1  h7     0 of 1   in 15m  -\n\
             00000000000000b2  web-*  2 of 20  1m ago  web-1 web-2\n"
        );
    }
}
