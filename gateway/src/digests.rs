//! Every digest that the headers of a small document may claim.

use s3s::crypto::{Checksum, Crc32, Crc32c, Crc64Nvme, Md5, Sha1, Sha256};

/// The digests of a small document body (XML), for comparison with what its headers claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BodyDigests {
    pub(crate) md5: [u8; 16],
    pub(crate) sha256: [u8; 32],
    pub(crate) sha1: [u8; 20],
    pub(crate) crc32: [u8; 4],
    pub(crate) crc32c: [u8; 4],
    pub(crate) crc64nvme: [u8; 8],
}

/// All of them at once, over one body.
pub(crate) struct Hashers {
    md5: Md5,
    sha256: Sha256,
    sha1: Sha1,
    crc32: Crc32,
    crc32c: Crc32c,
    crc64nvme: Crc64Nvme,
}

impl Hashers {
    pub(crate) fn new() -> Self {
        Self {
            md5: Md5::new(),
            sha256: Sha256::new(),
            sha1: Sha1::new(),
            crc32: Crc32::new(),
            crc32c: Crc32c::new(),
            crc64nvme: Crc64Nvme::new(),
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.md5.update(bytes);
        self.sha256.update(bytes);
        self.sha1.update(bytes);
        self.crc32.update(bytes);
        self.crc32c.update(bytes);
        self.crc64nvme.update(bytes);
    }

    pub(crate) fn finish(self) -> BodyDigests {
        BodyDigests {
            md5: self.md5.finalize(),
            sha256: self.sha256.finalize(),
            sha1: self.sha1.finalize(),
            crc32: self.crc32.finalize(),
            crc32c: self.crc32c.finalize(),
            crc64nvme: self.crc64nvme.finalize(),
        }
    }
}

/// The digests of `bytes`, as a client's body would have made them.
#[cfg(test)]
pub(crate) fn digests_of(bytes: &[u8]) -> BodyDigests {
    let mut hashers = Hashers::new();
    hashers.update(bytes);
    hashers.finish()
}
