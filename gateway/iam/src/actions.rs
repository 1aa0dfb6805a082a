//! Which actions a statement is about. There are few actions, so what its patterns match is found out once.

use crate::{
    error::Fault,
    json::Json,
    request::Context,
    table::{ACTIONS, ConditionKey, Level},
    template::{Stars, Template},
};

const PREFIX: &str = "s3:";

/// Some of the actions that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ActionSet(u128);

const _: () = assert!(ACTIONS.len() <= u128::BITS as usize, "an ActionSet has too few bits");

impl ActionSet {
    const ALL: Self = Self(u128::MAX >> (u128::BITS as usize - ACTIONS.len()));

    /// The one of this name, without case; None if there is none.
    pub(crate) fn one(name: &str) -> Option<Self> {
        let start = name.get(..PREFIX.len()).filter(|start| start.eq_ignore_ascii_case(PREFIX))?;
        let name = &name[start.len()..];
        let place = ACTIONS.iter().position(|(action, _)| action.eq_ignore_ascii_case(name))?;
        Some(Self(1 << place))
    }

    fn which(fits: impl Fn(&str, Level) -> bool) -> Self {
        let places = ACTIONS.iter().enumerate().filter(|(_, (name, level))| fits(name, *level));
        Self(places.fold(0, |set, (place, _)| set | 1 << place))
    }

    pub(crate) fn at(levels: &[Level]) -> Self {
        Self::which(|_, level| levels.contains(&level))
    }

    /// Those whose requests have a condition key.
    pub(crate) fn having(key: &ConditionKey) -> Self {
        key.actions.map_or(Self::ALL, |actions| Self::which(|name, _| actions.contains(&name)))
    }

    pub(crate) fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// What the patterns of Action match, each with what it matches by itself.
    ///
    /// # Errors
    /// Action, for one that matches none.
    pub(crate) fn read<'a>(value: &'a Json, field: &'static str) -> Result<Vec<(&'a str, Self)>, Fault> {
        value.texts(field)?.into_iter().map(|text| Ok((text, Self::matched_by(text)?))).collect()
    }

    fn matched_by(text: &str) -> Result<Self, Fault> {
        if text == "*" {
            return Ok(Self::ALL);
        }
        let wrong = || Fault::Action(text.to_owned());
        let start = text.get(..PREFIX.len()).filter(|start| start.eq_ignore_ascii_case(PREFIX)).ok_or_else(wrong)?;
        let pattern = Template::read(&text[start.len()..].to_ascii_lowercase(), Stars::Wild, false)?;
        let nothing = Context::new();
        let matched = Self::which(|name, _| pattern.matches(&name.to_ascii_lowercase(), &nothing) == Some(true));
        if matched == Self(0) { Err(wrong()) } else { Ok(matched) }
    }

    pub(crate) fn of_all(sets: &[(&str, Self)]) -> Self {
        Self(sets.iter().fold(0, |all, (_, set)| all | set.0))
    }

    pub(crate) fn others(self) -> Self {
        Self(Self::ALL.0 & !self.0)
    }
}
