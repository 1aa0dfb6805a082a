//! Cairn's engine: everything between an S3 request and the bytes on disks, and the actors that keep those bytes whole.
//! It knows nothing of HTTP or S3's XML.

pub mod background;
mod data_path;
pub mod durability;
pub mod error;
mod get;
pub mod membership;
pub mod metrics;
pub mod placement;
pub mod policy;
mod put;
pub mod runtime;
pub mod store;
pub mod supervisor;

pub use cairn_disk as disk;
pub use cairn_fragment as fragment;
pub use cairn_fragment::{checksum, codec, geometry, sealing};
pub use cairn_net::{tls, transport, wire};
pub use error::StoreError;
pub use store::Store;
