//! Revoked members of the cluster.

use sextant_proto::v1;

use super::{age, one_line, table};

/// All of them.
pub(crate) fn list(revoked: &[v1::RevokedMember], now_unix_ms: u64) -> String {
    if revoked.is_empty() {
        return "nobody is revoked\n".to_owned();
    }
    let row = |it: &v1::RevokedMember| {
        let which = if it.all { "all".to_owned() } else { it.serials.join(" ") };
        let since = format!("{} ago", age(now_unix_ms, it.since_unix_ms));
        [it.kind.clone(), it.name.clone(), which, since, it.by.clone()].map(|text| one_line(&text))
    };
    table::table(["KIND", "NAME", "CERTIFICATES", "SINCE", "BY"], revoked.iter().map(row))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revoked_members_in_a_table() {
        let member = |kind: &str, name: &str, serials: &[&str]| v1::RevokedMember {
            kind: kind.into(),
            name: name.into(),
            all: serials.is_empty(),
            serials: serials.iter().map(|&it| it.to_owned()).collect(),
            since_unix_ms: 1_000,
            by: "admin ann".into(),
        };
        assert_eq!(
            list(&[member("controller", "c2", &[]), member("admin", "bob", &["1f", "2f"])], 61_000),
            "KIND        NAME  CERTIFICATES  SINCE   BY\n\
             controller  c2    all           1m ago  admin ann\n\
             admin       bob   1f 2f         1m ago  admin ann\n"
        );
        assert_eq!(list(&[], 0), "nobody is revoked\n");
    }
}
