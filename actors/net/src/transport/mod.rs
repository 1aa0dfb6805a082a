//! How a fragment reaches a disk: a plain call when the disk is local, a QUIC stream when it is not.

pub mod local;
pub mod meta;
pub mod quic;
pub mod router;
pub mod service;

pub use local::LocalDisks;
pub use router::Router;
