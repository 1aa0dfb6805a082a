//! Made-up policies and requests, decided here and by the reference.

use cairn_iam::{Context, Decision, Fault, Policies, Policy, PolicyKind, Request, decide};
use proptest::{prelude::*, sample::select};
use serde_json::{Map, Value, json};

use crate::{
    ACCOUNT, ALICE, BOB, NOBODY, ROOT,
    reference::{Answer, Question, TIMES, answer},
};

pub(crate) const ACTIONS: [&str; 8] = [
    "s3:GetObject",
    "s3:PutObject",
    "s3:GetObjectVersion",
    "s3:DeleteObject",
    "s3:ListBucket",
    "s3:GetBucketPolicy",
    "s3:PutBucketPolicy",
    "s3:ListAllMyBuckets",
];

pub(crate) const RESOURCES: [&str; 8] = [
    "arn:aws:s3:::b",
    "arn:aws:s3:::b/a",
    "arn:aws:s3:::b/a/x",
    "arn:aws:s3:::b/A",
    "arn:aws:s3:::b/*",
    "arn:aws:s3:::bb/a",
    "arn:aws:s3:::c",
    "arn:aws:s3:::*",
];

const WORDS: [&str; 6] = ["", "a", "A", "ab", "*", "a?"];

/// Of one family of operators: their names, the policies' values and the requests'.
struct Family {
    names: &'static [&'static str],
    wanted: Vec<&'static str>,
    found: Vec<&'static str>,
    key: &'static str,
    /// Whether there may be words before and after the operator's name.
    worded: bool,
}

fn families() -> Vec<Family> {
    let times: Vec<&str> = TIMES.iter().map(|(text, _)| *text).collect();
    let family = |names, wanted: &[&'static str], found: &[&'static str], key, worded| Family {
        names,
        wanted: wanted.to_vec(),
        found: found.to_vec(),
        key,
        worded,
    };
    vec![
        family(
            &[
                "StringEquals",
                "StringNotEquals",
                "StringEqualsIgnoreCase",
                "StringNotEqualsIgnoreCase",
                "StringLike",
                "StringNotLike",
            ],
            &["", "a", "A", "a*", "?", "*b", "*", "${*}", "${aws:username}", "${aws:Referer, 'a'}", "a${aws:userid}*"],
            &WORDS,
            "aws:UserAgent",
            true,
        ),
        family(
            &[
                "NumericEquals",
                "NumericNotEquals",
                "NumericLessThan",
                "NumericLessThanEquals",
                "NumericGreaterThan",
                "NumericGreaterThanEquals",
            ],
            &["0", "1", "-1", "1.5", "01.50", "10"],
            &["0", "1.0", "-1.25", "1.5", "10", "x"],
            "s3:signatureAge",
            true,
        ),
        family(
            &[
                "DateEquals",
                "DateNotEquals",
                "DateLessThan",
                "DateLessThanEquals",
                "DateGreaterThan",
                "DateGreaterThanEquals",
            ],
            &times,
            &[&times[..], &["x"]].concat(),
            "aws:CurrentTime",
            true,
        ),
        family(&["Bool"], &["true", "false"], &["true", "false", "TRUE", "x"], "aws:SecureTransport", true),
        family(&["BinaryEquals"], &["YQ==", "Yg=="], &["YQ==", "YWI="], "s3:x-amz-content-sha256", true),
        family(
            &["IpAddress", "NotIpAddress"],
            &["10.0.0.0/8", "10.1.2.3", "10.1.2.0/23", "0.0.0.0/0", "::/0", "2001:db8::/33", "2001:db8::1"],
            &["10.1.2.3", "10.1.3.9", "11.0.0.1", "::1", "2001:db8::1", "2001:db8:8000::1", "::ffff:10.1.2.3", "x"],
            "aws:SourceIp",
            true,
        ),
        family(
            &["ArnEquals", "ArnLike", "ArnNotEquals", "ArnNotLike"],
            &["arn:aws:iam::1:user/a", "arn:aws:iam::*:user/*", "arn:*:iam::1:user/a?", "arn:aws:iam::?:*"],
            &["arn:aws:iam::1:user/a", "arn:aws:iam::1:2:user/a", "arn:aws:iam::12:user/ab", "nothing"],
            "aws:PrincipalArn",
            true,
        ),
        family(&["Null"], &["true", "false"], &["a"], "aws:Referer", false),
    ]
}

fn condition() -> impl Strategy<Value = (String, Value)> {
    let of = |family: Family| {
        let quantity = select(if family.worded { vec!["", "", "ForAllValues:", "ForAnyValue:"] } else { vec![""] });
        let suffix = select(if family.worded { vec!["", "", "IfExists"] } else { vec![""] });
        let values = prop::collection::vec(select(family.wanted), 1..3);
        // Another way to write the same key.
        let key = select(vec![family.key.to_owned(), family.key.to_uppercase()]);
        (quantity, select(family.names), suffix, key, values)
            .prop_map(|(quantity, name, suffix, key, values)| {
                (format!("{quantity}{name}{suffix}"), json!({ key: values }))
            })
            .boxed()
    };
    prop::strategy::Union::new(families().into_iter().map(of))
}

fn principals() -> impl Strategy<Value = (&'static str, Value)> {
    let all =
        [ACCOUNT, "arn:aws:iam::123456789012:root", "arn:aws:iam::123456789012:user/alice", "AIDABOBBOBBOBBOBBOB1"];
    let named = prop::collection::vec(select(all.to_vec()), 1..4);
    prop_oneof![
        Just(("Principal", json!("*"))),
        Just(("Principal", json!({"AWS": "*"}))),
        named.clone().prop_map(|names| ("Principal", json!({ "AWS": names }))),
        named.prop_map(|names| ("NotPrincipal", json!({ "AWS": names }))),
    ]
}

fn statement(of_bucket: bool) -> impl Strategy<Value = Value> {
    let actions =
        ["s3:*", "*", "s3:GetObject", "S3:getobject", "s3:Get*", "s3:*Object", "s3:?etObject*", "s3:PutObject"];
    let actions = (any::<bool>(), prop::collection::vec(select(actions.to_vec()), 1..3));
    let mut resources = vec![
        "arn:aws:s3:::b",
        "arn:aws:s3:::b*",
        "arn:aws:s3:::b/*",
        "arn:aws:s3:::b/a",
        "arn:aws:s3:::b/?",
        "arn:aws:s3:::b/${aws:username}",
        "arn:aws:s3:::b/${aws:userid, 'a'}/*",
        "arn:aws:s3:::b/${*}",
    ];
    if !of_bucket {
        resources.extend(["*", "arn:aws:s3:::*", "arn:aws:s3:::?", "arn:aws:s3:::c", "arn:aws:s3:::*/a"]);
    }
    let resources = (prop::bool::weighted(0.2), prop::collection::vec(select(resources), 1..3));
    let conditions = prop::collection::vec(condition(), 0..3);
    (any::<bool>(), actions, resources, principals(), conditions).prop_map(
        move |(deny, (not_actions, actions), (not_resources, resources), (about, principals), conditions)| {
            let mut fields = Map::new();
            fields.insert("Effect".into(), json!(if deny { "Deny" } else { "Allow" }));
            fields.insert(if not_actions { "NotAction" } else { "Action" }.into(), json!(actions));
            fields.insert(if not_resources { "NotResource" } else { "Resource" }.into(), json!(resources));
            if of_bucket {
                // Only what denies may say NotPrincipal.
                fields.insert(if deny { about } else { "Principal" }.into(), principals);
            }
            if !conditions.is_empty() {
                fields.insert("Condition".into(), conditions.into_iter().collect());
            }
            Value::Object(fields)
        },
    )
}

pub(crate) fn policy(of_bucket: bool) -> impl Strategy<Value = Value> {
    let version = select(vec!["2012-10-17", "2012-10-17", "2012-10-17", "2008-10-17"]);
    (version, prop::collection::vec(statement(of_bucket), 1..4))
        .prop_map(|(version, statements)| json!({ "Version": version, "Statement": statements }))
}

/// The policy without statements that S3 refuses because their actions, resources and conditions do not fit together.
/// None if there are no others.
fn fitting(policy: &Value) -> Option<Value> {
    let with = |statements: Vec<&Value>| json!({ "Version": policy["Version"], "Statement": statements });
    let fits = |statement: &&Value| match Policy::parse(
        PolicyKind::Bucket { name: "b" },
        with(vec![statement]).to_string().as_bytes(),
    ) {
        Ok(_) => true,
        Err(error) => {
            let unfit = matches!(error.fault, Fault::ActionWithoutResource(_) | Fault::ConditionWithoutAction(_));
            assert!(unfit, "{error}: {statement}");
            false
        }
    };
    let statements: Vec<&Value> = policy["Statement"].as_array().unwrap().iter().filter(fits).collect();
    (!statements.is_empty()).then(|| with(statements))
}

/// Each key has no value, one or two.
pub(crate) fn facts(most: usize) -> impl Strategy<Value = Vec<(String, String)>> {
    let of = |key: &'static str, values: Vec<&'static str>| {
        prop::collection::vec(select(values), 0..=most)
            .prop_map(move |values| values.into_iter().map(|value| (key.to_lowercase(), value.to_owned())).collect())
            .boxed()
    };
    let mut all: Vec<BoxedStrategy<Vec<(String, String)>>> =
        families().into_iter().map(|family| of(family.key, family.found)).collect();
    all.push(of("aws:username", WORDS.to_vec()));
    all.push(of("aws:userid", WORDS.to_vec()));
    all.prop_map(|all| all.into_iter().flatten().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn decisions_are_those_of_the_reference(
        identity in prop::collection::vec(policy(false), 0..3),
        session in prop::option::of(policy(false)),
        bucket in prop::option::of(policy(true)),
        owner in prop::bool::weighted(0.2),
        principal in select(vec![ALICE, BOB, ROOT, NOBODY]),
        action in select(ACTIONS.to_vec()),
        resource in select(RESOURCES.to_vec()),
        facts in facts(2),
    ) {
        let read = |kind, policy: &Value| Policy::parse(kind, policy.to_string().as_bytes());
        let own: Result<Vec<Policy>, _> = identity.iter().map(|policy| read(PolicyKind::Identity, policy)).collect();
        let own = own.unwrap();
        let limit = session.as_ref().map(|policy| read(PolicyKind::Session, policy).unwrap());
        let bucket = bucket.and_then(|policy| fitting(&policy));
        let of_bucket = bucket.as_ref().map(|policy| read(PolicyKind::Bucket { name: "b" }, policy).unwrap());
        let mut context = Context::new();
        facts.iter().for_each(|(key, value)| context.add(&**key, &**value));
        let policies = Policies {
            identity: &own.iter().collect::<Vec<_>>(),
            session: limit.as_ref(),
            bucket: of_bucket.as_ref(),
            owner_is_principal: owner,
            restrict_public: false,
        };
        let decision = decide(&policies, &Request { principal, action, resource, context: &context });
        let found = match decision {
            Decision::Allowed(_) => Answer::Allowed,
            Decision::Denied(_) => Answer::Denied,
            Decision::NotAllowed(_) => Answer::NotAllowed,
        };
        let question = Question { principal, action, resource, context: &facts };
        let expected = answer(&identity, session.as_ref(), bucket.as_ref(), owner, &question);
        prop_assert_eq!(found, expected, "{:?}", decision);
    }
}
