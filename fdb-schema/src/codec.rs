//! Stored bytes of records: one byte of format version, then rmp-serde's compact form.
//!
//! A record that changes gets a new version: its old shape moves to a `mod v1` beside a pure function to the new one,
//! and [`Stored::migrate`] calls it. A version that nobody knows is an error, never a guess.

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use crate::error::MetaError;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    #[error("no bytes")]
    Empty,
    #[error("format version {found} is unknown; this program knows up to {known}")]
    UnknownVersion { found: u8, known: u8 },
    #[error("{0}")]
    Garbled(String),
}

/// A record with a stored form.
pub trait Stored: Serialize + DeserializeOwned {
    /// For error messages.
    const WHAT: &'static str;
    const VERSION: u8 = 1;

    /// Reads an older version; None if there never was one.
    fn migrate(_version: u8, _body: &[u8]) -> Option<Result<Self, CodecError>> {
        None
    }

    fn encode(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(128);
        bytes.push(Self::VERSION);
        // Writing to memory fails only for types that rmp cannot express, which records are not.
        rmp_serde::encode::write(&mut bytes, self).expect("records can be encoded");
        bytes.into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let (&version, body) = bytes.split_first().ok_or(CodecError::Empty)?;
        if version == Self::VERSION {
            return rmp_serde::from_slice(body).map_err(|error| CodecError::Garbled(error.to_string()));
        }
        let unknown = CodecError::UnknownVersion { found: version, known: Self::VERSION };
        Self::migrate(version, body).unwrap_or(Err(unknown))
    }

    /// [`Stored::decode`] of the row at `key`, with the error that a verb returns.
    fn read(key: &[u8], bytes: &[u8]) -> Result<Self, MetaError> {
        Self::decode(bytes).map_err(|error| corrupt(Self::WHAT, key, &error))
    }
}

/// The error for a row that cannot be read: it names the row.
pub(crate) fn corrupt(what: &'static str, key: &[u8], why: &dyn std::fmt::Display) -> MetaError {
    MetaError::Corrupt { what, why: format!("key \"{}\": {why}", key.escape_ascii()) }
}
