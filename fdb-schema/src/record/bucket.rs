//! Buckets.

use serde::{Deserialize, Serialize};

use crate::{
    codec::CodecError,
    error::{MetaError, Result},
    record::{BucketQuota, EventKind, EventRule, Lock, ObjectLock, RequestLimits},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Versioning {
    /// Never enabled: every object is the null version.
    Off,
    Enabled,
    Suspended,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    pub name: String,
    /// Milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// Access key's user that created it.
    pub owner: String,
    /// LocationConstraint as given at creation; empty for us-east-1.
    pub region: String,
    pub versioning: Versioning,
    /// None: versions in it cannot be locked. Once there it stays, and versioning stays enabled with it.
    #[serde(default)]
    pub object_lock: Option<ObjectLock>,
    #[serde(default)]
    pub quota: Option<BucketQuota>,
    /// Of requests for it and what is in it.
    #[serde(default)]
    pub limits: RequestLimits,
    /// What is told of what happens in it, and to whom: what its document of notifications means. No two overlap.
    #[serde(default)]
    pub event_rules: Vec<EventRule>,
}

impl Bucket {
    /// One of nobody, of which nothing was set.
    pub fn new(name: impl Into<String>, created_ms: u64) -> Self {
        Self {
            name: name.into(),
            created_ms,
            owner: String::new(),
            region: String::new(),
            versioning: Versioning::Off,
            object_lock: None,
            quota: None,
            limits: RequestLimits::default(),
            event_rules: Vec::new(),
        }
    }

    /// By which rule an event is told, if by any.
    pub fn event_rule(&self, kind: EventKind, key: &str) -> Option<&EventRule> {
        self.event_rules.iter().find(|rule| rule.means(kind, key))
    }

    /// What a new version in it is locked with, when so much is asked for.
    ///
    /// # Errors
    /// NoObjectLock if it cannot be locked.
    pub fn lock_of_new(&self, asked: Lock, made_ms: u64) -> Result<Lock> {
        match self.object_lock {
            None if asked.is_unset() => Ok(asked),
            None => Err(MetaError::NoObjectLock(self.name.clone())),
            Some(object_lock) => {
                let default = object_lock.default_retention.map(|default| default.of_version(made_ms));
                Ok(Lock { retention: asked.retention.or(default), ..asked })
            }
        }
    }
}

/// Rows of before buckets had object lock (1), quotas (2) and events (3), all of which stand where those rows end.
pub(super) fn older(version: u8, body: &[u8]) -> Option<Result<Bucket, CodecError>> {
    let read = |body| rmp_serde::from_slice(body).map_err(|error| CodecError::Garbled(error.to_string()));
    (1..=3).contains(&version).then(|| read(body))
}

/// A document attached to a bucket: stored as given, interpreted by the gateway or a background actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum BucketDocument {
    Policy,
    Cors,
    Lifecycle,
    Tags,
    Encryption,
    Notification,
    Website,
    Logging,
    Acl,
    ObjectLock,
    PublicAccessBlock,
    OwnershipControls,
}

/// What a bucket holds. Always equal to a recount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Versions that are objects (delete markers are not counted).
    pub objects: u64,
    /// Bytes of those versions.
    pub bytes: u64,
}
