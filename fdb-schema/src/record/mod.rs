//! What Cairn remembers: the domain records. Their stored bytes are the business of [`crate::codec`].

mod access;
mod blob;
mod bucket;
pub mod document;
mod encryption;
mod group_repair;
mod lease;
mod ledger;
mod lifecycle;
mod lock;
pub mod part_runs;
mod placement;
mod policy;
mod rates;
pub mod rows;
mod scheme;
mod stored;
mod upload;
mod version;

pub use access::*;
pub use blob::*;
pub use bucket::*;
pub use encryption::*;
pub use group_repair::*;
pub use lease::Lease;
pub use ledger::*;
pub use lifecycle::*;
pub use lock::*;
pub use placement::*;
pub use policy::*;
pub use rates::*;
pub use scheme::*;
pub use stored::RECORDS;
pub use upload::*;
pub use version::*;
