//! Why a node's QUIC could not start.

use std::net::SocketAddr;

use crate::tls::TlsError;

/// Why an endpoint could not be opened.
#[derive(Debug, Clone, thiserror::Error)]
pub enum QuicError {
    #[error(transparent)]
    Identity(#[from] TlsError),
    #[error("listen on {0}: {1}")]
    Listen(SocketAddr, String),
    #[error("QUIC configuration: {0}")]
    Config(String),
    #[error("register metrics: {0}")]
    Metrics(String),
}
