//! What anybody may send: no text makes reading or deciding panic, and no policy takes long.

use std::time::{Duration, Instant};

use cairn_iam::{
    BUCKET_POLICY_MAX_BYTES, Context, Policies, Policy, PolicyKind, Request, actions, condition_keys, decide,
};
use proptest::{prelude::*, sample::Index};

use crate::{
    ALICE, NOBODY, ROOT,
    generated::{facts, policy},
};

/// Reads it as every kind of policy, and decides by what can be read.
fn try_all(text: &[u8], facts: &[(String, String)]) {
    let mut context = Context::new();
    facts.iter().for_each(|(key, value)| context.add(&**key, &**value));
    for kind in [PolicyKind::Identity, PolicyKind::Session, PolicyKind::Bucket { name: "b" }] {
        let policy = match Policy::parse(kind, text) {
            Ok(policy) => policy,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                continue;
            }
        };
        let policies =
            Policies { identity: &[&policy], session: Some(&policy), bucket: Some(&policy), ..Policies::default() };
        for principal in [ALICE, NOBODY, ROOT] {
            for resource in ["arn:aws:s3:::b", "arn:aws:s3:::b/a", "", "b"] {
                let request = Request { principal, action: "s3:GetObject", resource, context: &context };
                let _ = decide(&policies, &request);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn arbitrary_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        try_all(&bytes, &[]);
        let mut object = b"{\"Statement\":".to_vec();
        object.extend(bytes);
        try_all(&object, &[]);
    }

    #[test]
    fn spoilt_policies_are_read_or_refused(
        policy in policy(true),
        facts in facts(2),
        changes in prop::collection::vec((any::<Index>(), any::<Index>(), 0..4usize, any::<u8>()), 1..6),
    ) {
        let mut text = policy.to_string().into_bytes();
        for (at, other, change, byte) in changes {
            let (at, other) = (at.index(text.len()), other.index(text.len()));
            match change {
                0 => text[at] = byte,
                1 => drop(text.remove(at)),
                2 => text.insert(at, b"*?${}'\",:/[]\\"[usize::from(byte) % 13]),
                _ => text.swap(at, other),
            }
            if text.is_empty() {
                break;
            }
        }
        try_all(&text, &facts);
    }
}

/// The largest policies, of as many statements, values and variables as fit, on the longest values.
#[test]
fn the_largest_policies_are_decided_in_no_time() {
    let head = r#""Effect":"Deny","Principal":"*","Action":"*","#;
    let long = "a".repeat(8 << 10);
    let full = |before: &str, item: &str, after: &str| {
        let room = BUCKET_POLICY_MAX_BYTES - before.len() - after.len();
        let items = vec![item; (room + 1) / (item.len() + 1)].join(",");
        format!("{before}{items}{after}")
    };
    let statement = format!(r#"{{{head}"Resource":"arn:aws:s3:::b/*b"}}"#);
    let condition =
        format!(r#"{{"Version":"2012-10-17","Statement":{{{head}"Resource":"arn:aws:s3:::b/*","Condition":{{"#);
    let texts = [
        full(r#"{"Statement":["#, &statement, "]}"),
        full(&format!(r#"{{"Statement":{{{head}"Resource":["#), r#""arn:aws:s3:::b/*a?*b""#, "]}}"),
        full(&format!(r#"{condition}"StringLike":{{"aws:UserAgent":["#), r#""*a?a*b""#, "]}}}}"),
        full(&format!(r#"{condition}"StringLike":{{"aws:UserAgent":["#), r#""${aws:Referer}b""#, "]}}}}"),
        full(&format!(r#"{condition}"StringEqualsIgnoreCase":{{"aws:UserAgent":["#), r#""${aws:Referer}b""#, "]}}}}"),
        full(
            &format!(r#"{condition}"ForAllValues:StringNotLike":{{"aws:UserAgent":["#),
            r#""?*${aws:Referer}b""#,
            "]}}}}",
        ),
    ];
    let mut context = Context::new();
    context.add("aws:UserAgent", &*long);
    context.add("aws:Referer", &long[..(8 << 10) - 1]);
    let resource = format!("arn:aws:s3:::b/{}", &long[..1024]);
    let started = Instant::now();
    for text in &texts {
        assert!(text.len() > BUCKET_POLICY_MAX_BYTES - 200);
        let policy = Policy::parse(PolicyKind::Bucket { name: "b" }, text.as_bytes()).unwrap();
        let policies = Policies { bucket: Some(&policy), ..Policies::default() };
        let request = Request { principal: NOBODY, action: "s3:GetObject", resource: &resource, context: &context };
        let _ = decide(&policies, &request);
    }
    // Milliseconds each.
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

/// Every action and every key can be written in a policy, and is decided by.
#[test]
fn every_action_and_key_of_the_table_counts() {
    for action in actions() {
        let text = format!(r#"{{"Statement": {{"Effect": "Allow", "Action": "{action}", "Resource": "*"}}}}"#);
        let policy = Policy::parse(PolicyKind::Identity, text.as_bytes()).unwrap();
        let policies = Policies { identity: &[&policy], ..Policies::default() };
        let context = Context::new();
        for other in actions() {
            let request = Request { principal: ALICE, action: &other, resource: "arn:aws:s3:::b", context: &context };
            assert_eq!(decide(&policies, &request).is_allowed(), action == other, "{action} {other}");
        }
    }
    for key in condition_keys() {
        let key = if key.ends_with('/') { format!("{key}x") } else { key.to_owned() };
        let text = format!(
            r#"{{"Statement": {{"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {{"StringEquals": {{"{key}": "a"}}}}}}}}"#
        );
        let policy = Policy::parse(PolicyKind::Identity, text.as_bytes()).unwrap();
        assert!(policy.asks_for(&key), "{key}");
    }
}
