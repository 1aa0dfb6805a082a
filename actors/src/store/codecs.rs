//! The codes in use, their tables made once.

use std::collections::HashMap;

use cairn_schema::{MetaError, record::Scheme};
use parking_lot::RwLock;

use crate::{codec::Codec, error::StoreError};

/// Schemes are few: those of the policy, and those that old blobs were written with.
#[derive(Default)]
pub(crate) struct Codecs {
    ready: RwLock<HashMap<Scheme, Codec>>,
}

impl Codecs {
    /// Bound on remembered codes: schemes come from blob records too, and a damaged one must not grow this.
    const MOST: usize = 64;

    pub fn of(&self, scheme: Scheme) -> Result<Codec, StoreError> {
        if let Some(codec) = self.ready.read().get(&scheme) {
            return Ok(codec.clone());
        }
        let codec = Codec::new(scheme)
            .map_err(|error| MetaError::Corrupt { what: "a scheme", why: format!("{scheme}: {error}") })?;
        let mut ready = self.ready.write();
        if ready.len() < Self::MOST {
            ready.insert(scheme, codec.clone());
        }
        Ok(codec)
    }
}
