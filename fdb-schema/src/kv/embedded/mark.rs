//! What tells a store's own batches from bytes that users chose.
//!
//! Keys and values lie in the journal as they are, so a user's may look like a whole batch. Each store therefore draws
//! a mark at random when it is made, keeps it in its FORMAT file, and writes it in the first row of every batch; no
//! user knows it.

const MARK_BYTES: usize = 16;
const VERSION_BYTES: usize = 8;

/// The row that every batch begins with; its value is the version of the commit, big-endian, and the store's mark.
pub(super) const VERSION_KEY: &[u8; 7] = b"version";
/// Far below what fjall compresses.
pub(super) const VERSION_VALUE_BYTES: usize = VERSION_BYTES + MARK_BYTES;
/// Where the mark begins in that value.
pub(super) const MARK_IN_VALUE: usize = VERSION_BYTES;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark([u8; MARK_BYTES]);

impl Mark {
    pub(super) fn random() -> Self {
        Self(rand::random())
    }

    pub(super) fn to_hex(self) -> String {
        hex::encode(self.0)
    }

    pub(super) fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; MARK_BYTES];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }

    pub(super) fn bytes(&self) -> &[u8; MARK_BYTES] {
        &self.0
    }

    /// The value of the version row.
    pub(super) fn value(self, version: u64) -> [u8; VERSION_VALUE_BYTES] {
        let mut value = [0; VERSION_VALUE_BYTES];
        value[..MARK_IN_VALUE].copy_from_slice(&version.to_be_bytes());
        value[MARK_IN_VALUE..].copy_from_slice(&self.0);
        value
    }

    /// The version in a value that this store wrote.
    pub(super) fn version(self, value: &[u8]) -> Result<u64, String> {
        let garbled = || "its version row is garbled".to_owned();
        let value = <&[u8; VERSION_VALUE_BYTES]>::try_from(value).map_err(|_| garbled())?;
        let (version, mark) = value.split_at(MARK_IN_VALUE);
        if mark != self.0 {
            return Err("its FORMAT file is of another store: put back the one that belongs to it".into());
        }
        Ok(u64::from_be_bytes(version.try_into().map_err(|_| garbled())?))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_version_is_read_only_with_its_own_mark() {
        let mark = Mark::from_hex("00112233445566778899aabbccddeeff").unwrap();
        assert_eq!(hex::encode(mark.value(0x0102)), "000000000000010200112233445566778899aabbccddeeff");
        assert_eq!(mark.version(&mark.value(0x0102)), Ok(0x0102));
        assert!(Mark::random().version(&mark.value(1)).unwrap_err().contains("another store"));
        assert!(mark.version(&7u64.to_be_bytes()).unwrap_err().contains("garbled"));
        assert_eq!(Mark::from_hex(&mark.to_hex()), Some(mark));
        assert_eq!(Mark::from_hex("00"), None);
    }
}
