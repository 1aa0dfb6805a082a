//! What decides, and what is answered.

use std::fmt;

use crate::policy::Policy;

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
    /// There is no such action.
    Action,
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
