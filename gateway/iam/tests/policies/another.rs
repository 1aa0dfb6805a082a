//! The same policies decided by another implementation, the crate `iam-rs`, as far as it follows AWS's user guide.
//! Where it does not (version 0.8.0), it is not asked:
//! - variables are put into resources only, not into conditions; stars in what is put in are wildcards, and one without
//!   a value becomes empty instead of matching nothing; `${*}` and its kind are unknown;
//! - operators on ARNs compare the whole text, so that wildcards go over colons, and ArnEquals has none;
//! - `ForAllValues:` and `ForAnyValue:` are for strings only, and never with `IfExists`;
//! - of several values with a negated operator one is enough;
//! - condition keys have case; addresses of IPv4 written as IPv6 are others; of several values of Null the first
//!   counts;
//! - a date without a time, or a time without seconds, is an error, and so is a wrong value when it is met.

use cairn_iam::{Context, Decision, Policies, Policy, PolicyKind, Request, decide};
use iam_rs::{Arn, ContextValue, IAMPolicy, IAMRequest, PrincipalId, evaluate_policies};
use proptest::{prelude::*, sample::select};
use serde_json::{Value, json};

use crate::{
    ALICE,
    generated::{ACTIONS, RESOURCES, facts, policy},
};

/// The times that it does not know.
const TIMES: [&str; 2] = ["1970-01-01", "2000-02-29T12:00Z"];

/// Whether the other implementation can be asked about a statement.
fn is_common(statement: &Value) -> bool {
    let text = statement.to_string();
    let conditions = statement["Condition"].as_object().into_iter().flatten();
    let mut conditions = conditions.map(|(operator, keys)| {
        let several = keys.as_object().unwrap().values().any(|values| values.as_array().unwrap().len() > 1);
        let worded = operator.contains(':');
        !operator.starts_with("Arn")
            && !operator.contains(":Arn")
            && !(worded && (!operator.contains(":String") || operator.ends_with("IfExists")))
            && !(operator == "Null" && several)
    });
    !text.contains("${")
        && !TIMES.iter().any(|time| text.contains(&format!("{time:?}")))
        && conditions.all(|common| common)
}

fn common(policy: &Value) -> Option<Value> {
    let statements = policy["Statement"].as_array().unwrap().iter().filter(|statement| is_common(statement));
    let statements: Vec<&Value> = statements.collect();
    (!statements.is_empty()).then(|| json!({ "Version": policy["Version"], "Statement": statements }))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn another_implementation_decides_the_same(
        policies in prop::collection::vec(policy(false), 1..4),
        action in select(ACTIONS.to_vec()),
        resource in select(RESOURCES.to_vec()),
        facts in facts(1),
    ) {
        let texts: Vec<String> = policies.iter().filter_map(common).map(|policy| policy.to_string()).collect();
        let own: Vec<Policy> =
            texts.iter().map(|text| Policy::parse(PolicyKind::Identity, text.as_bytes()).unwrap()).collect();
        let (mut context, mut theirs) = (Context::new(), iam_rs::Context::new());
        for (key, value) in facts.iter().filter(|(_, value)| !value.starts_with("::ffff:") && !TIMES.contains(&&**value)) {
            context.add(&**key, &**value);
            let truth = value.to_lowercase().parse().ok().filter(|_| key == "aws:securetransport");
            let typed = truth.map_or_else(|| ContextValue::String(value.clone()), ContextValue::Boolean);
            // As the made-up policies write them.
            for name in ["aws:UserAgent", "s3:signatureAge", "aws:CurrentTime", "aws:SecureTransport",
                "s3:x-amz-content-sha256", "aws:SourceIp", "aws:Referer"] {
                if name.to_lowercase() == *key {
                    theirs.insert(name.into(), typed.clone());
                    theirs.insert(name.to_uppercase(), typed.clone());
                }
            }
        }
        let policies = Policies { identity: &own.iter().collect::<Vec<_>>(), ..Policies::default() };
        let found = match decide(&policies, &Request { principal: ALICE, action, resource, context: &context }) {
            Decision::Allowed(_) => iam_rs::Decision::Allow,
            Decision::Denied(_) => iam_rs::Decision::Deny,
            Decision::NotAllowed(_) => iam_rs::Decision::NotApplicable,
        };
        let alice = iam_rs::Principal::Aws(PrincipalId::String("arn:aws:iam::123456789012:user/alice".into()));
        let request = IAMRequest::new_with_context(alice, action, Arn::parse(resource).unwrap(), theirs);
        let read: Vec<IAMPolicy> = texts.iter().map(|text| IAMPolicy::from_json(text).unwrap()).collect();
        let expected = evaluate_policies(&read, &request).unwrap();
        prop_assert_eq!(found, expected, "{:?}", texts);
    }
}
