//! The policy of a form: until when it may be sent, and what its fields may be.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-HTTPPOSTConstructPolicy.html>

use base64::{Engine, engine::general_purpose::STANDARD};
use s3s::{S3Error, S3Result, s3_error};
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::fields::Fields;
use crate::error::{WithField, too_large};

#[derive(Debug, PartialEq)]
pub(super) struct Policy {
    expires: OffsetDateTime,
    conditions: Vec<Condition>,
}

/// A field's name is in lower case.
#[derive(Debug, PartialEq)]
enum Condition {
    Equals { field: String, value: String },
    StartsWith { field: String, prefix: String },
    Length { min_bytes: u64, max_bytes: u64 },
}

/// Fields that need no condition.
const FREE_FIELDS: [&str; 5] = ["awsaccesskeyid", "policy", "signature", "submit", "x-amz-signature"];

impl Policy {
    /// From the form's field: JSON in base64.
    pub(super) fn parse(field: &str) -> S3Result<Self> {
        let json = STANDARD.decode(field).map_err(|_| invalid("Invalid Base64 encoding."))?;
        let json = String::from_utf8(json).map_err(|_| invalid("Invalid UTF-8."))?;
        let value: Value =
            serde_json::from_str(&without_dollar_escapes(&json)).map_err(|_| invalid("Invalid JSON."))?;
        let object = value.as_object().ok_or_else(|| invalid("Invalid JSON: it must be an object."))?;
        if let Some(unknown) = object.keys().find(|key| !["expiration", "conditions"].contains(&key.as_str())) {
            return Err(invalid(&format!("Unexpected: '{unknown}'.")));
        }
        let expires = object.get("expiration").ok_or_else(|| invalid("Policy missing expiration."))?;
        let expires = expires.as_str().and_then(parse_time).ok_or_else(|| invalid("Invalid 'expiration' value."))?;
        let conditions = object.get("conditions").ok_or_else(|| invalid("Policy missing conditions."))?;
        let conditions = conditions.as_array().ok_or_else(|| invalid("Invalid 'conditions' value: must be a List."))?;
        Ok(Self { expires, conditions: conditions.iter().map(Condition::parse).collect::<S3Result<_>>()? })
    }

    /// Whether the fields, with those of S3's own among them, are as the policy wants them. The file's length is judged
    /// later.
    pub(super) fn check(&self, bucket: &str, fields: &Fields, now: OffsetDateTime) -> S3Result<()> {
        if now >= self.expires {
            return Err(denied("Policy expired."));
        }
        for condition in &self.conditions {
            if !condition.holds(bucket, fields) {
                return Err(denied(&format!("Policy Condition failed: {}", condition.shown())));
            }
        }
        let covered = |name: &str| {
            FREE_FIELDS.contains(&name)
                || name.starts_with("x-ignore-")
                || self.conditions.iter().any(|condition| condition.field() == Some(name))
        };
        match fields.names().find(|name| !covered(name)) {
            Some(extra) => Err(denied(&format!("Extra input fields: {extra}"))),
            None => Ok(()),
        }
    }

    /// The most that the file may have.
    pub(super) fn max_bytes(&self) -> Option<u64> {
        self.lengths().map(|(_, max)| max).min()
    }

    /// Whether a file that has been read is as long as it must be.
    pub(super) fn check_length(&self, bytes: u64) -> S3Result<()> {
        match self.lengths().find(|(min, max)| bytes < *min || bytes > *max) {
            Some((min, _)) if bytes < min => {
                Err(s3_error!(EntityTooSmall).with("ProposedSize", bytes).with("MinSizeAllowed", min))
            }
            Some((_, max)) => Err(too_large(bytes, max)),
            None => Ok(()),
        }
    }

    fn lengths(&self) -> impl Iterator<Item = (u64, u64)> {
        self.conditions.iter().filter_map(|condition| match condition {
            Condition::Length { min_bytes, max_bytes } => Some((*min_bytes, *max_bytes)),
            _ => None,
        })
    }
}

impl Condition {
    fn parse(value: &Value) -> S3Result<Self> {
        match value {
            Value::Object(simple) => {
                let mut pairs = simple.iter();
                let (Some((field, value)), None) = (pairs.next(), pairs.next()) else {
                    return Err(invalid(
                        "Invalid Simple-Condition: Simple-Conditions must have exactly one property specified.",
                    ));
                };
                let value =
                    value.as_str().ok_or_else(|| invalid("Invalid Simple-Condition: value must be a string."))?;
                Ok(Self::Equals { field: field.to_lowercase(), value: value.to_owned() })
            }
            Value::Array(parts) => Self::parse_list(parts),
            _ => Err(invalid("Invalid condition: must be an object or a list.")),
        }
    }

    fn parse_list(parts: &[Value]) -> S3Result<Self> {
        let [operator, first, second] = parts else {
            return Err(invalid("Invalid condition: a list must have three elements."));
        };
        let operator = operator.as_str().unwrap_or_default().to_lowercase();
        if operator == "content-length-range" {
            let (Some(min_bytes), Some(max_bytes)) = (number(first), number(second)) else {
                return Err(invalid("Invalid content-length-range: two non-negative integers are expected."));
            };
            return Ok(Self::Length { min_bytes, max_bytes });
        }
        let (Some(field), Some(value)) = (first.as_str().and_then(|name| name.strip_prefix('$')), second.as_str())
        else {
            return Err(invalid("Invalid condition: a field's name with '$' and a string are expected."));
        };
        let (field, value) = (field.to_lowercase(), value.to_owned());
        match operator.as_str() {
            "eq" => Ok(Self::Equals { field, value }),
            "starts-with" => Ok(Self::StartsWith { field, prefix: value }),
            _ => Err(invalid("Invalid condition: the operator is unknown.")),
        }
    }

    fn field(&self) -> Option<&str> {
        match self {
            Self::Equals { field, .. } | Self::StartsWith { field, .. } => Some(field),
            Self::Length { .. } => None,
        }
    }

    fn holds(&self, bucket: &str, fields: &Fields) -> bool {
        // The bucket is the address's, whatever a field says.
        let actual = |field: &str| if field == "bucket" { bucket } else { fields.get(field).unwrap_or_default() };
        match self {
            Self::Equals { field, value } => actual(field) == value,
            // A list of types must be of allowed types altogether.
            Self::StartsWith { field, prefix } if field == "content-type" => {
                actual(field).split(',').all(|one| one.trim_start().starts_with(prefix.as_str()))
            }
            Self::StartsWith { field, prefix } => actual(field).starts_with(prefix.as_str()),
            Self::Length { .. } => true,
        }
    }

    fn shown(&self) -> String {
        let list = |operator: &str, field: &str, value: &str| {
            Value::from(vec![operator.to_owned(), format!("${field}"), value.to_owned()]).to_string()
        };
        match self {
            Self::Equals { field, value } => list("eq", field, value),
            Self::StartsWith { field, prefix } => list("starts-with", field, prefix),
            Self::Length { min_bytes, max_bytes } => format!("[\"content-length-range\",{min_bytes},{max_bytes}]"),
        }
    }
}

/// `2025-11-21T09:00:00.000Z`, in UTC and with no other separator than `T`.
fn parse_time(text: &str) -> Option<OffsetDateTime> {
    let in_utc = text.ends_with('Z') && text.as_bytes().get(10) == Some(&b'T');
    OffsetDateTime::parse(text, &Rfc3339).ok().filter(|_| in_utc)
}

/// S3 takes numbers in quotes too.
fn number(value: &Value) -> Option<u64> {
    match value {
        Value::String(text) => text.parse().ok(),
        value => value.as_u64(),
    }
}

/// Policies may escape a dollar sign and a vertical tab, which JSON does not know.
fn without_dollar_escapes(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut chars = json.chars();
    while let Some(char) = chars.next() {
        if char != '\\' {
            out.push(char);
            continue;
        }
        match chars.next() {
            Some('$') => out.push('$'),
            Some('v') => out.push_str("\\u000b"),
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    out
}

fn invalid(why: &str) -> S3Error {
    s3_error!(InvalidPolicyDocument, "Invalid Policy: {why}")
}

fn denied(why: &str) -> S3Error {
    s3_error!(AccessDenied, "Invalid according to Policy: {why}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use time::{Duration, macros::datetime};

    use super::*;

    const NOW: OffsetDateTime = datetime!(2025-11-21 08:00:00 UTC);

    fn policy(json: &str) -> S3Result<Policy> {
        Policy::parse(&STANDARD.encode(json))
    }

    fn of_conditions(conditions: &str) -> S3Result<Policy> {
        policy(&format!("{{\"expiration\": \"2025-11-21T09:00:00.000Z\", \"conditions\": [{conditions}]}}"))
    }

    fn fields(pairs: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::default();
        for (name, value) in pairs {
            fields.add((*name).to_owned(), (*value).to_owned()).unwrap();
        }
        fields
    }

    fn code<T: std::fmt::Debug>(result: S3Result<T>) -> String {
        result.unwrap_err().code().as_str().to_owned()
    }

    #[test]
    fn conditions_are_exact_or_of_a_beginning() {
        let held = |conditions: &str, pairs: &[(&str, &str)]| {
            of_conditions(conditions).unwrap().check("b", &fields(pairs), NOW).is_ok()
        };
        assert!(held("{\"bUcKeT\": \"b\"}, [\"StArTs-WiTh\", \"$KeY\", \"up/\"]", &[("key", "up/x")]));
        assert!(held(
            "[\"eq\", \"$key\", \"k\"]",
            &[("key", "k"), ("policy", "p"), ("x-ignore-me", "1"), ("submit", "go")]
        ));
        assert!(held("[\"starts-with\", \"$content-type\", \"image/\"]", &[("content-type", "image/png, image/gif")]));
        assert!(held("[\"starts-with\", \"$key\", \"\\$a\"]", &[("key", "$a")]));
        for (conditions, pairs) in [
            ("{\"bucket\": \"c\"}", &[][..]),
            ("[\"eq\", \"$key\", \"k\"]", &[("key", "K")]),
            ("[\"eq\", \"$key\", \"k\"]", &[]),
            ("[\"starts-with\", \"$key\", \"up/\"]", &[("key", "down/x")]),
            ("[\"starts-with\", \"$content-type\", \"image/\"]", &[("content-type", "image/png, text/html")]),
            // A field that no condition speaks of.
            ("[\"eq\", \"$key\", \"k\"]", &[("key", "k"), ("acl", "private")]),
        ] {
            assert!(!held(conditions, pairs), "{conditions} {pairs:?}");
        }
    }

    #[test]
    fn a_broken_policy_is_denied_and_one_that_is_none_invalid() {
        let valid = of_conditions("").unwrap();
        assert!(valid.check("b", &fields(&[]), NOW).is_ok());
        assert_eq!(code(valid.check("b", &fields(&[]), NOW + Duration::hours(1))), "AccessDenied");
        assert_eq!(code(valid.check("b", &fields(&[("key", "k")]), NOW)), "AccessDenied");
        for json in [
            "",
            "[]",
            "{\"conditions\": []}",
            "{\"expiration\": \"2025-11-21T09:00:00Z\"}",
            "{\"expiration\": \"2025-11-21 09:00\", \"conditions\": []}",
            "{\"expiration\": \"2025-11-21 09:00:00Z\", \"conditions\": []}",
            "{\"expiration\": \"2025-11-21T09:00:00+00:00\", \"conditions\": []}",
            "{\"expiration\": 5, \"conditions\": []}",
            "{\"EXPIRATION\": \"2025-11-21T09:00:00Z\", \"conditions\": []}",
            "{\"expiration\": \"2025-11-21T09:00:00Z\", \"CONDITIONS\": []}",
        ] {
            assert_eq!(code(policy(json)), "InvalidPolicyDocument", "{json}");
        }
        for conditions in [
            "{}",
            "{\"a\": \"1\", \"b\": \"2\"}",
            "{\"a\": 1}",
            "5",
            "[\"eq\", \"$key\"]",
            "[\"eq\", \"key\", \"k\"]",
            "[\"like\", \"$key\", \"k\"]",
            "[\"content-length-range\", 0]",
            "[\"content-length-range\", -1, 0]",
        ] {
            assert_eq!(code(of_conditions(conditions)), "InvalidPolicyDocument", "{conditions}");
        }
        assert_eq!(code(Policy::parse("no base64!")), "InvalidPolicyDocument");
    }

    #[test]
    fn every_range_of_lengths_counts() {
        let ranges = "[\"content-length-range\", 2, 100], [\"content-length-range\", \"0\", \"10\"]";
        let policy = of_conditions(ranges).unwrap();
        assert_eq!(policy.max_bytes(), Some(10));
        assert!(policy.check_length(2).is_ok() && policy.check_length(10).is_ok());
        assert_eq!(code(policy.check_length(1)), "EntityTooSmall");
        assert_eq!(code(policy.check_length(11)), "EntityTooLarge");
        assert_eq!(of_conditions("").unwrap().max_bytes(), None);
    }
}
