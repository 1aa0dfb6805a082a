//! What policies are commonly mistaken about: which of two counts, what a pattern covers, who is meant.

use cairn_iam::{Decision, Ground, Missing, Policies, Policy, Principal, Source, StatementRef};

use crate::{ALICE, BOB, NOBODY, ROOT, alice_may, decide, identity, of_bucket};

const OBJECT: &str = "arn:aws:s3:::b/k";
const BUCKET: &str = "arn:aws:s3:::b";

fn statement_of(decision: Decision<'_>) -> StatementRef<'_> {
    match decision {
        Decision::Denied(statement) | Decision::Allowed(Ground::Statement(statement)) => statement,
        other => panic!("no statement decided: {other:?}"),
    }
}

fn named(source: Source, index: usize, sid: &str) -> StatementRef<'_> {
    StatementRef { source, index, sid: Some(sid) }
}

#[test]
fn a_statement_that_denies_wins_wherever_it_is() {
    let allow = identity(r#"{"Statement": [{"Sid": "All", "Effect": "Allow", "Action": "*", "Resource": "*"}]}"#);
    let deny = identity(
        r#"{"Statement": [
            {"Effect": "Allow", "Action": "s3:*", "Resource": "*"},
            {"Sid": "Not", "Effect": "Deny", "Action": "s3:GetObject", "Resource": "*"}
        ]}"#,
    );
    let bucket_denies = of_bucket(
        r#"{"Statement": [{"Sid": "no-one!", "Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "arn:aws:s3:::b/*"}]}"#,
    );
    let bucket_allows = of_bucket(
        r#"{"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": "arn:aws:s3:::b/*"}]}"#,
    );
    let get = |policies| decide(policies, ALICE, "s3:GetObject", OBJECT, &[]);
    fn own<'a>(identity: &'a [&'a Policy]) -> Policies<'a> {
        Policies { identity, ..Policies::default() }
    }
    let (allows, denies, both, both_ways) = ([&allow], [&deny], [&allow, &deny], [&deny, &allow]);

    assert_eq!(statement_of(get(own(&allows))), named(Source::Identity(0), 0, "All"));
    assert_eq!(statement_of(get(own(&both))), named(Source::Identity(1), 1, "Not"));
    assert_eq!(statement_of(get(own(&both_ways))), named(Source::Identity(0), 1, "Not"));
    let policies = Policies { bucket: Some(&bucket_denies), ..own(&allows) };
    assert_eq!(statement_of(get(policies)), named(Source::Bucket, 0, "no-one!"));
    let policies = Policies { bucket: Some(&bucket_allows), ..own(&denies) };
    assert_eq!(statement_of(get(policies)), named(Source::Identity(0), 1, "Not"));
    let policies = Policies { session: Some(&deny), bucket: Some(&bucket_allows), ..own(&allows) };
    assert_eq!(statement_of(get(policies)), named(Source::Session, 1, "Not"));
    let policies = Policies { session: Some(&deny), owner_is_principal: true, ..Policies::default() };
    assert_eq!(statement_of(get(policies)), named(Source::Session, 1, "Not"));
    assert_eq!(statement_of(get(policies)).to_string(), "statement 2, Sid \"Not\", of the session policy");
}

#[test]
fn a_session_limits_and_grants_nothing() {
    let all = identity(r#"{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}"#);
    let reads = identity(r#"{"Statement": {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}}"#);
    let bucket = of_bucket(
        r#"{"Statement": {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::123456789012:user/alice"},
            "Action": "s3:*Object", "Resource": "arn:aws:s3:::b/*"}}"#,
    );
    let get = |policies| decide(policies, ALICE, "s3:GetObject", OBJECT, &[]);
    let put = |policies| decide(policies, ALICE, "s3:PutObject", OBJECT, &[]);
    let alone = Policies { session: Some(&reads), ..Policies::default() };
    assert_eq!(get(alone), Decision::NotAllowed(Missing::Grant));
    let with = Policies { identity: &[&all], ..alone };
    assert!(get(with).is_allowed());
    assert_eq!(put(with), Decision::NotAllowed(Missing::SessionGrant));
    let with = Policies { bucket: Some(&bucket), ..alone };
    assert!(get(with).is_allowed());
    assert_eq!(put(with), Decision::NotAllowed(Missing::SessionGrant));
    let with = Policies { owner_is_principal: true, ..alone };
    assert_eq!(get(with), Decision::Allowed(Ground::Owner));
    assert_eq!(put(with), Decision::NotAllowed(Missing::SessionGrant));
    // An access key of the root may be limited like any other.
    assert_eq!(decide(alone, ROOT, "s3:GetObject", OBJECT, &[]), Decision::Allowed(Ground::Root));
    assert_eq!(decide(alone, ROOT, "s3:PutObject", OBJECT, &[]), Decision::NotAllowed(Missing::SessionGrant));
}

#[test]
fn the_root_is_never_locked_out_of_a_buckets_policy() {
    let denies = of_bucket(
        r#"{"Statement": {"Effect": "Deny", "Principal": "*", "Action": "s3:*",
            "Resource": ["arn:aws:s3:::b", "arn:aws:s3:::b/*"]}}"#,
    );
    let policies = Policies { bucket: Some(&denies), ..Policies::default() };
    for action in ["s3:GetBucketPolicy", "s3:PutBucketPolicy", "s3:DeleteBucketPolicy"] {
        assert_eq!(decide(policies, ROOT, action, BUCKET, &[]), Decision::Allowed(Ground::Root), "{action}");
        let owner = Policies { owner_is_principal: true, ..policies };
        assert!(matches!(decide(owner, ALICE, action, BUCKET, &[]), Decision::Denied(_)), "{action}");
    }
    for (action, resource) in
        [("s3:GetObject", OBJECT), ("s3:ListBucket", BUCKET), ("s3:GetBucketPolicyStatus", BUCKET)]
    {
        assert!(matches!(decide(policies, ROOT, action, resource, &[]), Decision::Denied(_)), "{action}");
    }
}

#[test]
fn what_is_no_action_is_nobodys() {
    let all = identity(r#"{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}"#);
    let policies = Policies { identity: &[&all], owner_is_principal: true, ..Policies::default() };
    for action in ["s3:Everything", "GetObject", "s3:", "", "s3:GetObject ", "sts:AssumeRole"] {
        for principal in [ALICE, ROOT] {
            let decision = decide(policies, principal, action, OBJECT, &[]);
            assert_eq!(decision, Decision::NotAllowed(Missing::Action), "{action}");
        }
    }
    assert!(decide(policies, ALICE, "S3:GETOBJECT", OBJECT, &[]).is_allowed());
}

#[test]
fn anonymous_requests_have_only_the_buckets_policy() {
    let all = identity(r#"{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}"#);
    let named = of_bucket(
        r#"{"Statement": {"Effect": "Allow", "Principal": {"AWS": ["123456789012", "arn:aws:iam::123456789012:user/alice"]},
            "Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/*"}}"#,
    );
    let public = of_bucket(
        r#"{"Statement": {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/*"}}"#,
    );
    let get = |policies| decide(policies, NOBODY, "s3:GetObject", OBJECT, &[]);
    let own = Policies { identity: &[&all], owner_is_principal: true, ..Policies::default() };
    assert_eq!(get(own), Decision::NotAllowed(Missing::Grant));
    assert_eq!(get(Policies { bucket: Some(&named), ..own }), Decision::NotAllowed(Missing::Grant));
    let open = Policies { bucket: Some(&public), ..Policies::default() };
    assert!(get(open).is_allowed());
    assert_eq!(decide(open, NOBODY, "s3:PutObject", OBJECT, &[]), Decision::NotAllowed(Missing::Grant));
    // Restricted to the account, it still serves the account's users.
    let restricted = Policies { restrict_public: true, ..open };
    assert_eq!(get(restricted), Decision::NotAllowed(Missing::PublicAccess));
    assert!(decide(restricted, BOB, "s3:GetObject", OBJECT, &[]).is_allowed());
}

#[test]
fn naming_the_account_allows_nothing_to_its_users_and_denies_all_to_them() {
    let with = |effect: &str, principal: &str| {
        of_bucket(&format!(
            r#"{{"Statement": {{"Effect": "{effect}", {principal}, "Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/*"}}}}"#
        ))
    };
    let account = r#""Principal": {"AWS": "arn:aws:iam::123456789012:root"}"#;
    let own = identity(r#"{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}"#);
    let get = |own: &[&Policy], bucket: &Policy, principal: Principal<'_>| {
        let policies = Policies { identity: own, bucket: Some(bucket), ..Policies::default() };
        decide(policies, principal, "s3:GetObject", OBJECT, &[]).is_allowed()
    };
    assert!(!get(&[], &with("Allow", account), ALICE));
    assert!(get(&[&own], &with("Allow", account), ALICE));
    for everyone in [ALICE, BOB, ROOT] {
        assert!(!get(&[&own], &with("Deny", account), everyone));
    }
    let other = r#""Principal": {"AWS": "999999999999"}"#;
    assert!(get(&[&own], &with("Deny", other), ALICE));

    // NotPrincipal leaves out only who is named with the account.
    let both = r#""NotPrincipal": {"AWS": ["arn:aws:iam::123456789012:root", "arn:aws:iam::123456789012:user/alice"]}"#;
    let user = r#""NotPrincipal": {"AWS": "arn:aws:iam::123456789012:user/alice"}"#;
    let root = r#""NotPrincipal": {"AWS": "arn:aws:iam::123456789012:root"}"#;
    for (named, alice, bob, of_root) in
        [(both, true, false, true), (user, false, false, false), (root, false, false, true)]
    {
        let policy = with("Deny", named);
        let may = [ALICE, BOB, ROOT].map(|principal| get(&[&own], &policy, principal));
        assert_eq!(may, [alice, bob, of_root], "{named}");
        assert!(!get(&[], &policy, NOBODY));
    }
}

#[test]
fn a_user_of_the_same_name_is_not_the_user_whose_id_is_named() {
    let policy = of_bucket(
        r#"{"Statement": {"Effect": "Allow", "Principal": {"AWS": "AIDAALICEALICEALICE1"}, "Action": "s3:*", "Resource": "arn:aws:s3:::b/*"}}"#,
    );
    let policies = Policies { bucket: Some(&policy), ..Policies::default() };
    assert!(decide(policies, ALICE, "s3:GetObject", OBJECT, &[]).is_allowed());
    let again = Principal::User {
        account: "123456789012",
        arn: "arn:aws:iam::123456789012:user/alice",
        id: "AIDAALICEALICEALICE2",
    };
    assert!(!decide(policies, again, "s3:GetObject", OBJECT, &[]).is_allowed());
}

#[test]
fn a_bucket_is_not_its_objects() {
    let of = |resource: &str| {
        format!(r#"{{"Statement": {{"Effect": "Allow", "Action": "s3:*", "Resource": "{resource}"}}}}"#)
    };
    for (resource, bucket, object, sibling) in [
        ("arn:aws:s3:::b", true, false, false),
        ("arn:aws:s3:::b/*", false, true, false),
        ("arn:aws:s3:::b/", false, false, false),
        ("arn:aws:s3:::b*", true, true, true),
        ("arn:aws:s3:::B/*", false, false, false),
        ("arn:aws:s3:::*", true, true, true),
        ("arn:aws:s3:::*/*", false, true, true),
        ("*", true, true, true),
    ] {
        let policy = of(resource);
        assert_eq!(alice_may(&policy, "s3:ListBucket", BUCKET, &[]), bucket, "{resource}");
        assert_eq!(alice_may(&policy, "s3:GetObject", OBJECT, &[]), object, "{resource}");
        assert_eq!(alice_may(&policy, "s3:GetObject", "arn:aws:s3:::bb/k", &[]), sibling, "{resource}");
    }
    // Listing buckets is about none of them.
    for (resource, lists) in
        [("*", true), ("arn:aws:s3:::*", true), ("arn:aws:s3:::b", false), ("arn:aws:s3:::b*", false)]
    {
        assert_eq!(alice_may(&of(resource), "s3:ListAllMyBuckets", "arn:aws:s3:::*", &[]), lists, "{resource}");
    }
}

#[test]
fn not_action_and_not_resource_leave_out_and_grant_the_rest() {
    let policy =
        r#"{"Statement": {"Effect": "Allow", "NotAction": "s3:Delete*", "NotResource": "arn:aws:s3:::b/secret/*"}}"#;
    assert!(alice_may(policy, "s3:PutObject", OBJECT, &[]));
    assert!(!alice_may(policy, "s3:DeleteObject", OBJECT, &[]));
    assert!(!alice_may(policy, "s3:PutObject", "arn:aws:s3:::b/secret/k", &[]));
    assert!(alice_may(policy, "s3:PutObject", "arn:aws:s3:::other/k", &[]));
}

/// IAM's user guide: a folder of one's own by a policy variable.
#[test]
fn variables_stand_for_text_only_and_in_the_new_version_only() {
    let home = |version: &str| {
        format!(
            r#"{{"Version": "{version}", "Statement": [
                {{"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::b",
                  "Condition": {{"StringLike": {{"s3:prefix": ["${{aws:username}}/*"]}}}}}},
                {{"Effect": "Allow", "Action": "s3:*", "Resource": "arn:aws:s3:::b/${{aws:username}}/*"}}
            ]}}"#
        )
    };
    let (new, old) = (home("2012-10-17"), home("2008-10-17"));
    let alice = ("aws:username", "alice");
    assert!(alice_may(&new, "s3:GetObject", "arn:aws:s3:::b/alice/k", &[alice]));
    assert!(!alice_may(&new, "s3:GetObject", "arn:aws:s3:::b/bob/k", &[alice]));
    assert!(!alice_may(&new, "s3:GetObject", "arn:aws:s3:::b/alice", &[alice]));
    assert!(alice_may(&new, "s3:ListBucket", BUCKET, &[alice, ("s3:prefix", "alice/x")]));
    assert!(!alice_may(&new, "s3:ListBucket", BUCKET, &[alice, ("s3:prefix", "bob/x")]));
    assert!(!alice_may(&new, "s3:ListBucket", BUCKET, &[alice]));
    // Without a name nothing is anybody's.
    assert!(!alice_may(&new, "s3:GetObject", "arn:aws:s3:::b//k", &[]));
    assert!(!alice_may(&new, "s3:GetObject", "arn:aws:s3:::b/${aws:username}/k", &[]));
    // A name of stars is a name.
    assert!(!alice_may(&new, "s3:GetObject", "arn:aws:s3:::b/bob/k", &[("aws:username", "*")]));
    assert!(alice_may(&new, "s3:GetObject", "arn:aws:s3:::b/*/k", &[("aws:username", "*")]));
    assert!(!alice_may(&new, "s3:GetObject", "arn:aws:s3:::b/bob/k", &[("aws:username", "???")]));
    // The old version knows no variables: that is what the key is called.
    assert!(!alice_may(&old, "s3:GetObject", "arn:aws:s3:::b/alice/k", &[alice]));
    assert!(alice_may(&old, "s3:GetObject", "arn:aws:s3:::b/${aws:username}/k", &[alice]));
}

#[test]
fn variables_have_defaults_and_letters_can_be_written_as_variables() {
    let of = |resource: &str| {
        format!(
            r#"{{"Version": "2012-10-17", "Statement": {{"Effect": "Allow", "Action": "s3:*", "Resource": "arn:aws:s3:::b/{resource}"}}}}"#
        )
    };
    for (resource, key, entries, expected) in [
        ("${aws:username, 'nobody'}/*", "nobody/k", &[][..], true),
        ("${aws:username,'nobody'}/*", "nobody/k", &[], true),
        ("${aws:username, 'nobody'}/*", "nobody/k", &[("aws:username", "alice")], false),
        ("${aws:username, 'no}b,ody'}", "no}b,ody", &[], true),
        ("${aws:username, '*'}", "k", &[], false),
        ("${AWS:UserName}", "alice", &[("aws:username", "alice")], true),
        ("${*}", "*", &[], true),
        ("${*}", "k", &[], false),
        ("${?}", "k", &[], false),
        ("${$}{aws:username}", "${aws:username}", &[], true),
        ("$", "$", &[], true),
        ("{}", "{}", &[], true),
        // Of two values nobody can say which is meant.
        ("${aws:username, 'x'}", "a", &[("aws:username", "a"), ("aws:username", "b")], false),
        ("${aws:username, 'x'}", "x", &[("aws:username", "a"), ("aws:username", "b")], false),
    ] {
        let object = format!("arn:aws:s3:::b/{key}");
        assert_eq!(alice_may(&of(resource), "s3:GetObject", &object, entries), expected, "{resource} {key}");
    }
    // What is left out cannot be told: it denies all, and allows nothing.
    let left_out = |effect: &str| {
        identity(&format!(
            r#"{{"Version": "2012-10-17", "Statement": [
                {{"Effect": "Allow", "Action": "s3:PutObject", "Resource": "*"}},
                {{"Effect": "{effect}", "Action": "*", "NotResource": "arn:aws:s3:::b/${{aws:username}}"}}]}}"#
        ))
    };
    let (denies, allows) = (left_out("Deny"), left_out("Allow"));
    let (denies, allows) = ([&denies], [&allows]);
    let with = |identity, action| decide(Policies { identity, ..Policies::default() }, ALICE, action, OBJECT, &[]);
    assert!(matches!(with(&denies, "s3:PutObject"), Decision::Denied(_)));
    assert_eq!(with(&allows, "s3:GetObject"), Decision::NotAllowed(Missing::Grant));
}

/// What a value may become is bounded, and longer ones are nobody's.
#[test]
fn variables_of_long_values_match_nothing() {
    let policy = r#"{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "arn:aws:s3:::b/${aws:Referer}${aws:Referer}"}}"#;
    let may = |length: usize| {
        let value = "x".repeat(length);
        alice_may(policy, "s3:GetObject", &format!("arn:aws:s3:::b/{value}{value}"), &[("aws:Referer", &value)])
    };
    assert!(may(4 << 10));
    assert!(!may((4 << 10) + 1));
}
