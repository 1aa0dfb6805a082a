//! Cairn's metadata: ids, domain records and their stored formats, the keyspace, transactions and the backends that run them.
//!
//! Layers inside the crate, each importing only those above it: [`ids`], [`record`], [`codec`], [`keyspace`], [`kv`], [`verbs`].

pub mod audit;
pub mod clock;
pub mod codec;
pub mod conformance;
pub mod error;
pub mod ids;
pub mod keyspace;
pub mod kv;
pub mod record;
pub mod transfer;
pub mod verbs;

pub use error::MetaError;
pub use verbs::Meta;
