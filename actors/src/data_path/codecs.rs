//! The codes in use, their tables made once.

use std::collections::HashMap;

use cairn_fragment::codec::{Codec, CodecError};
use cairn_schema::record::Scheme;
use parking_lot::RwLock;

/// Schemes are few: those of the policy, and those that old blobs were written with.
#[derive(Default)]
pub(crate) struct Codecs {
    ready: RwLock<HashMap<Scheme, Codec>>,
}

impl Codecs {
    /// Bound on remembered codes: schemes come from blob records too, and a damaged one must not grow this.
    const MOST: usize = 64;

    pub(crate) fn of(&self, scheme: Scheme) -> Result<Codec, CodecError> {
        if let Some(codec) = self.ready.read().get(&scheme) {
            return Ok(codec.clone());
        }
        let codec = Codec::new(scheme)?;
        let mut ready = self.ready.write();
        if ready.len() < Self::MOST {
            ready.insert(scheme, codec.clone());
        }
        Ok(codec)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn bnd_1_codes_are_remembered_up_to_a_bound() {
        let codecs = Codecs::default();
        for copies in 1..=u8::MAX {
            assert_eq!(codecs.of(Scheme::Replicated { copies }).unwrap().width(), usize::from(copies));
        }
        assert_eq!(codecs.ready.read().len(), Codecs::MOST);
    }
}
