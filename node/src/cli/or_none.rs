//! A value of the command line that may be left without bound.

use std::str::FromStr;

/// A value, or the word `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OrNone<T> {
    None,
    Value(T),
}

impl<T> OrNone<T> {
    pub(crate) fn value(self) -> Option<T> {
        match self {
            Self::None => None,
            Self::Value(value) => Some(value),
        }
    }
}

impl<T: FromStr> FromStr for OrNone<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, T::Err> {
        match text {
            "none" => Ok(Self::None),
            text => text.parse().map(Self::Value),
        }
    }
}
