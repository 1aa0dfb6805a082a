//! Frames: the fixed prefix, the header, and what the header says about the payload.

use bytes::{Bytes, BytesMut};
use cairn_fragment::{block_checksums, block_count, verify_blocks};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::version::WireVersion;

/// Version byte and header length.
pub const PREFIX_BYTES: usize = 5;
/// Largest header: the checksums of the largest payload fit several times.
pub const MAX_HEADER_BYTES: usize = 64 * 1024;
/// Largest payload of any kind; a request's own bound may be lower.
pub const MAX_PAYLOAD_BYTES: u32 = 64 * 1024 * 1024;

/// Why bytes are no frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("frame version {0} is not known here")]
    Version(u8),
    #[error("a header of {0} bytes is over the limit of {MAX_HEADER_BYTES}")]
    HeaderTooLarge(usize),
    #[error("the header cannot be understood: {0}")]
    Header(String),
    #[error("a payload of {length} bytes is over the limit of {limit}")]
    PayloadTooLarge { length: u32, limit: u32 },
    #[error("{checksums} checksums do not fit a payload of {length} bytes")]
    Checksums { checksums: usize, length: u32 },
    #[error("block {0} of the payload does not match its checksum")]
    BadChecksum(usize),
}

/// What a header says about the payload behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayloadHeader {
    pub length: u32,
    /// xxh3-64 of each block of `BLOCK_BYTES`.
    pub checksums: Vec<u64>,
}

impl PayloadHeader {
    /// Describes a payload whose checksums are not known yet.
    pub fn describe(payload: &[u8]) -> Result<Self, FrameError> {
        Self::with_checksums(payload, block_checksums(payload))
    }

    /// Describes a payload whose checksums came with it, from where its bytes were made.
    pub fn with_checksums(payload: &[u8], checksums: Vec<u64>) -> Result<Self, FrameError> {
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let header = Self { length, checksums };
        header.check(MAX_PAYLOAD_BYTES)?;
        Ok(header)
    }

    /// Whether such a payload may be received at all; before a byte of memory is taken for it.
    pub fn check(&self, limit: u32) -> Result<(), FrameError> {
        if self.length > limit {
            return Err(FrameError::PayloadTooLarge { length: self.length, limit });
        }
        if self.checksums.len() != block_count(self.length) {
            return Err(FrameError::Checksums { checksums: self.checksums.len(), length: self.length });
        }
        Ok(())
    }

    pub fn verify(&self, payload: &[u8]) -> Result<(), FrameError> {
        verify_blocks(payload, &self.checksums).map_err(FrameError::BadChecksum)
    }
}

/// A header encoded, prefix included, and the payload that follows it.
#[derive(Clone, Debug)]
pub struct Frame {
    pub head: Bytes,
    pub payload: Bytes,
}

impl Frame {
    pub fn encode<H: Serialize>(header: &H, payload: Bytes) -> Result<Self, FrameError> {
        let header = rmp_serde::to_vec(header).map_err(|error| FrameError::Header(error.to_string()))?;
        if header.len() > MAX_HEADER_BYTES {
            return Err(FrameError::HeaderTooLarge(header.len()));
        }
        let mut head = BytesMut::with_capacity(PREFIX_BYTES + header.len());
        head.extend_from_slice(&[WireVersion::CURRENT.byte()]);
        head.extend_from_slice(&(header.len() as u32).to_be_bytes());
        head.extend_from_slice(&header);
        Ok(Self { head: head.freeze(), payload })
    }
}

/// The length of the header behind a prefix.
pub fn header_length(prefix: &[u8; PREFIX_BYTES]) -> Result<usize, FrameError> {
    let [version, length @ ..] = *prefix;
    if WireVersion::of(version).is_none() {
        return Err(FrameError::Version(version));
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_HEADER_BYTES { Err(FrameError::HeaderTooLarge(length)) } else { Ok(length) }
}

/// Decodes a header, or a small payload that is itself a message. Bytes behind the value are refused.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, FrameError> {
    let mut rest = bytes;
    let value = rmp_serde::from_read(&mut rest).map_err(|error| FrameError::Header(error.to_string()))?;
    if rest.is_empty() { Ok(value) } else { Err(FrameError::Header(format!("{} bytes too many", rest.len()))) }
}

/// Encodes a small payload that is itself a message.
pub fn encode<T: Serialize>(value: &T) -> Result<Bytes, FrameError> {
    rmp_serde::to_vec(value).map(Bytes::from).map_err(|error| FrameError::Header(error.to_string()))
}
