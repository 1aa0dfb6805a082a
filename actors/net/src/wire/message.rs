//! Requests and replies.
//!
//! Errors cross the wire as their own types and become the disk's and the transport's errors again on the other side.

use std::time::Duration;

use cairn_fragment::{DiskError, DiskStatus, FragmentInfo, NameDigest, PARTS, Priority, TransportError};
use cairn_schema::ids::{DiskId, FragmentName, GroupId, NodeId};
use serde::{Deserialize, Serialize};

use super::header::{MAX_PAYLOAD_BYTES, PayloadHeader};

/// Names in one Delete; a longer list is sent in several.
pub const MAX_NAMES: usize = 10_000;
/// Fragments in one List reply; a longer one is asked for page by page.
pub const MAX_LISTED: usize = 10_000;
/// Largest metadata request or reply.
pub const MAX_META_BYTES: u32 = 24 * 1024 * 1024;
/// Room for `MAX_NAMES` names or `MAX_LISTED` fragments as they are encoded.
const MAX_TABLE_BYTES: u32 = 1024 * 1024;
/// One fragment in a List reply, at most.
const INFO_BYTES: u32 = 72;
/// One digest in a Digests reply, at most.
const DIGEST_BYTES: u32 = 32;
/// Few metadata replies are longer.
const USUAL_META_BYTES: u32 = 256 * 1024;
/// Text of an error that crosses the wire.
const MAX_TEXT_CHARS: usize = 512;

/// What a request frame says before its payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestHeader {
    /// How long the caller will wait, in milliseconds from when the request arrives.
    pub deadline_ms: u32,
    pub payload: PayloadHeader,
    pub request: Request,
    /// Left out when it is a client's, as in all frames of builds that knew no other; those refuse one that is there.
    #[serde(default, skip_serializing_if = "Priority::is_client")]
    pub priority: Priority,
}

impl RequestHeader {
    pub fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms.into())
    }
}

/// What a node asks of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// The payload is the fragment, its checksums the fragment's own.
    Put {
        disk: DiskId,
        name: FragmentName,
    },
    Get {
        disk: DiskId,
        name: FragmentName,
        start: u32,
        end: u32,
    },
    Info {
        disk: DiskId,
        name: FragmentName,
    },
    /// The payload is a `Vec<FragmentName>` of at most `MAX_NAMES`.
    Delete {
        disk: DiskId,
    },
    List {
        disk: DiskId,
        group: Option<GroupId>,
        after: Option<FragmentName>,
        limit: u32,
    },
    /// Nodes of builds before there were digests refuse it.
    Digests {
        disk: DiskId,
        group: GroupId,
        position: u8,
        /// The range of blobs: how many divisions of six bits each, and those bits.
        depth: u8,
        bits: u32,
    },
    Verify {
        disk: DiskId,
        name: FragmentName,
    },
    DiskStatus {
        disk: DiskId,
    },
    Probe,
    /// Whether `target` answers the node that is asked.
    ProbeThrough {
        target: NodeId,
    },
    /// A call to the metadata store that the peer serves; its payload belongs to the caller and that store alone.
    Meta,
}

impl Request {
    /// A name for logs and metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Put { .. } => "put",
            Self::Get { .. } => "get",
            Self::Info { .. } => "info",
            Self::Delete { .. } => "delete",
            Self::List { .. } => "list",
            Self::Digests { .. } => "digests",
            Self::Verify { .. } => "verify",
            Self::DiskStatus { .. } => "disk_status",
            Self::Probe => "probe",
            Self::ProbeThrough { .. } => "probe_through",
            Self::Meta => "meta",
        }
    }

    /// Largest payload that may come with it.
    pub fn max_payload(&self) -> u32 {
        match self {
            Self::Put { .. } => MAX_PAYLOAD_BYTES,
            Self::Delete { .. } => MAX_TABLE_BYTES,
            Self::Meta => MAX_META_BYTES,
            _ => 0,
        }
    }

    /// Largest payload that its reply may have.
    pub fn max_reply_payload(&self) -> u32 {
        match self {
            Self::Get { start, end, .. } => end.saturating_sub(*start).min(MAX_PAYLOAD_BYTES),
            Self::List { .. } => MAX_TABLE_BYTES,
            Self::Digests { .. } => PARTS as u32 * DIGEST_BYTES,
            Self::Meta => MAX_META_BYTES,
            _ => 0,
        }
    }

    /// Bytes of its reply to allow for before it is carried out: exact for fragments, usual for the rest.
    pub fn expected_reply_bytes(&self) -> u32 {
        match self {
            Self::List { limit, .. } => limit.saturating_mul(INFO_BYTES).min(MAX_TABLE_BYTES),
            Self::Meta => USUAL_META_BYTES,
            _ => self.max_reply_payload(),
        }
    }

    /// Whether asking twice does what asking once does, so that a request may be sent again on a new connection.
    pub fn is_idempotent(&self) -> bool {
        !matches!(self, Self::Meta)
    }
}

/// What a reply frame says before its payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplyHeader {
    pub payload: PayloadHeader,
    pub reply: Result<Reply, RemoteError>,
}

/// What comes back, by request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    Done,
    /// The payload is the bytes asked for.
    Bytes,
    Info(WireInfo),
    Deleted(u64),
    /// The payload is a `Vec<WireInfo>`.
    Listed,
    /// The payload is a `Vec<WireDigest>`, one for each part of the range.
    Digests,
    Status(WireStatus),
    Reached(bool),
}

impl Reply {
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Bytes => "bytes",
            Self::Info(_) => "a fragment's description",
            Self::Deleted(_) => "a number of deleted fragments",
            Self::Listed => "a list of fragments",
            Self::Digests => "digests",
            Self::Status(_) => "the status of a disk",
            Self::Reached(_) => "the reach of a node",
        }
    }
}

/// [`FragmentInfo`] as it crosses the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireInfo {
    pub name: FragmentName,
    pub length: u32,
    pub written_ms: u64,
}

impl From<FragmentInfo> for WireInfo {
    fn from(info: FragmentInfo) -> Self {
        Self { name: info.name, length: info.length, written_ms: info.written_ms }
    }
}

impl From<WireInfo> for FragmentInfo {
    fn from(info: WireInfo) -> Self {
        Self { name: info.name, length: info.length, written_ms: info.written_ms }
    }
}

/// [`NameDigest`] as it crosses the wire; the sum is its higher and its lower half.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireDigest {
    pub fragments: u64,
    pub sum: (u64, u64),
}

impl From<NameDigest> for WireDigest {
    fn from(digest: NameDigest) -> Self {
        Self { fragments: digest.fragments, sum: ((digest.sum >> 64) as u64, digest.sum as u64) }
    }
}

impl From<WireDigest> for NameDigest {
    fn from(digest: WireDigest) -> Self {
        let (high, low) = digest.sum;
        Self { fragments: digest.fragments, sum: u128::from(high) << 64 | u128::from(low) }
    }
}

/// [`DiskStatus`] as it crosses the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireStatus {
    pub capacity_bytes: u64,
    pub used_bytes: u64,
    pub free_bytes: u64,
    pub fragments: u64,
    pub writable: bool,
    pub failed: Option<String>,
    pub read_us: u64,
    pub write_us: u64,
}

impl From<DiskStatus> for WireStatus {
    fn from(status: DiskStatus) -> Self {
        Self {
            capacity_bytes: status.capacity_bytes,
            used_bytes: status.used_bytes,
            free_bytes: status.free_bytes,
            fragments: status.fragments,
            writable: status.writable,
            failed: status.failed.map(clip),
            read_us: status.read_us,
            write_us: status.write_us,
        }
    }
}

impl From<WireStatus> for DiskStatus {
    fn from(status: WireStatus) -> Self {
        Self {
            capacity_bytes: status.capacity_bytes,
            used_bytes: status.used_bytes,
            free_bytes: status.free_bytes,
            fragments: status.fragments,
            writable: status.writable,
            failed: status.failed,
            read_us: status.read_us,
            write_us: status.write_us,
        }
    }
}

/// Why a peer did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RemoteError {
    NotFound(FragmentName),
    Corrupt {
        name: FragmentName,
        what: String,
    },
    OutOfRange {
        name: FragmentName,
        start: u64,
        end: u64,
        length: u64,
    },
    Conflict(FragmentName),
    /// What arrived there is not what its checksums say.
    BadChecksum,
    Full {
        free: u64,
        reserved: u64,
    },
    ReadOnly(String),
    DiskBusy,
    Gone(String),
    Io {
        operation: String,
        why: String,
    },
    Refused {
        path: String,
        why: String,
    },
    UnknownDisk(DiskId),
    /// The node itself has too much to do.
    Busy,
    /// The deadline passed there.
    Deadline,
    /// The peer does not serve such requests, or cannot make sense of this one.
    Unsupported(String),
}

impl From<DiskError> for RemoteError {
    fn from(error: DiskError) -> Self {
        match error {
            DiskError::NotFound(name) => Self::NotFound(name),
            DiskError::Corrupt { name, what } => Self::Corrupt { name, what: clip(what) },
            // Other nodes do the same about either.
            DiskError::Unreadable { name, why } => {
                Self::Corrupt { name, what: clip(format!("it cannot be read: {why}")) }
            }
            DiskError::OutOfRange { name, start, end, length } => Self::OutOfRange { name, start, end, length },
            DiskError::Conflict(name) => Self::Conflict(name),
            DiskError::BadChecksum => Self::BadChecksum,
            DiskError::Full { free, reserved } => Self::Full { free, reserved },
            DiskError::ReadOnly(why) => Self::ReadOnly(clip(why)),
            DiskError::Busy => Self::DiskBusy,
            DiskError::Gone(why) => Self::Gone(clip(why)),
            DiskError::Io { operation, why } => Self::Io { operation: clip(operation.into()), why: clip(why) },
            DiskError::Refused { path, why } => Self::Refused { path: clip(path), why: clip(why) },
        }
    }
}

impl From<TransportError> for RemoteError {
    fn from(error: TransportError) -> Self {
        match error {
            TransportError::Disk(error) => error.into(),
            TransportError::UnknownDisk(disk) => Self::UnknownDisk(disk),
            TransportError::Deadline(_) | TransportError::Overdue(_) => Self::Deadline,
            TransportError::Busy(_) => Self::Busy,
            TransportError::BadChecksum(_) => Self::BadChecksum,
            other => Self::Unsupported(clip(other.to_string())),
        }
    }
}

impl RemoteError {
    /// The error as the caller of `node` sees it.
    pub fn into_transport(self, node: &NodeId) -> TransportError {
        let disk = match self {
            Self::NotFound(name) => DiskError::NotFound(name),
            Self::Corrupt { name, what } => DiskError::Corrupt { name, what: clip(what) },
            Self::OutOfRange { name, start, end, length } => DiskError::OutOfRange { name, start, end, length },
            Self::Conflict(name) => DiskError::Conflict(name),
            Self::BadChecksum => DiskError::BadChecksum,
            Self::Full { free, reserved } => DiskError::Full { free, reserved },
            Self::ReadOnly(why) => DiskError::ReadOnly(clip(why)),
            Self::DiskBusy => DiskError::Busy,
            Self::Gone(why) => DiskError::Gone(clip(why)),
            // The operation's name is a constant of the peer's build, which need not be one of ours.
            Self::Io { operation, why } => {
                DiskError::Io { operation: "disk operation", why: clip(format!("{operation}: {why}")) }
            }
            Self::Refused { path, why } => DiskError::Refused { path: clip(path), why: clip(why) },
            Self::UnknownDisk(disk) => return TransportError::UnknownDisk(disk),
            Self::Busy => return TransportError::Busy(node.clone()),
            Self::Deadline => return TransportError::Deadline(node.clone()),
            Self::Unsupported(why) => return TransportError::Protocol(node.clone(), clip(why)),
        };
        TransportError::Disk(disk)
    }
}

/// Bounds a text that came from, or goes to, another node.
fn clip(text: String) -> String {
    match text.char_indices().nth(MAX_TEXT_CHARS) {
        None => text,
        Some((end, _)) => text[..end].to_owned(),
    }
}
