//! What is no policy, and what is said of it.

use cairn_iam::{BUCKET_POLICY_MAX_BYTES, IDENTITY_POLICY_MAX_BYTES, Policy, PolicyKind, SESSION_POLICY_MAX_BYTES};

fn error(kind: PolicyKind<'_>, text: &str) -> String {
    match Policy::parse(kind, text.as_bytes()) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("taken for a policy: {text}"),
    }
}

const OF_BUCKET: PolicyKind<'_> = PolicyKind::Bucket { name: "b" };

/// With the fields of a statement that is right but for them.
fn statement(kind: PolicyKind<'_>, replaced: &str, by: &str) -> String {
    let principal = if kind == OF_BUCKET { r#""Principal": "*", "# } else { "" };
    let right = format!(
        r#"{{"Version": "2012-10-17", "Statement": [{{"Sid": "a", "Effect": "Allow", {principal}"Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/*"}}]}}"#
    );
    assert!(Policy::parse(kind, right.as_bytes()).is_ok(), "{right}");
    assert!(right.contains(replaced), "{replaced}");
    right.replace(replaced, by)
}

#[test]
fn what_is_wrong_is_said_with_its_statement() {
    let resource = r#""Resource": "arn:aws:s3:::b/*""#;
    let action = r#""Action": "s3:GetObject""#;
    for (replaced, by, said) in [
        (r#""2012-10-17""#, r#""2012-10-18""#, "The policy must contain a valid version string, not 2012-10-18"),
        (r#""Statement""#, r#""Statements""#, "Unknown field Statements"),
        (r#""Version""#, r#""Statement": [], "Version""#, "The field Statement is given twice"),
        (r#""Sid": "a""#, r#""Sid": 1"#, "Sid must be a string (statement 1)"),
        (r#""Effect": "Allow""#, r#""Effect": "allow""#, "Invalid effect: allow (statement 1, Sid \"a\")"),
        (r#""Effect": "Allow", "#, "", "Missing required field Effect (statement 1, Sid \"a\")"),
        (action, r#""Action": "s3:Get""#, "Policy has invalid action: s3:Get (statement 1, Sid \"a\")"),
        (action, r#""Action": "ec2:*""#, "Policy has invalid action: ec2:* (statement 1, Sid \"a\")"),
        (action, r#""Action": "s*:GetObject""#, "Policy has invalid action: s*:GetObject (statement 1, Sid \"a\")"),
        (action, r#""Action": ["s3:*", "s3:Ge?"]"#, "Policy has invalid action: s3:Ge? (statement 1, Sid \"a\")"),
        (action, r#""Action": []"#, "Action must be one value or more (statement 1, Sid \"a\")"),
        (action, r#""Action": {"s3": "x"}"#, "Action must be a string (statement 1, Sid \"a\")"),
        (
            action,
            r#""Action": "s3:*", "NotAction": "s3:Get*""#,
            "Action and NotAction cannot be given together (statement 1, Sid \"a\")",
        ),
        (action, r#""action": "s3:*""#, "Unknown field action (statement 1, Sid \"a\")"),
        (action, r#""Action": "s3:*", "Action": "s3:Get*""#, "The field Action is given twice"),
        (resource, r#""Resource": "b/*""#, "Policy has invalid resource: b/* (statement 1, Sid \"a\")"),
        (
            resource,
            r#""Resource": "arn:aws:s3:::""#,
            "Policy has invalid resource: arn:aws:s3::: (statement 1, Sid \"a\")",
        ),
        (
            resource,
            r#""Resource": "arn:aws:sqs:::b/*""#,
            "Policy has invalid resource: arn:aws:sqs:::b/* (statement 1, Sid \"a\")",
        ),
        (
            resource,
            r#""Resource": "arn:aws:s3:::b/${aws:nobody}""#,
            "Invalid policy variable: ${aws:nobody} (statement 1, Sid \"a\")",
        ),
        (
            resource,
            r#""Resource": "arn:aws:s3:::b/${aws:username""#,
            "Invalid policy variable: ${aws:username (statement 1, Sid \"a\")",
        ),
        (
            resource,
            r#""Resource": "arn:aws:s3:::b/${aws:username, x}""#,
            "Invalid policy variable: ${aws:username, x} (statement 1, Sid \"a\")",
        ),
    ] {
        for kind in [PolicyKind::Identity, PolicyKind::Session, OF_BUCKET] {
            assert_eq!(error(kind, &statement(kind, replaced, by)), said, "{kind:?} {by}");
        }
    }
}

#[test]
fn conditions_of_unknown_operators_keys_and_values_are_refused() {
    for (condition, said) in [
        (r#"{"StringEqual": {"aws:username": "a"}}"#, "Invalid Condition type: StringEqual"),
        (r#"{"stringequals": {"aws:username": "a"}}"#, "Invalid Condition type: stringequals"),
        (
            r#"{"ForSomeValues:StringEquals": {"aws:username": "a"}}"#,
            "Invalid Condition type: ForSomeValues:StringEquals",
        ),
        (r#"{"NullIfExists": {"aws:username": "true"}}"#, "Invalid Condition type: NullIfExists"),
        (
            r#"{"StringEqualsIfExistsIfExists": {"aws:username": "a"}}"#,
            "Invalid Condition type: StringEqualsIfExistsIfExists",
        ),
        (r#"{"StringEquals": {"aws:SourceVpc": "vpc-1"}}"#, "Policy has an invalid condition key: aws:SourceVpc"),
        (r#"{"StringEquals": {"username": "a"}}"#, "Policy has an invalid condition key: username"),
        (
            r#"{"StringEquals": {"s3:ExistingObjectTag/": "a"}}"#,
            "Policy has an invalid condition key: s3:ExistingObjectTag/",
        ),
        (r#"{"StringEquals": {"aws:username": []}}"#, "aws:username must be one value or more"),
        (r#"{"StringEquals": {"aws:username": null}}"#, "aws:username must be strings"),
        (r#"{"StringEquals": {"aws:username": [["a"]]}}"#, "aws:username must be strings"),
        (r#"{"StringEquals": "aws:username"}"#, "StringEquals must be an object"),
        (r#"["StringEquals"]"#, "Condition must be an object"),
        (r#"{"NumericEquals": {"aws:username": "a"}}"#, "Invalid value for NumericEquals of aws:username: a"),
        (r#"{"NumericEquals": {"aws:username": "1e3"}}"#, "Invalid value for NumericEquals of aws:username: 1e3"),
        (
            r#"{"NumericEquals": {"aws:username": "${aws:userid}"}}"#,
            "Invalid value for NumericEquals of aws:username: ${aws:userid}",
        ),
        (
            r#"{"DateEquals": {"aws:CurrentTime": "2023-02-29"}}"#,
            "Invalid value for DateEquals of aws:CurrentTime: 2023-02-29",
        ),
        (
            r#"{"DateEquals": {"aws:CurrentTime": "2023-02T00:00Z"}}"#,
            "Invalid value for DateEquals of aws:CurrentTime: 2023-02T00:00Z",
        ),
        (r#"{"Bool": {"aws:SecureTransport": "yes"}}"#, "Invalid value for Bool of aws:SecureTransport: yes"),
        (r#"{"BinaryEquals": {"aws:username": "a"}}"#, "Invalid value for BinaryEquals of aws:username: a"),
        (
            r#"{"IpAddress": {"aws:SourceIp": "10.0.0.0/33"}}"#,
            "Invalid value for IpAddress of aws:SourceIp: 10.0.0.0/33",
        ),
        (r#"{"IpAddress": {"aws:SourceIp": "10.0.0/24"}}"#, "Invalid value for IpAddress of aws:SourceIp: 10.0.0/24"),
        (
            r#"{"IpAddress": {"aws:SourceIp": "10.0.0.0/+8"}}"#,
            "Invalid value for IpAddress of aws:SourceIp: 10.0.0.0/+8",
        ),
        (r#"{"IpAddress": {"aws:SourceIp": ["10.0.0.0/8", "*"]}}"#, "Invalid value for IpAddress of aws:SourceIp: *"),
        (r#"{"ArnLike": {"aws:PrincipalArn": "*"}}"#, "Invalid value for ArnLike of aws:PrincipalArn: *"),
        (r#"{"Null": {"aws:username": "maybe"}}"#, "Invalid value for Null of aws:username: maybe"),
        (
            r#"{"StringEquals": {"aws:username": "a"}, "StringEquals": {"aws:userid": "b"}}"#,
            "The field StringEquals is given twice",
        ),
        (r#"{"StringEquals": {"aws:username": "a", "aws:username": "b"}}"#, "The field aws:username is given twice"),
    ] {
        for kind in [PolicyKind::Identity, OF_BUCKET] {
            let with = format!(r#""Resource": "arn:aws:s3:::b/*", "Condition": {condition}"#);
            let text = statement(kind, r#""Resource": "arn:aws:s3:::b/*""#, &with);
            let place = if said.starts_with("The field") { "" } else { " (statement 1, Sid \"a\")" };
            assert_eq!(error(kind, &text), format!("{said}{place}"), "{condition}");
        }
    }
}

#[test]
fn buckets_policies_name_principals_and_users_do_not() {
    let principal = r#""Principal": "*""#;
    for (by, said) in [
        (
            r#""Principal": "arn:aws:iam::123456789012:user/a""#,
            "Invalid principal in policy: arn:aws:iam::123456789012:user/a",
        ),
        (
            r#""Principal": {"AWS": "arn:aws:iam::123456789012:user/*"}"#,
            "Invalid principal in policy: arn:aws:iam::123456789012:user/*",
        ),
        (
            r#""Principal": {"AWS": ["*", "arn:aws:iam::12:user/a"]}"#,
            "Invalid principal in policy: arn:aws:iam::12:user/a",
        ),
        (r#""Principal": {"AWS": "alice"}"#, "Invalid principal in policy: alice"),
        (r#""Principal": {"AWS": "arn:aws:s3:::b"}"#, "Invalid principal in policy: arn:aws:s3:::b"),
        (
            r#""Principal": {"AWS": "arn:aws:iam::123456789012:user/"}"#,
            "Invalid principal in policy: arn:aws:iam::123456789012:user/",
        ),
        (r#""Principal": {"Service": "logging.s3.amazonaws.com"}"#, "Invalid principal in policy: Service"),
        (r#""Principal": {"AWS": "*", "CanonicalUser": "x"}"#, "Invalid principal in policy: CanonicalUser"),
        (r#""Principal": {}"#, "Principal must be \"*\" or {\"AWS\": …}"),
        (r#""Principal": {"AWS": []}"#, "Principal must be one value or more"),
        (r#""Principal": ["*"]"#, "Principal must be an object"),
        (r#""NotPrincipal": {"AWS": "123456789012"}"#, "NotPrincipal cannot be used to allow"),
        (r#""Principal": "*", "NotPrincipal": "*""#, "Principal and NotPrincipal cannot be given together"),
    ] {
        let text = statement(OF_BUCKET, principal, by);
        assert_eq!(error(OF_BUCKET, &text), format!("{said} (statement 1, Sid \"a\")"), "{by}");
    }
    let text = statement(OF_BUCKET, r#""Principal": "*", "#, "");
    assert_eq!(error(OF_BUCKET, &text), "Missing required field Principal (statement 1, Sid \"a\")");
    let excluded_nobody =
        statement(OF_BUCKET, r#""Effect": "Allow", "Principal""#, r#""Effect": "Deny", "NotPrincipal""#);
    assert_eq!(error(OF_BUCKET, &excluded_nobody), "Invalid principal in policy: * (statement 1, Sid \"a\")");
    for kind in [PolicyKind::Identity, PolicyKind::Session] {
        let text = statement(kind, r#""Effect""#, r#""Principal": "*", "Effect""#);
        assert_eq!(error(kind, &text), "Policy document should not specify a principal (statement 1, Sid \"a\")");
    }
}

#[test]
fn a_buckets_policy_is_about_that_bucket_and_about_what_can_be() {
    for (action, resource, said) in [
        ("s3:GetObject", "*", Some("Policy has invalid resource: *")),
        ("s3:GetObject", "arn:aws:s3:::*", Some("Policy has invalid resource: arn:aws:s3:::*")),
        ("s3:GetObject", "arn:aws:s3:::c/*", Some("Policy has invalid resource: arn:aws:s3:::c/*")),
        ("s3:GetObject", "arn:aws:s3:::bb/*", Some("Policy has invalid resource: arn:aws:s3:::bb/*")),
        ("s3:GetObject", "arn:aws:s3:::?/*", Some("Policy has invalid resource: arn:aws:s3:::?/*")),
        ("s3:GetObject", "arn:aws:s3:::b/", Some("Policy has invalid resource: arn:aws:s3:::b/")),
        ("s3:GetObject", "arn:aws:s3:::b?*", None),
        ("s3:*", "arn:aws:s3:::b*", None),
        ("s3:*", "arn:aws:s3:::b", None),
        ("s3:ListBucket", "arn:aws:s3:::b", None),
        ("s3:ListBucket", "arn:aws:s3:::b*", None),
        ("s3:GetObject", "arn:aws:s3:::b*", None),
        ("s3:GetObject", "arn:aws:s3:::b", Some("Action does not apply to any resource(s) in statement: s3:GetObject")),
        (
            "s3:List*Bucket",
            "arn:aws:s3:::b/*",
            Some("Action does not apply to any resource(s) in statement: s3:List*Bucket"),
        ),
        (
            "s3:ListAllMyBuckets",
            "arn:aws:s3:::b",
            Some("Action does not apply to any resource(s) in statement: s3:ListAllMyBuckets"),
        ),
    ] {
        let text = format!(
            r#"{{"Version": "2012-10-17", "Statement": {{"Effect": "Allow", "Principal": "*", "Action": "{action}", "Resource": "{resource}"}}}}"#
        );
        let found = Policy::parse(OF_BUCKET, text.as_bytes()).err().map(|error| error.to_string());
        assert_eq!(found, said.map(|said| format!("{said} (statement 1)")), "{action} {resource}");
    }
    for (action, key, fits) in [
        ("s3:ListBucket", "s3:prefix", true),
        ("s3:*", "s3:prefix", true),
        ("s3:ListBucket", "s3:ExistingObjectTag/a", false),
        ("s3:ListBucket", "s3:x-amz-storage-class", false),
        ("s3:ListBucket", "aws:SourceIp", true),
    ] {
        let text = format!(
            r#"{{"Statement": {{"Effect": "Deny", "Principal": "*", "Action": "{action}", "Resource": "arn:aws:s3:::b",
                "Condition": {{"StringLike": {{"{key}": "a"}}}}}}}}"#
        );
        let said = format!(
            "Conditions do not apply to combination of actions and resources in statement: {key} (statement 1)"
        );
        let found = Policy::parse(OF_BUCKET, text.as_bytes()).err().map(|error| error.to_string());
        assert_eq!(found, (!fits).then_some(said), "{action} {key}");
    }
}

#[test]
fn what_is_no_json_object_is_refused() {
    let json = "Policies must be valid JSON and the first byte must be '{'";
    for text in [
        "",
        " {}",
        "[]",
        "\u{feff}{}",
        "{",
        "{}x",
        r#"{"Statement": [}"#,
        r#"{"a": "\ud800"}"#,
        r#"{"a": 1e999}"#,
        "{'a': 1}",
        r#"{"a": "	"}"#,
    ] {
        assert!(error(PolicyKind::Identity, text).starts_with(json), "{text}");
    }
    let nested = format!(r#"{{"Statement": {}1{}}}"#, "[".repeat(4_000), "]".repeat(4_000));
    assert!(error(PolicyKind::Identity, &nested).starts_with(json));
    assert!(Policy::parse(PolicyKind::Identity, b"{\"Id\": \"\xff\"}").is_err());
    assert_eq!(error(PolicyKind::Identity, "{}"), "Missing required field Statement");
    assert_eq!(error(PolicyKind::Identity, r#"{"Statement": []}"#), "Statement must be one value or more");
    assert_eq!(error(PolicyKind::Identity, r#"{"Statement": "x"}"#), "Statement must be an object (statement 1)");
    let id = r#"{"Id": 1, "Statement": {}}"#;
    assert_eq!(error(PolicyKind::Identity, id), "Id must be a string");
}

#[test]
fn statements_are_told_from_each_other() {
    let two = |one: &str, other: &str| {
        let statement = |sid: &str| format!(r#"{{"Sid": "{sid}", "Effect": "Allow", "Action": "*", "Resource": "*"}}"#);
        format!(r#"{{"Statement": [{}, {}]}}"#, statement(one), statement(other))
    };
    assert!(Policy::parse(PolicyKind::Identity, two("", "").as_bytes()).is_ok());
    let said = "Statement IDs (Sid) in a single policy must be unique: a (statement 2, Sid \"a\")";
    assert_eq!(error(PolicyKind::Identity, &two("a", "a")), said);
    assert_eq!(error(PolicyKind::Identity, &two("a", "b c")), "Invalid Sid: b c (statement 2, Sid \"b c\")");
}

#[test]
fn sizes_are_bounded() {
    for (kind, most) in [
        (PolicyKind::Identity, IDENTITY_POLICY_MAX_BYTES),
        (PolicyKind::Session, SESSION_POLICY_MAX_BYTES),
        (OF_BUCKET, BUCKET_POLICY_MAX_BYTES),
    ] {
        let text = statement(kind, r#""Version""#, r#""Id": "", "Version""#);
        let of_size =
            |bytes: usize| text.replace(r#""Id": """#, &format!(r#""Id": "{}""#, "x".repeat(bytes - text.len())));
        assert!(Policy::parse(kind, of_size(most).as_bytes()).is_ok());
        let said = format!("The policy has {} bytes, more than the {most} that it may have", most + 1);
        assert_eq!(error(kind, &of_size(most + 1)), said);
    }
}
