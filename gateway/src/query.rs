//! The path and the query of a request, decoded.

use http::Uri;
use s3s::{S3Result, s3_error};

use crate::percent::{form_decode, percent_decode};

/// The parameters in their order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn of(uri: &Uri) -> S3Result<Self> {
        let query = Self::parse(uri.query().unwrap_or_default());
        query.ok_or_else(|| s3_error!(InvalidURI, "Couldn't parse the specified URI."))
    }

    /// The same of a body that is written like a query. None if it is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let decoded = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            form_decode(name).zip(form_decode(value))
        });
        decoded.collect::<Option<_>>().map(Self)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    pub(crate) fn into_pairs(self) -> Vec<(String, String)> {
        self.0
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(other, _)| other == name)
    }

    /// The value of a parameter, which may be there once.
    pub(crate) fn get(&self, name: &str) -> S3Result<Option<&str>> {
        let mut values = self.0.iter().filter(|(other, _)| other == name).map(|(_, value)| value.as_str());
        let value = values.next();
        match values.next() {
            Some(_) => Err(s3_error!(InvalidArgument, "The parameter '{name}' is given twice.")),
            None => Ok(value),
        }
    }
}

/// What a path leads to, whether or not its names are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Bucket,
    Object,
}

impl Place {
    /// None for the service itself, and for what is no path.
    pub(crate) fn of(uri: &Uri) -> Option<Self> {
        // Decoded first, as `s3s` does it: an encoded slash divides too.
        let path = decoded_path(uri)?;
        match path.strip_prefix('/')?.split_once('/') {
            Some((_, key)) if !key.is_empty() => Some(Self::Object),
            _ if path.len() > 1 => Some(Self::Bucket),
            _ => None,
        }
    }
}

pub(crate) fn decoded_path(uri: &Uri) -> Option<String> {
    percent_decode(uri.path())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn parameters_are_decoded_and_may_be_given_once() {
        let query = Query::of(&Uri::from_static("/b?delete&a=x+y%2F&a=2&&e=")).unwrap();
        assert!(query.has("delete") && query.has("a") && !query.has("x"));
        assert_eq!(query.get("delete").unwrap(), Some(""));
        assert_eq!(query.get("x").unwrap(), None);
        assert_eq!(query.get("a").unwrap_err().code().as_str(), "InvalidArgument");
        let query = Query::of(&Uri::from_static("/b?a=x+y%2F")).unwrap();
        assert_eq!(query.get("a").unwrap(), Some("x y/"));
        assert_eq!(Query::of(&Uri::from_static("/b?a=%ff")).unwrap_err().code().as_str(), "InvalidURI");
    }

    #[test]
    fn a_plus_sign_in_a_path_is_itself() {
        assert_eq!(decoded_path(&Uri::from_static("/b/a+b%20c")).as_deref(), Some("/b/a+b c"));
    }
}
