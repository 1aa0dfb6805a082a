//! A version's key, and the sealing of its blobs' blocks by AES-256-GCM. Why that is sound is told in the
//! [module above](super).

use std::sync::Arc;

use cairn_actors::sealing::{BlobSealer, NotOpened, Sealer};
use cairn_schema::ids::BlobId;
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, Prk, Salt},
    hmac,
};

use super::secret::Secret;

/// What is derived from a version's key is for one purpose each.
const DOMAIN: &[u8] = b"cairn version key 1";
const BLOB: &[u8] = b"blob\0";
const TAG: &[u8] = b"entity tag\0";
const CERTAIN: &str = "the lengths are those of the algorithms";

/// Seals and opens the blobs of one version.
#[derive(Clone)]
pub(crate) struct VersionKey {
    derive: Arc<Prk>,
    /// Whether entity tags are the MD5s of bodies, as S3 has it of keys that are the cluster's.
    plain_tags: bool,
}

impl std::fmt::Debug for VersionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("VersionKey")
    }
}

impl VersionKey {
    pub(super) fn new(key: &Secret, plain_tags: bool) -> Self {
        let derive = Arc::new(Salt::new(HKDF_SHA256, DOMAIN).extract(key.bytes()));
        Self { derive, plain_tags }
    }
}

impl Sealer for VersionKey {
    fn of_blob(&self, blob: BlobId) -> Arc<dyn BlobSealer> {
        let info = [BLOB, &blob.0];
        let key = self.derive.expand(&info, &AES_256_GCM).expect(CERTAIN);
        Arc::new(BlobKey(LessSafeKey::new(UnboundKey::from(key))))
    }

    fn tag_of(&self, md5: [u8; 16]) -> [u8; 16] {
        if self.plain_tags {
            return md5;
        }
        let key = self.derive.expand(&[TAG], hmac::HMAC_SHA256).expect(CERTAIN);
        let tag = hmac::sign(&hmac::Key::from(key), &md5);
        let mut shown = [0; 16];
        shown.copy_from_slice(&tag.as_ref()[..16]);
        shown
    }
}

struct BlobKey(LessSafeKey);

/// Its number, and whether it is the last.
fn nonce(block: u64, last: bool) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[3..11].copy_from_slice(&block.to_be_bytes());
    nonce[11] = last.into();
    Nonce::assume_unique_for_key(nonce)
}

impl BlobSealer for BlobKey {
    fn seal(&self, block: u64, last: bool, plain: &[u8], out: &mut Vec<u8>) {
        let begin = out.len();
        out.extend_from_slice(plain);
        let sealed = self.0.seal_in_place_separate_tag(nonce(block, last), Aad::empty(), &mut out[begin..]);
        // It fails only for what is longer than AES-GCM can seal, which is 2^20 times a block.
        out.extend_from_slice(sealed.expect(CERTAIN).as_ref());
    }

    fn open(&self, block: u64, last: bool, sealed: &mut [u8]) -> Result<usize, NotOpened> {
        let opened = self.0.open_in_place(nonce(block, last), Aad::empty(), sealed);
        opened.map(|plain| plain.len()).map_err(|_| NotOpened { block })
    }
}

#[cfg(test)]
#[path = "blocks_tests.rs"]
mod tests;
