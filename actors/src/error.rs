//! Everything that can go wrong in the store, for the gateway to turn into S3's errors.

use cairn_schema::MetaError;

/// Why an object operation did not happen. Unless it says otherwise nothing became visible.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// A bound was reached (memory, queue): the client should slow down and try again.
    #[error("too busy: {0}")]
    Busy(&'static str),
    /// Too few disks answered for the write to be safe.
    #[error("only {durable} of the {needed} fragments needed became durable: {why}")]
    NotEnoughFragments { durable: usize, needed: usize, why: String },
    /// As many fragments as are needed became durable, but too many of them in one failure domain.
    #[error("the loss of one failure domain would leave {left} of the {needed} fragments needed to read: {why}")]
    TooCrowded { left: usize, needed: usize, why: String },
    /// No group of disks can take a stripe of this scheme now.
    #[error("no placement for {scheme}: {why}")]
    NoPlacement { scheme: String, why: String },
    /// This node has too little memory to write as the cluster's policy wants it.
    #[error("this node has too little memory for the cluster's policy: {0}")]
    PolicyTooLarge(String),
    /// Too few fragments of a stripe are readable.
    #[error("stripe {stripe} of blob {blob} is unreadable now: {readable} of {needed} fragments")]
    Unreadable { blob: String, stripe: u32, readable: usize, needed: usize },
    /// Every fragment is what its checksums say, and the blob that they make up is not what was written.
    #[error("blob {blob} is not what was written: its bytes do not come to its checksum")]
    WrongBytes { blob: String },
    /// Bytes that are sealed, and do not open: they are not what was sealed for this place, or not by this key.
    #[error("blob {blob} cannot be opened: {why}")]
    NotOpened { blob: String, why: String },
    /// The body ended or failed before its declared length.
    #[error("the body failed: {0}")]
    Body(BoxError),
    /// The verifier refused the finished body (a digest differed); the gateway's own error is inside.
    #[error("the body was refused: {0}")]
    Rejected(BoxError),
    #[error("a deadline passed: {0}")]
    Timeout(&'static str),
    #[error("the node is shutting down")]
    ShuttingDown,
}

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
