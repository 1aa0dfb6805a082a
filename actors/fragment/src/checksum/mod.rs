//! The digests of object bytes.
//!
//! [`Digester`] computes them in one place, [`DigestPipeline`] off the async threads and beside each other, [`combine`]
//! makes a CRC of a whole from those of its parts.

pub mod combine;
mod digester;
mod pipeline;

pub use digester::{BodyDigests, Digester};
pub use pipeline::{DigestError, DigestPipeline};

/// Which digests a client sent or wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DigestPlan {
    pub md5: bool,
    pub sha256: bool,
    pub sha1: bool,
    pub crc32: bool,
    pub crc32c: bool,
    pub crc64nvme: bool,
}

/// The digests of a whole body; those not planned are None. CRCs are big-endian, as S3 writes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Digests {
    pub length: u64,
    pub md5: Option<[u8; 16]>,
    pub sha256: Option<[u8; 32]>,
    pub sha1: Option<[u8; 20]>,
    pub crc32: Option<[u8; 4]>,
    pub crc32c: Option<[u8; 4]>,
    pub crc64nvme: Option<[u8; 8]>,
}

#[cfg(test)]
mod tests;
