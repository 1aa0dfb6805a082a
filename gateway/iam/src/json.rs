//! JSON that keeps every field of an object, so that what is given twice can be refused.

use std::{collections::HashSet, fmt};

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::error::Fault;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    /// As it is written in decimal.
    Number(String),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// Reads a whole text. Its nesting is bounded by the library.
pub(crate) fn read(text: &[u8]) -> Result<Json, Fault> {
    if text.first() != Some(&b'{') {
        return Err(Fault::NotJson("it begins with something else".into()));
    }
    let json: Json = serde_json::from_slice(text).map_err(|error| Fault::NotJson(error.to_string()))?;
    match json.given_twice() {
        Some(field) => Err(Fault::DuplicateField(field.into())),
        None => Ok(json),
    }
}

impl Json {
    fn given_twice(&self) -> Option<&str> {
        match self {
            Self::List(items) => items.iter().find_map(Self::given_twice),
            Self::Object(fields) => {
                let mut names = HashSet::new();
                let twice = fields.iter().find(|(name, _)| !names.insert(name)).map(|(name, _)| &**name);
                twice.or_else(|| fields.iter().find_map(|(_, value)| value.given_twice()))
            }
            _ => None,
        }
    }

    pub(crate) fn object(&self, field: &str) -> Result<&[(String, Self)], Fault> {
        match self {
            Self::Object(fields) => Ok(fields),
            _ => Err(Fault::Shape { field: field.into(), expected: "an object" }),
        }
    }

    pub(crate) fn text(&self, field: &str) -> Result<&str, Fault> {
        match self {
            Self::Text(text) => Ok(text),
            _ => Err(Fault::Shape { field: field.into(), expected: "a string" }),
        }
    }

    /// One string, or a list of one or more.
    pub(crate) fn texts(&self, field: &str) -> Result<Vec<&str>, Fault> {
        self.one_or_more(field)?.iter().map(|item| item.text(field)).collect()
    }

    /// One value, or a list of one or more.
    pub(crate) fn one_or_more(&self, field: &str) -> Result<&[Self], Fault> {
        match self {
            Self::List(items) if items.is_empty() => {
                Err(Fault::Shape { field: field.into(), expected: "one value or more" })
            }
            Self::List(items) => Ok(items),
            one => Ok(std::slice::from_ref(one)),
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Number(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Json, E> {
        Ok(Json::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let mut fields = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            fields.push(entry);
        }
        Ok(Json::Object(fields))
    }
}
