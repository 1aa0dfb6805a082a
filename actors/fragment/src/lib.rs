//! What a fragment is, wherever it lies: which bytes of a blob it has ([`geometry`]), how it is made of a stripe and a
//! stripe of it ([`codec`]), the checksum of each of its blocks, what a disk says about it, and how it is asked for in
//! the cluster. Pure: no files, no sockets, no actors.
//!
//! [`checksum`] has the digests of whole bodies, [`sealing`] what stands between them and what is stored, if they are
//! encrypted.

mod blocks;
mod bounded;
pub mod checksum;
mod cluster;
pub mod codec;
mod fragment;
pub mod geometry;
mod local;
mod name_digest;
mod positions;
pub mod sealing;
mod turn;

pub use {
    blocks::{BLOCK_BYTES, block_checksum, block_checksums, block_count, verify_blocks},
    bounded::Bounded,
    cluster::{Directory, Fragments, Probes, TransportError},
    fragment::{DiskError, DiskStatus, FragmentInfo, NewFragment},
    local::LocalDisk,
    name_digest::{BlobRange, NameDigest, PARTS},
    positions::Positions,
    turn::{Priority, Terms, Turn},
};
