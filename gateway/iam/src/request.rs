//! What is asked.

use std::borrow::Cow;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Principal<'a> {
    /// Nobody who signed the request.
    Anonymous,
    /// The account itself. It may do everything that no bucket policy denies.
    Root {
        /// 12 digits.
        account: &'a str,
    },
    User {
        /// 12 digits.
        account: &'a str,
        /// As in `arn:aws:iam::123456789012:user/alice`, the way in which bucket policies name it.
        arn: &'a str,
        /// Of this user only, even if another one has the same name later: `aws:userid`. Bucket policies may name it,
        /// too.
        id: &'a str,
    },
}

/// One question.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub principal: Principal<'a>,
    /// An action of S3, as in `s3:GetObject`. What is no action of S3 is never allowed by a statement.
    pub action: &'a str,
    /// `arn:aws:s3:::bucket`, `arn:aws:s3:::bucket/key`, or `arn:aws:s3:::*` for what is about no bucket.
    pub resource: &'a str,
    pub context: &'a Context<'a>,
}

/// What is known of a request besides: condition keys and their values, as text. Names are compared without case, as
/// IAM does, tags' names too: values of the same name add up.
#[derive(Clone, Debug, Default)]
pub struct Context<'a> {
    entries: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> Context<'a> {
    pub fn new() -> Self {
        Self::default()
    }

    /// Another value of `key`. Numbers are decimal, times ISO 8601 or seconds since the Unix epoch, booleans `true` or
    /// `false`, addresses as `std` writes them, binary values base64.
    pub fn add(&mut self, key: impl Into<Cow<'a, str>>, value: impl Into<Cow<'a, str>>) {
        self.entries.push((key.into(), value.into()));
    }

    /// None of them: the key is absent.
    pub fn values(&self, key: &str) -> impl Iterator<Item = &str> + Clone {
        self.entries.iter().filter(move |(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| &**value)
    }
}
