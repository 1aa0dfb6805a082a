//! What Cairn remembers: the domain records. Their stored bytes are the business of [`crate::codec`].

mod blob;
mod bucket;
pub mod bytes16;
pub mod document;
mod ledger;
pub mod part_runs;
mod placement;
pub mod rows;
mod scheme;
mod upload;
mod version;

pub use blob::*;
pub use bucket::*;
pub use ledger::*;
pub use placement::*;
pub use scheme::*;
pub use upload::*;
pub use version::*;
