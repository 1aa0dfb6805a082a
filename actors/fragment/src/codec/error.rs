//! What the codes take, and why they refuse it.

use bytes::Bytes;
use cairn_schema::record::Scheme;

/// A fragment's position in its stripe, and its bytes (or the same range of bytes of each).
pub type Fragment = (u8, Bytes);

/// Input that no stripe of the scheme could have produced. Nothing here panics on bad input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    #[error("no code for scheme {scheme}: {why}")]
    Scheme { scheme: Scheme, why: String },
    #[error("a stripe of {0} bytes cannot be encoded")]
    StripeLength(usize),
    #[error("position {position} lies outside a stripe of {width} fragments")]
    Position { position: u8, width: usize },
    #[error("fragment {0} was given twice")]
    Twice(u8),
    #[error("fragment {position} has {actual} bytes, not {expected}")]
    FragmentLength { position: u8, actual: usize, expected: usize },
    #[error("{have} fragments are too few, {needed} are needed")]
    TooFew { have: usize, needed: usize },
    #[error("the code failed: {0}")]
    Code(String),
}
