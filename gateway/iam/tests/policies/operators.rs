//! The operators of conditions, one by one: what each takes for equal, less or like, and what of a key that is absent.

use cairn_iam::{Policy, PolicyKind};
use serde_json::{Value, json};

use crate::alice_may;

/// Whether a request with these values of `aws:Referer` meets the condition.
fn met(operator: &str, wanted: &Value, found: &[&str]) -> bool {
    let policy = json!({
        "Version": "2012-10-17",
        "Statement": {
            "Effect": "Allow", "Action": "*", "Resource": "*",
            "Condition": { operator: { "aws:Referer": wanted } },
        },
    });
    let entries: Vec<(&str, &str)> = found.iter().map(|value| ("aws:Referer", *value)).collect();
    alice_may(&policy.to_string(), "s3:GetObject", "arn:aws:s3:::b/a", &entries)
}

#[test]
fn one_value_is_compared_by_its_kind() {
    for (operator, wanted, found, expected) in [
        ("StringEquals", json!("a"), "a", true),
        ("StringEquals", json!("a"), "A", false),
        ("StringEquals", json!("*"), "a", false),
        ("StringEquals", json!(["a", "b"]), "b", true),
        ("StringEquals", json!(true), "true", true),
        ("StringEquals", json!(7), "7", true),
        ("StringNotEquals", json!(["a", "b"]), "b", false),
        ("StringNotEquals", json!(["a", "b"]), "c", true),
        ("StringEqualsIgnoreCase", json!("ÄB"), "äb", true),
        ("StringNotEqualsIgnoreCase", json!("aB"), "Ab", false),
        ("StringLike", json!("a*"), "A", false),
        ("StringNotLike", json!("a*"), "b", true),
        ("NumericEquals", json!(10), "10.0", true),
        ("NumericEquals", json!("0.1"), "0.10", true),
        // Equal if they were floating.
        ("NumericEquals", json!("9007199254740993"), "9007199254740992", false),
        ("NumericNotEquals", json!("1"), "x", true),
        ("NumericLessThan", json!("10"), "9", true),
        ("NumericLessThan", json!("10"), "10", false),
        ("NumericLessThan", json!("10"), "x", false),
        ("NumericLessThanEquals", json!(1.5), "1.5", true),
        ("NumericGreaterThan", json!("-2"), "-1", true),
        ("NumericGreaterThanEquals", json!("1"), "0.999999999", false),
        ("DateEquals", json!("2024-02-29T12:00:00+02:00"), "2024-02-29T10:00:00Z", true),
        ("DateEquals", json!("2024-02-29"), "1709164800", true),
        ("DateEquals", json!("2024-02"), "2024-02-01T00:00Z", true),
        ("DateLessThan", json!("2024-01-01T00:00:00Z"), "2023-12-31T23:59:59.999Z", true),
        ("DateGreaterThan", json!("2024-01-01T00:00:00Z"), "2024-01-01T00:00:00Z", false),
        ("DateGreaterThanEquals", json!(0), "1970-01-01T00:00:00Z", true),
        ("DateLessThan", json!("2024-01-01"), "yesterday", false),
        ("Bool", json!("true"), "True", true),
        ("Bool", json!(false), "false", true),
        ("Bool", json!("false"), "0", false),
        ("BinaryEquals", json!("QmluYXJ5"), "QmluYXJ5", true),
        ("BinaryEquals", json!("QmluYXJ5"), "qmluyxj5", false),
        ("IpAddress", json!("203.0.113.0/24"), "203.0.113.255", true),
        ("IpAddress", json!("203.0.113.0/24"), "203.0.114.0", false),
        ("IpAddress", json!("203.0.113.9/24"), "203.0.113.1", true),
        ("IpAddress", json!("203.0.113.9"), "203.0.113.9", true),
        ("IpAddress", json!("0.0.0.0/0"), "::1", false),
        ("IpAddress", json!("2001:DB8::/32"), "2001:db8:ffff::1", true),
        // One address, whichever way it is written.
        ("IpAddress", json!("10.0.0.0/8"), "::ffff:10.1.2.3", true),
        ("IpAddress", json!("::ffff:10.0.0.0/104"), "10.1.2.3", true),
        ("NotIpAddress", json!("10.0.0.0/8"), "::ffff:10.1.2.3", false),
        ("NotIpAddress", json!("10.0.0.0/8"), "not an address", true),
        ("ArnEquals", json!("arn:aws:iam::*:user/a*"), "arn:aws:iam::123:user/alice", true),
        ("ArnLike", json!("arn:aws:*::123:user/a"), "arn:aws:iam:x::123:user/a", false),
        ("ArnLike", json!("arn:aws:iam::123:*"), "arn:aws:iam::123:user/a:b", true),
        ("ArnNotLike", json!("arn:aws:iam::123:*"), "arn:aws:iam::124:user/a", true),
        ("ArnNotEquals", json!("arn:aws:iam::123:*"), "no arn", true),
        ("Null", json!("true"), "", false),
        ("Null", json!(false), "", true),
    ] {
        assert_eq!(met(operator, &wanted, &[found]), expected, "{operator} {wanted} {found}");
    }
}

/// IAM's user guide: an absent key fails a condition, but for those that exclude, those with IfExists, and all of none.
#[test]
fn an_absent_key_meets_what_excludes_or_does_not_insist() {
    for (operator, expected) in [
        ("StringEquals", false),
        ("StringNotEquals", true),
        ("StringNotEqualsIgnoreCase", true),
        ("StringLike", false),
        ("StringNotLike", true),
        ("NumericNotEquals", true),
        ("NumericLessThan", false),
        ("DateNotEquals", true),
        ("Bool", false),
        ("NotIpAddress", true),
        ("IpAddress", false),
        ("ArnNotLike", true),
        ("StringEqualsIfExists", true),
        ("NumericLessThanIfExists", true),
        ("BoolIfExists", true),
        ("IpAddressIfExists", true),
        ("ForAllValues:StringEquals", true),
        ("ForAllValues:StringNotEquals", true),
        ("ForAnyValue:StringEquals", false),
        ("ForAnyValue:StringNotEquals", false),
        ("ForAnyValue:StringLikeIfExists", true),
        ("Null", true),
    ] {
        let wanted = match operator.trim_end_matches("IfExists").rsplit(':').next().unwrap() {
            "Bool" | "Null" => "true",
            "IpAddress" | "NotIpAddress" => "10.0.0.0/8",
            "NumericNotEquals" | "NumericLessThan" | "DateNotEquals" => "1",
            "ArnNotLike" => "arn:aws:iam::1:user/a",
            _ => "a",
        };
        assert_eq!(met(operator, &json!(wanted), &[]), expected, "{operator}");
    }
}

/// IAM's user guide, "Multivalued context keys".
#[test]
fn all_and_any_of_several_values() {
    for (operator, wanted, found, expected) in [
        ("ForAllValues:StringEquals", json!(["a", "b"]), &["a", "b"][..], true),
        ("ForAllValues:StringEquals", json!(["a", "b"]), &["a", "c"], false),
        ("ForAnyValue:StringEquals", json!(["a", "b"]), &["c", "b"], true),
        ("ForAnyValue:StringEquals", json!(["a", "b"]), &["c", "d"], false),
        ("ForAllValues:StringNotEquals", json!(["a", "b"]), &["c", "d"], true),
        ("ForAllValues:StringNotEquals", json!(["a", "b"]), &["c", "a"], false),
        ("ForAnyValue:StringNotEquals", json!(["a", "b"]), &["a", "c"], true),
        ("ForAnyValue:StringNotEquals", json!(["a", "b"]), &["a", "b"], false),
        ("ForAllValues:NumericLessThan", json!(10), &["1", "9"], true),
        ("ForAnyValue:IpAddress", json!("10.0.0.0/8"), &["11.0.0.1", "10.0.0.1"], true),
        // Without a word: one must be asked for, and none may be excluded.
        ("StringEquals", json!("a"), &["a", "b"], true),
        ("StringNotEquals", json!("a"), &["a", "b"], false),
    ] {
        assert_eq!(met(operator, &wanted, found), expected, "{operator} {wanted} {found:?}");
    }
}

/// What a condition excludes by a variable without a value cannot be told: too little is allowed then, and too much
/// denied.
#[test]
fn what_is_excluded_by_a_variable_without_a_value_is_not_allowed_and_is_denied() {
    for operator in ["StringNotEquals", "StringNotLike", "ForAllValues:StringNotEquals", "ForAnyValue:StringNotEquals"]
    {
        let of = |effect: &str| {
            json!({
                "Version": "2012-10-17",
                "Statement": [
                    { "Effect": "Allow", "Action": "s3:PutObject", "Resource": "*" },
                    {
                        "Effect": effect, "Action": "*", "Resource": "*",
                        "Condition": { operator: { "aws:Referer": "${aws:username}" } },
                    },
                ],
            })
        };
        let may = |effect: &str, action: &str, entries: &[(&str, &str)]| {
            alice_may(&of(effect).to_string(), action, "arn:aws:s3:::b/a", entries)
        };
        let (told, untold) = ([("aws:Referer", "a"), ("aws:username", "b")], [("aws:Referer", "a")]);
        assert!(may("Allow", "s3:GetObject", &told), "{operator}");
        assert!(!may("Allow", "s3:GetObject", &untold), "{operator}");
        assert!(!may("Deny", "s3:PutObject", &told), "{operator}");
        assert!(!may("Deny", "s3:PutObject", &untold), "{operator}");
    }
}

#[test]
fn all_conditions_must_be_met_and_any_of_their_values() {
    let policy = json!({
        "Statement": {
            "Effect": "Allow", "Action": "*", "Resource": "*",
            "Condition": {
                "StringEquals": { "aws:Referer": ["a", "b"], "AWS:UserAgent": "c" },
                "NumericLessThan": { "S3:Max-Keys": "10" },
            },
        },
    });
    let all = [("aws:Referer", "b"), ("aws:useragent", "c"), ("s3:max-keys", "9")];
    let may = |entries: &[(&str, &str)]| alice_may(&policy.to_string(), "s3:ListBucket", "arn:aws:s3:::b", entries);
    assert!(may(&all));
    for left_out in 0..all.len() {
        let mut entries = all.to_vec();
        entries.remove(left_out);
        assert!(!may(&entries), "{entries:?}");
    }
}

#[test]
fn a_policy_tells_which_keys_it_asks_for() {
    let text = r#"{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*",
        "Resource": "arn:aws:s3:::b/${aws:username}",
        "Condition": {"StringEquals": {"s3:ExistingObjectTag/Class": "${aws:PrincipalArn, 'x'}"}}}}"#;
    let policy = Policy::parse(PolicyKind::Identity, text.as_bytes()).unwrap();
    for (key, expected) in [
        ("aws:UserName", true),
        ("aws:principalarn", true),
        ("s3:ExistingObjectTag/", true),
        ("s3:ExistingObjectTag/class", true),
        ("s3:ExistingObjectTag/other", false),
        ("s3:RequestObjectTag/", false),
        ("aws:SourceIp", false),
        ("aws:user", false),
    ] {
        assert_eq!(policy.asks_for(key), expected, "{key}");
    }
}
