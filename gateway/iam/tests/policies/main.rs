//! Policies as whoever attaches them sees them, through the crate's public surface.
#![allow(clippy::unwrap_used)]

mod another;
mod confusion;
mod generated;
mod hostile;
mod malformed;
mod operators;
mod public;
mod reference;
mod wildcards;

use cairn_iam::{Context, Decision, Policies, Policy, PolicyKind, Principal, Request};

const ACCOUNT: &str = "123456789012";
const ALICE: Principal<'_> =
    Principal::User { account: ACCOUNT, arn: "arn:aws:iam::123456789012:user/alice", id: "AIDAALICEALICEALICE1" };
const BOB: Principal<'_> =
    Principal::User { account: ACCOUNT, arn: "arn:aws:iam::123456789012:user/bob", id: "AIDABOBBOBBOBBOBBOB1" };
const ROOT: Principal<'_> = Principal::Root { account: ACCOUNT };
const NOBODY: Principal<'_> = Principal::Anonymous;

/// Of users and groups.
fn identity(text: &str) -> Policy {
    Policy::parse(PolicyKind::Identity, text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Of the bucket `b`.
fn of_bucket(text: &str) -> Policy {
    Policy::parse(PolicyKind::Bucket { name: "b" }, text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn context<'a>(entries: &[(&'a str, &'a str)]) -> Context<'a> {
    let mut context = Context::new();
    entries.iter().for_each(|(key, value)| context.add(*key, *value));
    context
}

fn decide<'a>(
    policies: Policies<'a>,
    principal: Principal<'_>,
    action: &str,
    resource: &str,
    entries: &[(&str, &str)],
) -> Decision<'a> {
    cairn_iam::decide(&policies, &Request { principal, action, resource, context: &context(entries) })
}

/// Whether alice may by one policy of her own.
fn alice_may(policy: &str, action: &str, resource: &str, entries: &[(&str, &str)]) -> bool {
    let policy = identity(policy);
    decide(Policies { identity: &[&policy], ..Policies::default() }, ALICE, action, resource, entries).is_allowed()
}
