//! Decisions once more, as plainly as they can be written: from the policies' JSON each time, one character after the
//! other, with no regard to time.

use std::net::IpAddr;

use cairn_iam::Principal;
use serde_json::Value;

/// What is asked; condition keys in lower case.
pub(crate) struct Question<'a> {
    pub(crate) principal: Principal<'a>,
    pub(crate) action: &'a str,
    pub(crate) resource: &'a str,
    pub(crate) context: &'a [(String, String)],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Allowed,
    Denied,
    NotAllowed,
}

pub(crate) fn answer(
    identity: &[Value],
    session: Option<&Value>,
    bucket: Option<&Value>,
    owner: bool,
    question: &Question<'_>,
) -> Answer {
    let says = |policy: &Value, effect: &str| {
        let statements = policy["Statement"].as_array().unwrap();
        let variables = policy["Version"] == "2012-10-17";
        statements.iter().any(|one| one["Effect"] == effect && applies(one, variables, question))
    };
    let root = matches!(question.principal, Principal::Root { .. });
    let anonymous = question.principal == Principal::Anonymous;
    let own: Vec<&Value> = if anonymous { vec![] } else { identity.iter().collect() };
    let saved =
        root && ["s3:GetBucketPolicy", "s3:PutBucketPolicy", "s3:DeleteBucketPolicy"].contains(&question.action);
    let denied = own.iter().any(|policy| says(policy, "Deny"))
        || session.is_some_and(|policy| says(policy, "Deny"))
        || (!saved && bucket.is_some_and(|policy| says(policy, "Deny")));
    if denied {
        return Answer::Denied;
    }
    let granted = root
        || (owner && !anonymous)
        || own.iter().any(|policy| says(policy, "Allow"))
        || bucket.is_some_and(|policy| says(policy, "Allow"));
    let limited = session.is_some_and(|policy| !says(policy, "Allow"));
    if granted && !limited { Answer::Allowed } else { Answer::NotAllowed }
}

fn applies(statement: &Value, variables: bool, question: &Question<'_>) -> bool {
    let deny = statement["Effect"] == "Deny";
    let lower = |text: &str| text.to_lowercase();
    let action =
        |texts: &Value| list(texts).iter().any(|text| like(&wild(&lower(text)), &letters(&lower(question.action))));
    let resource = |texts: &Value| {
        one_of(list(texts).iter().map(|text| {
            let pattern = expand(text, true, variables, question)?;
            Some(like(&pattern, &letters(question.resource)))
        }))
    };
    let fits_action = match statement.get("Action") {
        Some(texts) => action(texts),
        None => !action(&statement["NotAction"]),
    };
    let fits_resource = match statement.get("Resource") {
        Some(texts) => resource(texts) == Some(true),
        None => resource(&statement["NotResource"]).map_or(deny, |found| !found),
    };
    let conditions = statement["Condition"].as_object().into_iter().flatten();
    let mut conditions = conditions.flat_map(|(operator, keys)| {
        keys.as_object().unwrap().iter().map(move |(key, values)| (operator, key, values))
    });
    fits_action
        && fits_resource
        && is_about(statement, deny, &question.principal)
        && conditions.all(|(operator, key, values)| holds(operator, key, values, deny, variables, question))
}

fn is_about(statement: &Value, deny: bool, principal: &Principal<'_>) -> bool {
    let (mut names, mut accounts) = (vec![], vec![]);
    match principal {
        Principal::Anonymous => {}
        Principal::Root { account } => {
            names = vec![(*account).to_owned(), format!("arn:aws:iam::{account}:root")];
            accounts = names.clone();
        }
        Principal::User { account, arn, id } => {
            names = vec![(*arn).to_owned(), (*id).to_owned()];
            accounts = vec![(*account).to_owned(), format!("arn:aws:iam::{account}:root")];
        }
    }
    let named = |value: &Value, names: &[String]| {
        value == "*" || list(&value["AWS"]).iter().any(|text| text == "*" || names.contains(text))
    };
    match (statement.get("Principal"), statement.get("NotPrincipal")) {
        (Some(value), _) => named(value, &names) || (deny && named(value, &accounts)),
        (None, Some(value)) => !(named(value, &names) && named(value, &accounts)),
        (None, None) => true,
    }
}

fn holds(operator: &str, key: &str, values: &Value, deny: bool, variables: bool, question: &Question<'_>) -> bool {
    let found: Vec<&str> = values_of(question, key);
    let (quantity, name) = operator.split_once(':').unwrap_or(("", operator));
    let (name, if_exists) = name.strip_suffix("IfExists").map_or((name, false), |name| (name, true));
    let negated = name.contains("Not");
    let name = name.replace("Not", "");
    if name == "Null" {
        return list(values).iter().any(|text| (text == "true") == found.is_empty());
    }
    if found.is_empty() {
        return if_exists || quantity == "ForAllValues" || (quantity.is_empty() && negated);
    }
    let right = |found: &str| {
        let meets = one_of(list(values).iter().map(|wanted| compare(&name, wanted, found, variables, question)));
        meets.map_or(negated && deny, |meets| meets != negated)
    };
    match quantity {
        "ForAllValues" => found.iter().all(|found| right(found)),
        "ForAnyValue" => found.iter().any(|found| right(found)),
        _ if negated => found.iter().all(|found| right(found)),
        _ => found.iter().any(|found| right(found)),
    }
}

fn compare(name: &str, wanted: &str, found: &str, variables: bool, question: &Question<'_>) -> Option<bool> {
    let text = |wild: bool| expand(wanted, wild, variables, question);
    Some(match name {
        "StringEquals" => like(&text(false)?, &letters(found)),
        "StringEqualsIgnoreCase" => {
            let plain: String =
                text(false)?.into_iter().map(|token| if let Token::Letter(c) = token { c } else { '*' }).collect();
            plain.to_lowercase() == found.to_lowercase()
        }
        "StringLike" => like(&text(true)?, &letters(found)),
        "ArnEquals" | "ArnLike" => {
            let found: Vec<&str> = found.splitn(6, ':').collect();
            let wanted: Vec<&str> = wanted.splitn(6, ':').collect();
            if found.len() != 6 {
                return Some(false);
            }
            wanted.iter().zip(&found).all(|(wanted, found)| like(&wild(wanted), &letters(found)))
        }
        "Bool" => wanted == found.to_lowercase(),
        "BinaryEquals" => wanted == found,
        "IpAddress" => match (network(wanted), found.parse::<IpAddr>()) {
            (wanted, Ok(found)) => bits(found).starts_with(&wanted),
            _ => false,
        },
        number => {
            let read = if number.starts_with("Date") { seconds } else { |text: &str| text.parse::<f64>().ok() };
            let (Some(wanted), Some(found)) = (read(wanted), read(found)) else { return Some(false) };
            match number.trim_start_matches("Date").trim_start_matches("Numeric") {
                "Equals" => found == wanted,
                "LessThan" => found < wanted,
                "LessThanEquals" => found <= wanted,
                "GreaterThan" => found > wanted,
                "GreaterThanEquals" => found >= wanted,
                other => panic!("no operator: {other}"),
            }
        }
    })
}

/// The times that the tests know.
pub(crate) const TIMES: [(&str, f64); 6] = [
    ("1970-01-01T00:00:01Z", 1.0),
    ("1", 1.0),
    ("1970-01-01", 0.0),
    ("1970-01-01T01:00:01.5+01:00", 1.5),
    ("2000-02-29T12:00Z", 951_825_600.0),
    ("951825600", 951_825_600.0),
];

fn seconds(text: &str) -> Option<f64> {
    TIMES.iter().find(|(known, _)| *known == text).map(|(_, seconds)| *seconds)
}

/// The bits with the family before them, so that one is never a beginning of the other.
fn bits(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.octets().iter().fold("v4:".to_owned(), |all, byte| format!("{all}{byte:08b}")),
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(address) => bits(address.into()),
            None => address.octets().iter().fold("v6:".to_owned(), |all, byte| format!("{all}{byte:08b}")),
        },
    }
}

fn network(text: &str) -> String {
    let (address, length) = text.split_once('/').unwrap_or((text, "128"));
    bits(address.parse().unwrap()).chars().take(3 + length.parse::<usize>().unwrap()).collect()
}

/// True if one is, false if none is, None if that hangs on one that cannot be told.
fn one_of(all: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let all: Vec<Option<bool>> = all.collect();
    if all.contains(&Some(true)) {
        Some(true)
    } else if all.contains(&None) {
        None
    } else {
        Some(false)
    }
}

fn values_of<'a>(question: &Question<'a>, key: &str) -> Vec<&'a str> {
    let named = question.context.iter().filter(|(name, _)| *name == key.to_lowercase());
    named.map(|(_, value)| &**value).collect()
}

fn list(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().map(|item| item.as_str().unwrap().to_owned()).collect(),
        Value::String(text) => vec![text.clone()],
        Value::Null => vec![],
        other => panic!("no list: {other}"),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    Letter(char),
    One,
    Many,
}

fn letters(text: &str) -> Vec<char> {
    text.chars().collect()
}

pub(crate) fn wild(text: &str) -> Vec<Token> {
    let token = |letter| match letter {
        '*' => Token::Many,
        '?' => Token::One,
        letter => Token::Letter(letter),
    };
    text.chars().map(token).collect()
}

/// Tries everything that a star may be.
pub(crate) fn like(pattern: &[Token], text: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((Token::Many, rest)) => (0..=text.len()).any(|taken| like(rest, &text[taken..])),
        Some((Token::One, rest)) => !text.is_empty() && like(rest, &text[1..]),
        Some((Token::Letter(letter), rest)) => text.first() == Some(letter) && like(rest, &text[1..]),
    }
}

fn expand(text: &str, stars: bool, variables: bool, question: &Question<'_>) -> Option<Vec<Token>> {
    let plain = |text: &str| text.chars().map(Token::Letter).collect::<Vec<_>>();
    let some = |text: &str| if stars { wild(text) } else { plain(text) };
    let Some((before, after)) = text.split_once("${").filter(|_| variables) else { return Some(some(text)) };
    let (inside, after) = after.split_once('}').unwrap();
    let (key, default) = inside.split_once(", ").map_or((inside, None), |(key, default)| (key, Some(default)));
    let value = match (key, &values_of(question, key)[..]) {
        ("*" | "?" | "$", _) => key,
        (_, [value]) => value,
        (_, []) => default?.trim_matches('\''),
        _ => return None,
    };
    let rest = expand(after, stars, variables, question)?;
    Some([some(before), plain(value), rest].concat())
}
