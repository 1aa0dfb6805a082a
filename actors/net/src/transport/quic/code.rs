//! Why a stream or a connection was given up, as the other side sees it.

use std::time::Duration;

use quinn::VarInt;

/// The caller no longer wants the answer.
pub(super) const CANCELLED: VarInt = VarInt::from_u32(1);
/// The frame makes no sense here.
pub(super) const BAD_FRAME: VarInt = VarInt::from_u32(2);
/// The frame is of a version not spoken here.
pub(super) const BAD_VERSION: VarInt = VarInt::from_u32(3);
pub(super) const TOO_LARGE: VarInt = VarInt::from_u32(4);
pub(super) const SHUTTING_DOWN: VarInt = VarInt::from_u32(5);
pub(super) const BUSY: VarInt = VarInt::from_u32(6);
/// The certificate names no node.
pub(super) const NO_NODE: VarInt = VarInt::from_u32(7);
/// The frame was not complete in time.
pub(super) const TOO_SLOW: VarInt = VarInt::from_u32(8);

pub(super) fn meaning(code: VarInt) -> &'static str {
    match code {
        CANCELLED => "cancelled",
        BAD_FRAME => "frame not understood",
        BAD_VERSION => "frame of an unknown version",
        TOO_LARGE => "frame too large",
        SHUTTING_DOWN => "shutting down",
        BUSY => "too busy",
        NO_NODE => "certificate names no node",
        TOO_SLOW => "too slow",
        _ => "no known reason",
    }
}

/// Tells peers at once, and gives the last packets a moment to leave.
pub(super) async fn close(endpoint: &quinn::Endpoint, code: VarInt) {
    endpoint.close(code, meaning(code).as_bytes());
    let drained = endpoint.wait_idle();
    if tokio::time::timeout(Duration::from_millis(500), drained).await.is_err() {
        tracing::debug!("some peers did not acknowledge that the connection is closed");
    }
}
