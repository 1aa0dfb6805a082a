//! Bits that nobody can guess, and that do not stay in memory.

use ring::rand::{SecureRandom, SystemRandom};

use super::error::KeyError;

pub(crate) const KEY_BYTES: usize = 32;

/// A key of 256 bits, overwritten when it is dropped. It is never shown.
pub(crate) struct Secret(zeroize::Zeroizing<[u8; KEY_BYTES]>);

impl Secret {
    /// None for anything but 32 bytes.
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        let bytes = <&[u8; KEY_BYTES]>::try_from(bytes).ok()?;
        Some(Self(zeroize::Zeroizing::new(*bytes)))
    }

    pub(super) fn draw() -> Result<Self, KeyError> {
        let mut bytes = zeroize::Zeroizing::new([0; KEY_BYTES]);
        SystemRandom::new().fill(&mut *bytes).map_err(|_| KeyError::Random)?;
        Ok(Self(bytes))
    }

    pub(super) fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

impl Clone for Secret {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

pub(super) fn random<const LENGTH: usize>() -> Result<[u8; LENGTH], KeyError> {
    let mut bytes = [0; LENGTH];
    SystemRandom::new().fill(&mut bytes).map_err(|_| KeyError::Random)?;
    Ok(bytes)
}
