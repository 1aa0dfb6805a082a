//! The query of a request, decoded.

use http::Uri;
use s3s::{S3Result, s3_error};

use crate::op::encoding::form_decode;

/// The parameters in their order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn of(uri: &Uri) -> S3Result<Self> {
        let mut parameters = Vec::new();
        for pair in uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = form_decode(name).zip(form_decode(value));
            parameters.push(decoded.ok_or_else(|| s3_error!(InvalidURI, "Couldn't parse the specified URI."))?);
        }
        Ok(Self(parameters))
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
}
