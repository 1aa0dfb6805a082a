//! The conditions of a statement: all of them must hold.

use crate::{
    error::Fault,
    json::Json,
    operators::{Comparison, Operator, Quantity, Value},
    request::Context,
    table::{self, ConditionKey},
};

/// Which way a condition that nobody can tell falls: a statement that allows must not apply by it, and one that denies
/// must not fail to apply because a value that it excludes is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Allow,
    Deny,
}

#[derive(Clone, Debug)]
pub(crate) struct Condition {
    pub(crate) operator: Operator,
    /// As it is written.
    pub(crate) key: String,
    pub(crate) row: &'static ConditionKey,
    /// One or more.
    pub(crate) values: Vec<Value>,
}

/// Reads Condition: operators, in each keys, of each one value or more.
pub(crate) fn read(value: &Json, variables: bool) -> Result<Vec<Condition>, Fault> {
    let mut conditions = Vec::new();
    for (name, keys) in value.object("Condition")? {
        let operator = Operator::read(name).ok_or_else(|| Fault::Operator(name.clone()))?;
        for (key, values) in keys.object(name)? {
            let row = table::condition_key(key).ok_or_else(|| Fault::ConditionKey(key.clone()))?;
            let wrong = |value: &str| Fault::ConditionValue {
                operator: name.clone(),
                key: key.clone(),
                value: value.to_owned(),
            };
            let values = values.one_or_more(key)?.iter().map(|value| {
                let text = match value {
                    Json::Text(text) | Json::Number(text) => text,
                    Json::Bool(true) => "true",
                    Json::Bool(false) => "false",
                    _ => return Err(Fault::Shape { field: key.clone(), expected: "strings" }),
                };
                Value::read(operator.comparison, text, variables).ok_or_else(|| wrong(text))
            });
            let values = values.collect::<Result<_, _>>()?;
            conditions.push(Condition { operator, key: key.clone(), row, values });
        }
    }
    Ok(conditions)
}

impl Condition {
    pub(crate) fn holds(&self, effect: Effect, context: &Context<'_>) -> bool {
        let Operator { quantity, comparison, negated, if_exists } = self.operator;
        let mut found = context.values(&self.key);
        if found.clone().next().is_none() {
            return match comparison {
                Comparison::Null => self.values.iter().any(|value| matches!(value, Value::Absent(true))),
                _ if if_exists => true,
                _ => match quantity {
                    Quantity::One => negated,
                    Quantity::All => true,
                    Quantity::Any => false,
                },
            };
        }
        let mut right = |found: &str| match self.meets(found, context) {
            Some(meets) => meets != negated,
            None => negated && effect == Effect::Deny,
        };
        match quantity {
            Quantity::All => found.all(&mut right),
            // Of several values none may be excluded, or one must be asked for.
            Quantity::One if negated => found.all(&mut right),
            Quantity::One | Quantity::Any => found.any(&mut right),
        }
    }

    /// Whether the request's value is one of those asked for.
    fn meets(&self, found: &str, context: &Context<'_>) -> Option<bool> {
        let mut told = true;
        for value in &self.values {
            match value.meets(found, context) {
                Some(true) => return Some(true),
                Some(false) => {}
                None => told = false,
            }
        }
        told.then_some(false)
    }

    /// The keys of the condition and of its variables.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        let templates = self.values.iter().flat_map(Value::templates);
        std::iter::once(&*self.key).chain(templates.flat_map(|template| template.keys()))
    }
}
