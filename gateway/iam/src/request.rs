//! What is asked, and what is answered.

use std::{borrow::Cow, fmt};

use crate::policy::Policy;

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

/// All policies that have a say.
#[derive(Clone, Copy, Default)]
pub struct Policies<'a> {
    /// Those of the user and of the user's groups.
    pub identity: &'a [&'a Policy],
    /// What the access key or session is limited to, whatever else allows more.
    pub session: Option<&'a Policy>,
    /// The policy of the bucket that the request is about.
    pub bucket: Option<&'a Policy>,
    /// The principal owns the bucket: allowed, as the root of an account is, what nothing denies.
    pub owner_is_principal: bool,
    /// RestrictPublicBuckets of the Block Public Access settings: a bucket policy that is public allows nothing to
    /// those outside of the account.
    pub restrict_public: bool,
}

/// Which of the policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// By its place in [`Policies::identity`].
    Identity(usize),
    Session,
    Bucket,
}

/// The statement that decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatementRef<'a> {
    pub source: Source,
    /// From 0.
    pub index: usize,
    pub sid: Option<&'a str>,
}

/// Why something is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground<'a> {
    /// The account's root asks.
    Root,
    /// The bucket's owner asks.
    Owner,
    Statement(StatementRef<'a>),
}

/// What is missing for something to be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// No policy of the user or bucket allows it.
    Grant,
    /// One does, but the session policy does not.
    SessionGrant,
    /// The bucket's policy does, but it is public, and such are restricted to the account.
    PublicAccess,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Decision<'a> {
    Allowed(Ground<'a>),
    /// By a statement that denies it: nothing else counts.
    Denied(StatementRef<'a>),
    NotAllowed(Missing),
}

impl Decision<'_> {
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed(_))
    }
}

impl fmt::Display for StatementRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "statement {}", self.index + 1)?;
        if let Some(sid) = self.sid {
            write!(f, ", Sid {sid:?},")?;
        }
        match self.source {
            Source::Identity(index) => write!(f, " of identity policy {}", index + 1),
            Source::Session => write!(f, " of the session policy"),
            Source::Bucket => write!(f, " of the bucket policy"),
        }
    }
}
