//! Why a key cannot be had.

/// Why a version's key cannot be made or opened. No message has anything of a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyError {
    #[error("there is no key named \"{0}\"")]
    NoSuchKey(String),
    #[error("version {version} of key \"{key}\" is not among the keys of this node")]
    NoSuchVersion { key: String, version: u32 },
    #[error("the key management does not allow the use of key \"{key}\": {why}")]
    Denied { key: String, why: String },
    #[error("the key management does not answer: {0}")]
    Away(String),
    /// By whom it was wrapped is right, and it does not open.
    #[error("a wrapped key does not open: it is damaged, or was wrapped by another key of this name")]
    NotOpened,
    #[error("a wrapped key is of format {0}, which this program does not know")]
    UnknownFormat(u8),
    #[error("no keys are configured")]
    NoKeys,
    #[error("the system gives no random numbers")]
    Random,
}

impl KeyError {
    /// Whether others would fail alike now, and this one may succeed later.
    pub(crate) fn is_passing(&self) -> bool {
        // What is denied is one key.
        matches!(self, Self::Away(_) | Self::NoKeys | Self::Random)
    }
}
