//! Names of things. Ids that begin a metadata key are random, never time-ordered: an ordered store would send every
//! write to its last shard.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::text::Shown;

/// A text that is not the id it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not a {what}: {why}", Shown(text))]
pub struct IdError {
    pub what: &'static str,
    pub text: String,
    pub why: &'static str,
}

/// 16 bytes in binary formats (a plain derive would write an array of 16 numbers), the id's text in formats for people.
macro_rules! id_serde {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    crate::bytes16::serialize(&self.0, serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    let text = String::deserialize(deserializer)?;
                    text.parse().map_err(serde::de::Error::custom)
                } else {
                    crate::bytes16::deserialize(deserializer).map(Self)
                }
            }
        }
    };
}

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        random_id!($(#[$doc])* $name, $what, std::convert::identity);
    };
    ($(#[$doc:meta])* $name:ident, $what:literal, $birth:path) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 16]);

        id_serde!($name);

        impl $name {
            /// A new random id.
            pub fn random() -> Self {
                Self($birth(rand::random()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), hex::encode(self.0))
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let mut bytes = [0; 16];
                hex::decode_to_slice(text, &mut bytes).map_err(|_| IdError {
                    what: $what,
                    text: text.chars().take(64).collect(),
                    why: "want 32 hexadecimal digits",
                })?;
                Ok(Self(bytes))
            }
        }
    };
}

random_id!(
    /// One cluster, for as long as it lives; written on every disk so that a disk of another cluster is refused.
    ClusterId, "cluster id"
);
random_id!(
    /// An immutable run of bytes written once.
    BlobId, "blob id"
);
random_id!(
    /// A multipart upload under way.
    UploadId, "upload id"
);
random_id!(
    /// A disk; written on the disk itself, so it survives moving to another node or path.
    DiskId, "disk id"
);
random_id!(
    /// A user, even among those who had the same name before.
    UserId, "user id"
);
random_id!(
    /// One attempt at one change, for telling after an unknown commit whether it happened. Its bytes 1 to 4 are the
    /// minute of its birth, so that old attempts can be forgotten without an index; its first is random like those of
    /// other ids.
    AttemptId, "attempt id", born_now
);

fn born_now(mut id: [u8; 16]) -> [u8; 16] {
    let minutes = crate::clock::now_ms() / 60_000;
    // Wraps in the year 10,000.
    #[expect(clippy::cast_possible_truncation)]
    id[1..5].copy_from_slice(&(minutes as u32).to_be_bytes());
    id
}

/// A node's name: a DNS label, the same as in its certificate.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeId(Arc<str>);

impl NodeId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if text.is_empty()
            || text.len() > 63
            || !text.chars().all(allowed)
            || text.starts_with('-')
            || text.ends_with('-')
        {
            return Err(IdError {
                what: "node id",
                text: text.chars().take(64).collect(),
                why: "want 1 to 63 lower-case letters, digits or inner hyphens",
            });
        }
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for NodeId {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<NodeId> for String {
    fn from(id: NodeId) -> String {
        id.0.to_string()
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({})", self.0)
    }
}

/// A placement group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GroupId(pub u32);

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "g{}", self.0)
    }
}

/// The name of one fragment: which position of which stripe of which blob, in the group that holds it.
/// Ordered by group first, so that a group's inventory on a disk is one range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FragmentName {
    pub group: GroupId,
    pub blob: BlobId,
    /// Index of the stripe within the blob, from 0.
    pub stripe: u32,
    /// Position within the stripe: data fragments `0..k`, then parity; for replicas, the copy's number.
    pub position: u8,
}

impl fmt::Display for FragmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}", self.group, self.blob, self.stripe, self.position)
    }
}

/// A version of an object. `NULL` is S3's "null" version. The bytes of other ids are decided inside the transaction
/// that creates the version, so that they order versions of one key by commit, newest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionId(pub [u8; 16]);

id_serde!(VersionId);

impl VersionId {
    pub const NULL: Self = Self([0xff; 16]);

    pub fn is_null(self) -> bool {
        self == Self::NULL
    }
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_null() { f.write_str("null") } else { f.write_str(&hex::encode(self.0)) }
    }
}

impl fmt::Debug for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VersionId({self})")
    }
}

impl FromStr for VersionId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if text == "null" {
            return Ok(Self::NULL);
        }
        let mut bytes = [0; 16];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| IdError {
            what: "version id",
            text: text.chars().take(64).collect(),
            why: "want \"null\" or 32 hexadecimal digits",
        })?;
        Ok(Self(bytes))
    }
}
