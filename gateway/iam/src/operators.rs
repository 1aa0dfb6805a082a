//! The operators of conditions: how one value of a policy is compared with one of a request.

use base64::{Engine, prelude::BASE64_STANDARD};

use crate::{
    request::Context,
    template::{Stars, Template},
    values::{self, Network},
};

/// How many of a request's values a condition is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quantity {
    /// No word before the operator: meant for keys of one value.
    One,
    All,
    Any,
}

/// Which numbers or times are meant, seen from the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Equal,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Text,
    TextWithoutCase,
    Like,
    Number(Order),
    Time(Order),
    Bool,
    Binary,
    Network,
    Arn,
    /// Whether the key is absent.
    Null,
}

/// An operator as it is written, taken apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operator {
    pub(crate) quantity: Quantity,
    pub(crate) comparison: Comparison,
    /// It asks for none of the values instead of one of them.
    pub(crate) negated: bool,
    /// True if the key is absent.
    pub(crate) if_exists: bool,
}

impl Operator {
    /// None for a name that means nothing.
    pub(crate) fn read(name: &str) -> Option<Self> {
        let (quantity, name) = match name.split_once(':') {
            Some(("ForAllValues", name)) => (Quantity::All, name),
            Some(("ForAnyValue", name)) => (Quantity::Any, name),
            Some(_) => return None,
            None => (Quantity::One, name),
        };
        let (name, if_exists) = name.strip_suffix("IfExists").map_or((name, false), |name| (name, true));
        use Comparison::{Arn, Binary, Bool, Like, Network, Null, Number, Text, TextWithoutCase, Time};
        let (comparison, negated) = match name {
            "StringEquals" => (Text, false),
            "StringNotEquals" => (Text, true),
            "StringEqualsIgnoreCase" => (TextWithoutCase, false),
            "StringNotEqualsIgnoreCase" => (TextWithoutCase, true),
            "StringLike" => (Like, false),
            "StringNotLike" => (Like, true),
            "NumericEquals" => (Number(Order::Equal), false),
            "NumericNotEquals" => (Number(Order::Equal), true),
            "NumericLessThan" => (Number(Order::Less), false),
            "NumericLessThanEquals" => (Number(Order::AtMost), false),
            "NumericGreaterThan" => (Number(Order::Greater), false),
            "NumericGreaterThanEquals" => (Number(Order::AtLeast), false),
            "DateEquals" => (Time(Order::Equal), false),
            "DateNotEquals" => (Time(Order::Equal), true),
            "DateLessThan" => (Time(Order::Less), false),
            "DateLessThanEquals" => (Time(Order::AtMost), false),
            "DateGreaterThan" => (Time(Order::Greater), false),
            "DateGreaterThanEquals" => (Time(Order::AtLeast), false),
            "Bool" => (Bool, false),
            "BinaryEquals" => (Binary, false),
            "IpAddress" => (Network, false),
            "NotIpAddress" => (Network, true),
            "ArnEquals" | "ArnLike" => (Arn, false),
            "ArnNotEquals" | "ArnNotLike" => (Arn, true),
            "Null" if !if_exists && quantity == Quantity::One => (Null, false),
            _ => return None,
        };
        Some(Self { quantity, comparison, negated, if_exists })
    }
}

/// A value of a policy.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Text(Template),
    TextWithoutCase(Template),
    Number(Order, i128),
    Time(Order, i128),
    Bool(bool),
    Binary(Vec<u8>),
    Network(Network),
    /// Its six parts, which are compared one by one: no wildcard goes over a colon but in the last.
    Arn(Box<[Template; 6]>),
    Absent(bool),
}

impl Value {
    /// None if the comparison has no such values.
    pub(crate) fn read(comparison: Comparison, text: &str, variables: bool) -> Option<Self> {
        let template = |stars| Template::read(text, stars, variables).ok();
        Some(match comparison {
            Comparison::Text => Self::Text(template(Stars::Plain)?),
            Comparison::TextWithoutCase => Self::TextWithoutCase(template(Stars::Plain)?),
            Comparison::Like => Self::Text(template(Stars::Wild)?),
            Comparison::Number(order) => Self::Number(order, values::number(text)?),
            Comparison::Time(order) => Self::Time(order, values::instant(text)?),
            Comparison::Bool => Self::Bool(truth(text)?),
            Comparison::Binary => Self::Binary(BASE64_STANDARD.decode(text).ok()?),
            Comparison::Network => Self::Network(Network::read(text)?),
            Comparison::Arn => Self::Arn(Box::new(arn(text, variables)?)),
            Comparison::Null => Self::Absent(truth(text)?),
        })
    }

    /// Whether the request's value is what this one asks for; what cannot be read as such is not. None if that hangs on
    /// a variable without a value.
    pub(crate) fn meets(&self, found: &str, context: &Context<'_>) -> Option<bool> {
        match self {
            Self::Text(template) => template.matches(found, context),
            Self::TextWithoutCase(template) => Some(template.text(context)?.to_lowercase() == found.to_lowercase()),
            Self::Number(order, wanted) => Some(values::number(found).is_some_and(|found| order.holds(found, *wanted))),
            Self::Time(order, wanted) => Some(values::instant(found).is_some_and(|found| order.holds(found, *wanted))),
            Self::Bool(wanted) => Some(truth(found) == Some(*wanted)),
            Self::Binary(wanted) => Some(BASE64_STANDARD.decode(found).is_ok_and(|found| found == *wanted)),
            Self::Network(network) => Some(found.parse().is_ok_and(|address| network.holds(address))),
            Self::Arn(wanted) => {
                let found: Vec<&str> = found.splitn(6, ':').collect();
                if found.len() != wanted.len() {
                    return Some(false);
                }
                let parts = wanted.iter().zip(found).map(|(wanted, found)| wanted.matches(found, context));
                let parts: Vec<Option<bool>> = parts.collect();
                if parts.contains(&Some(false)) {
                    Some(false)
                } else {
                    parts.into_iter().collect::<Option<Vec<_>>>().map(|_| true)
                }
            }
            Self::Absent(wanted) => Some(!wanted),
        }
    }

    pub(crate) fn templates(&self) -> &[Template] {
        match self {
            Self::Text(template) | Self::TextWithoutCase(template) => std::slice::from_ref(template),
            Self::Arn(parts) => &**parts,
            _ => &[],
        }
    }

    /// Whether it stands for one thing only, or for a network of some size.
    pub(crate) fn is_fixed(&self) -> bool {
        match self {
            Self::Text(template) | Self::TextWithoutCase(template) => template.is_fixed(),
            Self::Arn(parts) => parts.iter().all(Template::is_fixed),
            Self::Network(network) => !network.is_broad(),
            _ => false,
        }
    }
}

impl Order {
    fn holds(self, found: i128, wanted: i128) -> bool {
        match self {
            Self::Equal => found == wanted,
            Self::Less => found < wanted,
            Self::AtMost => found <= wanted,
            Self::Greater => found > wanted,
            Self::AtLeast => found >= wanted,
        }
    }
}

fn truth(text: &str) -> Option<bool> {
    let is = |word: &str| text.eq_ignore_ascii_case(word);
    if is("true") { Some(true) } else { is("false").then_some(false) }
}

/// The parts of an ARN. A colon within `${…}` is none between parts.
fn arn(text: &str, variables: bool) -> Option<[Template; 6]> {
    let (mut parts, mut begin, mut inside) = (Vec::new(), 0, false);
    for (at, letter) in text.char_indices() {
        match letter {
            '$' if variables && text[at..].starts_with("${") => inside = true,
            '}' => inside = false,
            ':' if !inside && parts.len() < 5 => {
                parts.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    if parts[0] != "arn" {
        return None;
    }
    let templates: Option<Vec<Template>> =
        parts.into_iter().map(|part| Template::read(part, Stars::Wild, variables).ok()).collect();
    templates?.try_into().ok()
}
