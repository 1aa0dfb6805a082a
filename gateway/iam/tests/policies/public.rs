//! S3's user guide, "The meaning of public".

use cairn_iam::{Policy, PolicyKind};

fn is_public(statements: &str) -> bool {
    let text = format!(r#"{{"Version": "2012-10-17", "Statement": [{statements}]}}"#);
    Policy::parse(PolicyKind::Bucket { name: "b" }, text.as_bytes())
        .unwrap_or_else(|error| panic!("{error}"))
        .is_public()
}

fn statement(effect: &str, principal: &str, condition: &str) -> String {
    format!(
        r#"{{"Effect": "{effect}", "Principal": {principal}, "Action": "s3:*", "Resource": ["arn:aws:s3:::b", "arn:aws:s3:::b/*"],
            "Condition": {condition}}}"#
    )
}

const ALICE: &str = r#"{"AWS": "arn:aws:iam::123456789012:user/alice"}"#;

#[test]
fn what_is_allowed_to_named_principals_is_not_public() {
    assert!(is_public(&statement("Allow", r#""*""#, "{}")));
    assert!(is_public(&statement("Allow", r#"{"AWS": "*"}"#, "{}")));
    assert!(is_public(&statement("Allow", r#"{"AWS": ["123456789012", "*"]}"#, "{}")));
    assert!(!is_public(&statement("Allow", ALICE, "{}")));
    assert!(!is_public(&statement("Allow", r#"{"AWS": "123456789012"}"#, "{}")));
    assert!(!is_public(&statement("Deny", r#""*""#, "{}")));
    let [public, named, denied] =
        [statement("Allow", r#""*""#, "{}"), statement("Allow", ALICE, "{}"), statement("Deny", r#""*""#, "{}")];
    assert!(is_public(&format!("{named}, {public}")));
    // The same denied to all: S3 does not look at it.
    assert!(is_public(&format!("{public}, {denied}")));
    assert!(!is_public(&format!("{named}, {denied}")));
}

#[test]
fn only_fixed_values_that_tell_who_asks_make_a_statement_not_public() {
    for (condition, public) in [
        (r#"{"IpAddress": {"aws:SourceIp": "203.0.113.0/24"}}"#, false),
        (r#"{"IpAddress": {"aws:SourceIp": ["203.0.113.0/24", "10.0.0.0/8"]}}"#, false),
        (r#"{"IpAddress": {"aws:SourceIp": "2001:db8::/32"}}"#, false),
        (r#"{"IpAddress": {"aws:SourceIp": "0.0.0.0/1"}}"#, true),
        (r#"{"IpAddress": {"aws:SourceIp": ["203.0.113.0/24", "0.0.0.0/0"]}}"#, true),
        (r#"{"IpAddress": {"aws:SourceIp": "10.0.0.0/7"}}"#, true),
        (r#"{"IpAddress": {"aws:SourceIp": "2001::/16"}}"#, true),
        (r#"{"NotIpAddress": {"aws:SourceIp": "203.0.113.0/24"}}"#, true),
        (r#"{"IpAddressIfExists": {"aws:SourceIp": "203.0.113.0/24"}}"#, true),
        (r#"{"ForAllValues:IpAddress": {"aws:SourceIp": "203.0.113.0/24"}}"#, true),
        (r#"{"ForAnyValue:IpAddress": {"aws:SourceIp": "203.0.113.0/24"}}"#, false),
        (r#"{"StringEquals": {"aws:userid": "AIDAALICE"}}"#, false),
        (r#"{"StringLike": {"aws:userid": "AIDAALICE"}}"#, false),
        (r#"{"StringLike": {"aws:userid": "AROAX:*"}}"#, true),
        (r#"{"StringNotEquals": {"aws:userid": "AIDAALICE"}}"#, true),
        (r#"{"StringEquals": {"aws:userid": "${aws:userid}"}}"#, true),
        (r#"{"ArnEquals": {"aws:PrincipalArn": "arn:aws:iam::123456789012:user/alice"}}"#, false),
        (r#"{"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::123456789012:user/*"}}"#, true),
        (r#"{"StringEquals": {"aws:PrincipalAccount": "123456789012"}}"#, false),
        // They tell nothing of who asks.
        (r#"{"StringEquals": {"aws:Referer": "https://example.com/"}}"#, true),
        (r#"{"StringEquals": {"aws:UserAgent": "secret"}}"#, true),
        (r#"{"Bool": {"aws:SecureTransport": "true"}}"#, true),
        (r#"{"Null": {"aws:userid": "false"}}"#, true),
        (r#"{"DateLessThan": {"aws:CurrentTime": "2000-01-01"}}"#, true),
        // One that limits is enough.
        (r#"{"Bool": {"aws:SecureTransport": "true"}, "IpAddress": {"aws:SourceIp": "203.0.113.7"}}"#, false),
    ] {
        assert_eq!(is_public(&statement("Allow", r#""*""#, condition)), public, "{condition}");
    }
}
