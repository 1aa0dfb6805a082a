//! What goes wrong with the bodies of requests.

/// Why a client's body could not be read to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyFault {
    #[error("the body came too slowly")]
    TooSlow,
    #[error("the connection failed while the body was read: {0}")]
    Connection(String),
}
