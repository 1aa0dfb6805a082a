//! Events: what became of objects, told to whom a bucket's configuration names.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    ids::VersionId,
    record::{Etag, Version},
};

/// What an event is about. The names are S3's, and so is what they are called in configurations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum EventKind {
    CreatedByPut,
    CreatedByPost,
    CreatedByCopy,
    CreatedByUpload,
    /// A version is gone for good.
    Removed,
    /// A delete marker stands before it.
    Marked,
    /// As the two before, by a lifecycle.
    Expired,
    ExpiredByMarker,
    TagsPut,
    TagsDeleted,
    /// Nothing happened: somebody wants to know whether events arrive.
    Test,
}

impl EventKind {
    pub const ALL: [Self; 11] = [
        Self::CreatedByPut,
        Self::CreatedByPost,
        Self::CreatedByCopy,
        Self::CreatedByUpload,
        Self::Removed,
        Self::Marked,
        Self::Expired,
        Self::ExpiredByMarker,
        Self::TagsPut,
        Self::TagsDeleted,
        Self::Test,
    ];

    /// Without the `s3:` that configurations have before it.
    pub fn name(self) -> &'static str {
        match self {
            Self::CreatedByPut => "ObjectCreated:Put",
            Self::CreatedByPost => "ObjectCreated:Post",
            Self::CreatedByCopy => "ObjectCreated:Copy",
            Self::CreatedByUpload => "ObjectCreated:CompleteMultipartUpload",
            Self::Removed => "ObjectRemoved:Delete",
            Self::Marked => "ObjectRemoved:DeleteMarkerCreated",
            Self::Expired => "LifecycleExpiration:Delete",
            Self::ExpiredByMarker => "LifecycleExpiration:DeleteMarkerCreated",
            Self::TagsPut => "ObjectTagging:Put",
            Self::TagsDeleted => "ObjectTagging:Delete",
            Self::Test => "TestEvent",
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which events of a bucket are told to a target. All of it must fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRule {
    pub id: String,
    /// The name by which operators know it.
    pub target: String,
    pub kinds: Vec<EventKind>,
    /// Of keys, as its suffix.
    pub prefix: String,
    pub suffix: String,
}

impl EventRule {
    pub fn means(&self, kind: EventKind, key: &str) -> bool {
        self.kinds.contains(&kind) && key.starts_with(&self.prefix) && key.ends_with(&self.suffix)
    }

    /// Whether there are events that both mean: then nobody could say whom they are for.
    pub fn overlaps(&self, other: &Self) -> bool {
        let nested = |one: &str, two: &str| one.starts_with(two) || two.starts_with(one);
        let ends_nested = |one: &str, two: &str| one.ends_with(two) || two.ends_with(one);
        self.kinds.iter().any(|kind| other.kinds.contains(kind))
            && nested(&self.prefix, &other.prefix)
            && ends_nested(&self.suffix, &other.suffix)
    }
}

/// Who asked for a change, and by what request; empty for what the cluster does by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The principal, as events name it.
    pub principal: String,
    /// The other end of the request's connection.
    pub address: String,
    pub request: String,
}

/// How a version comes to be, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    pub kind: EventKind,
    pub origin: Origin,
}

impl Cause {
    pub fn new(kind: EventKind, origin: Origin) -> Self {
        Self { kind, origin }
    }
}

impl Default for Cause {
    /// A plain PUT of nobody.
    fn default() -> Self {
        Self { kind: EventKind::CreatedByPut, origin: Origin::default() }
    }
}

/// What became of a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub kind: EventKind,
    pub bucket: String,
    pub key: String,
    /// None in a bucket that never had versioning.
    pub version: Option<VersionId>,
    pub object: Option<EventObject>,
    /// When it happened, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Since when it waits: later than `at_ms` for one that was given up and is tried again.
    pub queued_ms: u64,
    /// The rule of the bucket's configuration by which it is told.
    pub rule: String,
    pub origin: Origin,
}

/// What is told of an object that there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventObject {
    pub etag: Etag,
    pub size: u64,
}

impl From<&Version> for EventObject {
    fn from(version: &Version) -> Self {
        Self { etag: version.etag, size: version.size }
    }
}

/// An event that was not delivered, and is not tried again until somebody says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadEvent {
    pub event: Event,
    pub died_ms: u64,
    /// What the target said, or why it could not.
    pub why: String,
}

/// Where an event stands among those of its target; those of one key are in the order in which they were committed.
///
/// The first byte is the stripe, the same for all events of a key. The others grow with each event of a key, also after
/// the metadata were moved to another store: when that was filled, the store's own stamp of the commit, and the place
/// among the events of the commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventPlace(pub [u8; Self::BYTES]);

impl EventPlace {
    pub const BYTES: usize = 1 + 4 + 10 + 2;

    pub fn stripe(self) -> u8 {
        self.0[0]
    }

    /// Orders the events of a key as texts are ordered.
    pub fn sequencer(self) -> String {
        hex::encode_upper(&self.0[1..])
    }
}

impl fmt::Display for EventPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl std::str::FromStr for EventPlace {
    type Err = crate::ids::IdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; Self::BYTES];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| crate::ids::IdError {
            what: "event",
            text: text.chars().take(64).collect(),
            why: "want 34 hexadecimal digits",
        })?;
        Ok(Self(bytes))
    }
}

/// An event that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedEvent {
    pub place: EventPlace,
    pub event: Event,
}

/// What there is for a target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventCounts {
    pub target: String,
    pub waiting: u64,
    pub dead: u64,
    /// Events that were never told, because too many waited or were given up.
    pub lost: u64,
    /// Since when the one waits that waits longest; None if none waits.
    pub oldest_ms: Option<u64>,
}

/// What a bucket has waiting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketEvents {
    pub bucket: String,
    pub waiting: u64,
    /// As in [`EventCounts`].
    pub lost: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_names_of_their_own() {
        let names: std::collections::BTreeSet<_> = EventKind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), EventKind::ALL.len());
    }

    #[test]
    fn rules_overlap_where_an_event_could_be_for_both() {
        let rule = |kinds: &[EventKind], prefix: &str, suffix: &str| EventRule {
            id: "r".into(),
            target: "t".into(),
            kinds: kinds.to_vec(),
            prefix: prefix.into(),
            suffix: suffix.into(),
        };
        let (put, gone) = (EventKind::CreatedByPut, EventKind::Removed);
        for (one, other, overlap) in [
            (rule(&[put], "", ""), rule(&[put], "a", ".x"), true),
            (rule(&[put], "a/", ""), rule(&[put], "b/", ""), false),
            (rule(&[put], "a/", ""), rule(&[put, gone], "a/b", ""), true),
            (rule(&[put], "", ".jpg"), rule(&[put], "", ".png"), false),
            (rule(&[put], "a", ".jpg"), rule(&[put], "ab", "g"), true),
            (rule(&[put], "", ""), rule(&[gone], "", ""), false),
        ] {
            assert_eq!((one.overlaps(&other), other.overlaps(&one)), (overlap, overlap), "{one:?} {other:?}");
        }
    }
}
