//! Versions of what nodes say to each other.

/// Names the protocol in the TLS handshake: a peer that speaks none of ours is refused there, before a byte of it is
/// read.
pub const ALPN: &[u8] = b"cairn-fragments/1";

/// The first byte of every frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireVersion {
    /// Requests for fragments, probes, metadata calls.
    V1,
}

impl WireVersion {
    pub const CURRENT: Self = Self::V1;

    pub fn byte(self) -> u8 {
        match self {
            Self::V1 => 1,
        }
    }

    pub fn of(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::V1),
            _ => None,
        }
    }
}
