//! What nodes say to each other, as bytes. Pure: no sockets here.
//!
//! One bidirectional stream carries one request and its reply. Each is a *frame*:
//!
//! ```text
//!  0        1                5                 5+h              5+h+p
//!  ┌────────┬────────────────┬─────────────────┬────────────────┐
//!  │version │ h, big-endian  │ header, rmp     │ payload        │
//!  │  u8    │     u32        │ h bytes         │ p bytes        │
//!  └────────┴────────────────┴─────────────────┴────────────────┘
//! ```
//!
//! The header says `p` and an xxh3-64 of each 64 KiB block of the payload. The payload travels as its own buffers, so
//! bulk bytes are never copied into a message. A stream ends exactly behind the payload; a sender that gives up resets
//! it.

pub mod header;
pub mod message;
pub mod version;

pub use header::{Frame, FrameError, PayloadHeader};
pub use message::{RemoteError, Reply, ReplyHeader, Request, RequestHeader};
pub use version::{ALPN, WireVersion};

#[cfg(test)]
mod tests;
