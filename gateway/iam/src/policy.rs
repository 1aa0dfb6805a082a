//! A policy that has been read.

use std::collections::{BTreeSet, HashSet};

use crate::{
    error::{Fault, PolicyError, StatementName},
    json::{self, Json},
    public,
    statement::{Rules, Statement},
};

/// As much as all policies that IAM lets a group have of its own. Whoever wants less says so.
pub const IDENTITY_POLICY_MAX_BYTES: usize = 10 << 10;
pub const SESSION_POLICY_MAX_BYTES: usize = 10 << 10;
/// S3's bound.
pub const BUCKET_POLICY_MAX_BYTES: usize = 20 << 10;

/// What a policy is attached to: each kind has rules of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyKind<'a> {
    /// Users and groups. It names no principal: it is about whom it is attached to.
    Identity,
    /// An access key or session. Reads like those of users, but limits only.
    Session,
    /// A bucket. It names principals, and its resources are the bucket and what is in it.
    Bucket { name: &'a str },
}

/// A policy that has been read. The text stays with the caller; this does not remember it.
#[derive(Clone, Debug)]
pub struct Policy {
    statements: Vec<Statement>,
    /// In lower case.
    keys: BTreeSet<String>,
    public: bool,
}

impl Policy {
    /// Everything in it is bounded by its length, which is bounded.
    ///
    /// # Errors
    /// What S3 and IAM call MalformedPolicy: everything that is unknown, ambiguous, without effect or too large.
    pub fn parse(kind: PolicyKind<'_>, text: &[u8]) -> Result<Self, PolicyError> {
        let (most, bucket) = match kind {
            PolicyKind::Identity => (IDENTITY_POLICY_MAX_BYTES, None),
            PolicyKind::Session => (SESSION_POLICY_MAX_BYTES, None),
            PolicyKind::Bucket { name } => (BUCKET_POLICY_MAX_BYTES, Some(name)),
        };
        if text.len() > most {
            return Err(outside(Fault::TooLarge { bytes: text.len(), most }));
        }
        let json = json::read(text).map_err(outside)?;
        let (variables, statements) = head(&json).map_err(outside)?;
        let rules = Rules { bucket, variables };
        let statements = statements.iter().enumerate().map(|(index, value)| Statement::read(value, index, rules));
        let statements = statements.collect::<Result<Vec<_>, _>>()?;
        let mut sids = HashSet::new();
        for (index, statement) in statements.iter().enumerate() {
            if let Some(sid) = statement.sid.as_ref().filter(|sid| !sids.insert(&**sid)) {
                let name = StatementName { index, sid: Some(sid.clone()) };
                return Err(PolicyError { fault: Fault::DuplicateSid(sid.clone()), statement: Some(name) });
            }
        }
        let keys = statements.iter().flat_map(Statement::keys).map(str::to_ascii_lowercase).collect();
        let public = statements.iter().any(public::is_public);
        Ok(Self { statements, keys, public })
    }

    /// Whether some statement asks for the condition key, in a condition or by a variable; for one that ends in `/`,
    /// any key below it (`s3:ExistingObjectTag/`). Values that nobody asks for need not be gathered.
    pub fn asks_for(&self, key: &str) -> bool {
        let key = key.to_ascii_lowercase();
        if key.ends_with('/') {
            return self.keys.range(key.clone()..).next().is_some_and(|found| found.starts_with(&key));
        }
        self.keys.contains(&key)
    }

    /// Whether S3 would call the bucket policy public: some statement allows something to principals that it does not
    /// name, and is not limited to fixed values of a key that tells who asks or where from.
    pub fn is_public(&self) -> bool {
        self.public
    }

    pub(crate) fn statements(&self) -> &[Statement] {
        &self.statements
    }
}

fn outside(fault: Fault) -> PolicyError {
    PolicyError { fault, statement: None }
}

/// Whether there are variables, and the statements.
fn head(json: &Json) -> Result<(bool, &[Json]), Fault> {
    let fields = json.object("Policy")?;
    let (mut variables, mut statements) = (false, None);
    for (name, value) in fields {
        match &**name {
            "Version" => match value.text("Version")? {
                "2012-10-17" => variables = true,
                "2008-10-17" => {}
                other => return Err(Fault::Version(other.to_owned())),
            },
            "Id" => drop(value.text("Id")?),
            "Statement" => statements = Some(value.one_or_more("Statement")?),
            unknown => return Err(Fault::UnknownField(unknown.to_owned())),
        }
    }
    Ok((variables, statements.ok_or(Fault::MissingField("Statement"))?))
}
