use proptest::prelude::*;
use serde_json::json;

use super::*;

fn keys() -> Keys {
    vec![("ipv6", json!(true)), ("fixed-cidr-v6", json!("2001:db8:1::/80"))]
}

fn edited(before: Option<&str>) -> Result<String, Unusable> {
    let document = Document::parse(before.map(str::as_bytes))?;
    Ok(String::from_utf8(merged(&document, &keys())?).unwrap())
}

#[test]
fn every_state_of_the_file_gets_the_keys_in_its_own_form() {
    let ours = "\"ipv6\": true,\n  \"fixed-cidr-v6\": \"2001:db8:1::/80\"";
    let table = [
        (None, format!("{{\n  {ours}\n}}\n")),
        (Some(""), format!("{{\n  {ours}\n}}\n")),
        (Some("{}"), format!("{{\n  {ours}\n}}")),
        (Some("{\n}\n"), format!("{{\n  {ours}\n}}\n")),
        (Some("{\n  \"debug\": true\n}\n"), format!("{{\n  \"debug\": true,\n  {ours}\n}}\n")),
        (
            Some("{\"debug\":true}"),
            "{\"debug\":true,\"ipv6\":true,\"fixed-cidr-v6\":\"2001:db8:1::/80\"}".into(),
        ),
        // Unknown keys, and the order of keys, stay.
        (
            Some("{ \"unknown\": { \"ipv6\": 1 }, \"fixed-cidr-v6\" : \"2001:db8:f::/64\", \"a\": [1, 2] }"),
            "{ \"unknown\": { \"ipv6\": 1 }, \"fixed-cidr-v6\" : \"2001:db8:1::/80\", \"a\": [1, 2], \"ipv6\": true }".into(),
        ),
        (
            Some("{\r\n\t\"debug\": true\r\n}\r\n"),
            "{\r\n\t\"debug\": true,\r\n\t\"ipv6\": true,\r\n\t\"fixed-cidr-v6\": \"2001:db8:1::/80\"\r\n}\r\n".into(),
        ),
        (Some("\r\n"), "\r\n{\r\n  \"ipv6\": true,\r\n  \"fixed-cidr-v6\": \"2001:db8:1::/80\"\r\n}\r\n".into()),
        (
            Some("\u{feff}{ \"debug\": false }"),
            "\u{feff}{ \"debug\": false, \"ipv6\": true, \"fixed-cidr-v6\": \"2001:db8:1::/80\" }".into(),
        ),
        // The same values in another form.
        (
            Some("{\"ipv\\u0036\":   true, \"fixed-cidr-v6\": \"2001:db8:1::\\/80\"}"),
            "{\"ipv\\u0036\":   true, \"fixed-cidr-v6\": \"2001:db8:1::\\/80\"}".into(),
        ),
        // A key of others may be there twice.
        (
            Some("{\"a\":1,\"a\":2,\"ipv6\":false}"),
            "{\"a\":1,\"a\":2,\"ipv6\":true,\"fixed-cidr-v6\":\"2001:db8:1::/80\"}".into(),
        ),
    ];
    for (before, after) in table {
        assert_eq!(edited(before), Ok(after.clone()), "{before:?}");
        assert_eq!(edited(Some(&after)), Ok(after), "{before:?}: a second time");
    }
}

#[test]
fn an_unusable_file_is_refused_with_the_reason() {
    let large = format!("{{\"a\": \"{}\"}}", "x".repeat(MAX_BYTES));
    let table = [
        ("{ \"debug\": true", "not valid JSON (EOF while parsing"),
        ("{ \"debug\": true, }", "not valid JSON (trailing comma at line 1"),
        ("{ // comment\n}", "not valid JSON (key must be a string"),
        ("{} {}", "not valid JSON (trailing characters"),
        ("[]", "not a JSON object"),
        ("null", "not a JSON object"),
        ("{\"ipv6\": true, \"ipv6\": false}", "the key \"ipv6\" twice"),
        ("{\"ipv6\": true, \"\\u0069pv6\": true}", "the key \"ipv6\" twice"),
        ("{\"IPv6\": true}", "the key \"IPv6\", which Docker does not know; write \"ipv6\""),
        ("{\"ipv6\": true, \"IPV6\": true}", "the key \"IPV6\""),
        ("\u{feff}\u{feff}{}", "not valid JSON"),
        (&large, "more than 1048576 bytes"),
    ];
    for (before, words) in table {
        let error = edited(Some(before)).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    assert_eq!(Document::parse(Some(b"{ \"a\": \"\xff\" }")), Err(Unusable::NotText(8)));
    assert_eq!(Document::parse(Some(b"\xff\xfe{\0}\0")), Err(Unusable::NotText(0)));
}

fn undo(before: Option<&str>, now: &str) -> Option<String> {
    let after = edited(before).unwrap();
    let undone = undone(before.map(str::as_bytes), after.as_bytes(), Some(now.as_bytes())).unwrap();
    undone.map(|bytes| String::from_utf8(bytes).unwrap())
}

#[test]
fn an_undone_edit_leaves_the_changes_of_others() {
    let before = "{\n  \"fixed-cidr-v6\": \"2001:db8:f::/64\",\n  \"a\": 1\n}\n";
    let after = edited(Some(before)).unwrap();
    let table = [
        (Some(before), after.clone(), Some(before.to_owned())),
        (Some(before), before.to_owned(), Some(before.to_owned())),
        // Another key has changed.
        (Some(before), after.replace("\"a\": 1", "\"b\": 2"), Some(before.replace("\"a\": 1", "\"b\": 2"))),
        // One of ours has: it is theirs now.
        (
            Some(before),
            after.replace("2001:db8:1::/80", "fd00::/64"),
            Some(before.replace("2001:db8:f::/64", "fd00::/64")),
        ),
        // There was no file.
        (None, edited(None).unwrap(), None),
        (None, format!("{}\n", edited(None).unwrap()), None),
        (
            None,
            "{\"ipv6\":true, \"a\":1, \"fixed-cidr-v6\":\"2001:db8:1::/80\"}".into(),
            Some("{\"a\":1}".into()),
        ),
        (Some("{}"), "{\"a\":1,\"ipv6\":true}".into(), Some("{\"a\":1}".into())),
        (Some("{}"), "{ \"ipv6\": true }".into(), Some("{  }".into())),
        (
            Some("{}"),
            "{ \"ipv6\": true, \"fixed-cidr-v6\": \"2001:db8:1::/80\" }".into(),
            Some("{  }".into()),
        ),
    ];
    for (before, now, expected) in table {
        assert_eq!(undo(before, &now), expected, "{now}");
    }
    assert_eq!(undone(Some(before.as_bytes()), after.as_bytes(), None), Ok(None), "the file was removed");
}

/// White space between tokens.
fn space() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["", " ", "\n", "\n    ", "\r\n\t", "  "]).prop_map(str::to_owned)
}

fn any_value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(|it| json!(it)),
        any::<i32>().prop_map(|it| json!(it)),
        "[a-z\"\\\\{}:, é\n]{0,8}".prop_map(|it| json!(it))
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(|it| json!(it)),
            prop::collection::btree_map("[a-z\"}]{0,3}", inner, 0..3).prop_map(|it| json!(it)),
        ]
    })
}

/// An object of others' keys, in any form.
fn text() -> impl Strategy<Value = String> {
    let entry = ("[a-z{}\",:\\\\é]{0,5}", any_value(), space(), space(), space(), space());
    (prop::collection::vec(entry, 0..5), space(), space(), space()).prop_map(
        |(entries, before, inside, after)| {
            let entries = entries.into_iter().map(|(key, value, s1, s2, s3, s4)| {
                format!("{s1}{}{s2}:{s3}{value}{s4}", serde_json::Value::from(key))
            });
            let entries = entries.collect::<Vec<_>>().join(",");
            format!("{before}{{{entries}{inside}}}{after}")
        },
    )
}

proptest! {
    #[test]
    fn no_other_byte_changes(before in text(), cidr in prop::option::of("[a-f:]{1,4}")) {
        let document = Document::parse(Some(before.as_bytes())).unwrap();
        // A former value of one of our keys may be there.
        let former = cidr.map(|cidr| vec![("fixed-cidr-v6", json!(cidr))]).unwrap_or_default();
        let before = merged(&document, &former).unwrap();
        let document = Document::parse(Some(&before)).unwrap();
        let after = merged(&document, &keys()).unwrap();
        let parsed = Document::parse(Some(&after)).unwrap();
        for (key, value) in keys() {
            prop_assert_eq!(parsed.value(key), Some(&value));
        }
        let others = |document: &Document| {
            let others = document.entries.iter().filter(|entry| !keys().iter().any(|(key, _)| *key == entry.name));
            others.map(|entry| (entry.name.clone(), document.text[entry.raw.clone()].to_owned())).collect::<Vec<_>>()
        };
        prop_assert_eq!(others(&document), others(&parsed));
        if former.is_empty() {
            let same_start = before.iter().zip(&after).take_while(|(a, b)| a == b).count();
            let same_end = before.iter().rev().zip(after.iter().rev()).take_while(|(a, b)| a == b).count();
            prop_assert!(same_start + same_end >= before.len());
        }
        prop_assert_eq!(merged(&parsed, &keys()).unwrap(), after.clone());
        // Undone: exactly, and with a change of somebody in between.
        prop_assert_eq!(undone(Some(&before), &after, Some(&after)).unwrap(), Some(before.clone()));
        let theirs = [("theirs", json!(1))];
        let changed = merged(&parsed, &theirs).unwrap();
        let kept = undone(Some(&before), &after, Some(&changed)).unwrap().unwrap();
        let kept = Document::parse(Some(&kept)).unwrap();
        prop_assert_eq!(kept.value("theirs"), Some(&json!(1)));
        prop_assert_eq!(kept.value("ipv6"), None);
        prop_assert_eq!(kept.value("fixed-cidr-v6"), document.value("fixed-cidr-v6"));
    }
}
