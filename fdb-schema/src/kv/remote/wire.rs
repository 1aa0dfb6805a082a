//! Requests and responses: one byte of format version, then rmp-serde.

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::kv::{
    KvError, Row,
    occ::{CommitRequest, KeyRange},
};

/// 1: the first.
pub(super) const WIRE_VERSION: u8 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Request {
    /// The newest committed version.
    Version,
    /// `at` None reads at the newest version, which the response tells.
    GetMany {
        at: Option<u64>,
        keys: Vec<Bytes>,
    },
    Range {
        at: Option<u64>,
        range: KeyRange,
        limit: u32,
        reverse: bool,
    },
    Commit(CommitRequest),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Response {
    Version(u64),
    /// Values of the first keys asked for: as many as fit in a response, at least one.
    Values {
        at: u64,
        values: Vec<Option<Bytes>>,
    },
    Rows {
        at: u64,
        rows: Vec<Row>,
        more: bool,
    },
    Committed(u64),
    Failed(WireError),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum WireError {
    Conflict,
    TooOld,
    CommitUnknown(String),
    TooLarge {
        what: String,
        actual: u64,
        limit: u64,
    },
    Timeout(String),
    Unavailable(String),
    Storage(String),
    EmptyKey,
    /// The request was not understood.
    BadRequest(String),
}

impl From<KvError> for WireError {
    fn from(error: KvError) -> Self {
        match error {
            KvError::Conflict => Self::Conflict,
            KvError::TooOld => Self::TooOld,
            KvError::CommitUnknown(why) => Self::CommitUnknown(why),
            KvError::TooLarge { what, actual, limit } => {
                Self::TooLarge { what: what.to_owned(), actual: actual as u64, limit: limit as u64 }
            }
            KvError::EmptyKey => Self::EmptyKey,
            KvError::Timeout(why) => Self::Timeout(why),
            KvError::Unavailable(why) => Self::Unavailable(why),
            KvError::Storage(why) => Self::Storage(why),
        }
    }
}

impl From<WireError> for KvError {
    fn from(error: WireError) -> Self {
        match error {
            WireError::Conflict => Self::Conflict,
            WireError::TooOld => Self::TooOld,
            WireError::CommitUnknown(why) => Self::CommitUnknown(why),
            WireError::TooLarge { what, actual, limit } => {
                let what = match &*what {
                    "key" => "key",
                    "value" => "value",
                    _ => "transaction",
                };
                let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
                Self::TooLarge { what, actual: size(actual), limit: size(limit) }
            }
            WireError::EmptyKey => Self::EmptyKey,
            WireError::Timeout(why) => Self::Timeout(why),
            WireError::Unavailable(why) => Self::Unavailable(why),
            WireError::Storage(why) => Self::Storage(why),
            WireError::BadRequest(why) => Self::Storage(format!("metadata server: bad request: {why}")),
        }
    }
}

/// Bytes that are not a message of a version we know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum WireFault {
    #[error("empty message")]
    Empty,
    #[error("message of format version {0}; this program speaks {WIRE_VERSION}")]
    Version(u8),
    #[error("garbled message: {0}")]
    Garbled(String),
}

pub(super) fn encode<T: Serialize>(message: &T) -> Bytes {
    let mut bytes = vec![WIRE_VERSION];
    // Writing to memory fails only for types that rmp cannot express, which these are not.
    rmp_serde::encode::write(&mut bytes, message).expect("wire messages can be encoded");
    bytes.into()
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireFault> {
    match bytes.split_first() {
        None => Err(WireFault::Empty),
        Some((&WIRE_VERSION, body)) => rmp_serde::from_slice(body).map_err(|e| WireFault::Garbled(e.to_string())),
        Some((&version, _)) => Err(WireFault::Version(version)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::kv::occ::Mutation;

    #[test]
    fn bytes_are_pinned() {
        let request = Request::Commit(CommitRequest {
            read_version: Some(7),
            reads: vec![KeyRange { begin: "a".into(), end: "b".into() }],
            extra_writes: vec![],
            mutations: vec![Mutation::Set("k".into(), "v".into()), Mutation::Add("n".into(), -1)],
        });
        let bytes = encode(&request);
        assert_eq!(
            hex::encode(&bytes),
            "0181a6436f6d6d697494079192c40161c401629092 81a353657492c4016bc40176 81a341646492c4016eff".replace(' ', "")
        );
        assert_eq!(decode::<Request>(&bytes).unwrap(), request);
        assert_eq!(hex::encode(encode(&Response::Committed(9))), "0181a9436f6d6d697474656409");
    }

    #[test]
    fn unknown_versions_and_garbage_are_refused() {
        assert_eq!(decode::<Request>(&[]), Err(WireFault::Empty));
        assert_eq!(decode::<Request>(&[2, 0]), Err(WireFault::Version(2)));
        assert!(matches!(decode::<Request>(&[1, 0xc1]), Err(WireFault::Garbled(_))));
    }
}
