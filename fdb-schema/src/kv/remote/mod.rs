//! An embedded store on one node, used from others.
//!
//! A transaction costs one exchange for each read and one for the commit: the first read brings the version that the
//! others are made at, and the commit carries everything that was read and written, so the server keeps nothing for a
//! client. What it keeps is the versions of the last seconds.

mod client;
mod server;
mod wire;

pub use client::{RemoteEngine, kv};
pub use server::RemoteServer;

use async_trait::async_trait;
use bytes::Bytes;

use crate::kv::limits;

/// No request is longer: a transaction at its limit, with what frames it.
pub const MAX_REQUEST_BYTES: usize = 2 * limits::TRANSACTION_BYTES;
/// No response is longer.
pub const MAX_RESPONSE_BYTES: usize = 4 << 20;

/// Why a transport brought no response.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransportFailure {
    /// The request certainly did not reach the server (no connection, refused, too long).
    #[error("not sent: {0}")]
    NotSent(String),
    /// It may have reached the server and may have been executed.
    #[error("no response: {0}")]
    NoResponse(String),
}

/// Carries one request to the metadata server and its response back. The client bounds the time of every call, and
/// drops the future when it is over; a dropped call may or may not have reached the server.
#[async_trait]
pub trait MetaTransport: Send + Sync + 'static {
    async fn call(&self, request: Bytes) -> Result<Bytes, TransportFailure>;
}
