//! Cairn's engine: everything between an S3 request and the bytes on disks, and the actors that keep those bytes whole.
//! It knows nothing of HTTP or S3's XML.

pub mod background;
pub mod checksum;
pub mod codec;
mod data_path;
pub mod disk;
pub mod error;
pub mod fragment;
pub mod geometry;
mod get;
pub mod membership;
pub mod metrics;
pub mod placement;
pub mod policy;
mod put;
pub mod runtime;
pub mod store;
pub mod supervisor;
pub mod tls;
pub mod transport;
pub mod wire;

pub use error::StoreError;
pub use store::Store;
