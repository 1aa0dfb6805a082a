//! Cairn's S3 face: routes, authentication, checksums, XML and errors over [`cairn_actors::Store`].
//!
//! Nothing of S3 leaves this crate, and nothing of nodes, disks or fragments enters it. [`Gateway::start`] is all that a
//! node needs.

mod options;
mod server;

pub use options::{GatewayError, GatewayLimits, GatewayOptions};
pub use server::Gateway;
