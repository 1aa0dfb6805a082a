//! Cairn's metadata: ids, domain records and their stored formats, the keyspace, transactions and the backends that run
//! them.
//!
//! Layers inside the crate, each importing only those before it: [`clock`], `bytes16` and [`text`], [`ids`], [`kv`],
//! [`error`], [`codec`], [`record`], [`keyspace`], [`verbs`], [`transfer`], [`audit`], [`conformance`].

pub mod audit;
mod bytes16;
pub mod clock;
pub mod codec;
pub mod conformance;
pub mod error;
pub mod ids;
pub mod keyspace;
pub mod kv;
pub mod record;
pub mod text;
pub mod transfer;
pub mod verbs;

pub use error::MetaError;
pub use verbs::Meta;
