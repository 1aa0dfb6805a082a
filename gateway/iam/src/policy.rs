//! A policy that has been read.

use crate::error::{Fault, PolicyError};

/// IAM counts 6,144 characters of a managed policy without white space, and up to 10,240 of a group's own ones.
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
    _read: (),
}

impl Policy {
    /// # Errors
    /// What S3 and IAM call MalformedPolicy: everything that is unknown, ambiguous, without effect or too large.
    pub fn parse(kind: PolicyKind<'_>, text: &[u8]) -> Result<Self, PolicyError> {
        let most = match kind {
            PolicyKind::Identity => IDENTITY_POLICY_MAX_BYTES,
            PolicyKind::Session => SESSION_POLICY_MAX_BYTES,
            PolicyKind::Bucket { .. } => BUCKET_POLICY_MAX_BYTES,
        };
        if text.len() > most {
            return Err(PolicyError { fault: Fault::TooLarge { bytes: text.len(), most }, statement: None });
        }
        Err(PolicyError { fault: Fault::NotJson("not read yet".into()), statement: None })
    }

    /// Whether some statement asks for the condition key, in a condition or by a variable; for one that ends in `/`,
    /// any key below it (`s3:ExistingObjectTag/`). Values that nobody asks for need not be gathered.
    pub fn asks_for(&self, _key: &str) -> bool {
        false
    }

    /// Whether S3 would call the bucket policy public: some statement allows something to principals that it does not
    /// name, and is not limited to fixed values of a key that tells who asks or where from.
    pub fn is_public(&self) -> bool {
        false
    }
}
