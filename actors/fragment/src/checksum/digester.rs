//! Several digests of one body, fed together.

use crc_fast::CrcAlgorithm;
use md5_simd::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::Xxh3Default;

use super::{DigestPlan, Digests};

/// The digests of a body and the checksum its blob is recorded with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BodyDigests {
    pub digests: Digests,
    /// xxh3-64 with seed 0 of the whole body: `Blob::checksum` when the body becomes one blob.
    pub xxh3: u64,
}

/// Computes the planned digests of bytes given in order, in the calling thread.
pub struct Digester {
    md5: Option<Md5>,
    others: Others,
}

impl Digester {
    pub fn new(plan: DigestPlan) -> Self {
        Self { md5: plan.md5.then(Md5::new), others: Others::new(plan) }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        if let Some(md5) = &mut self.md5 {
            md5.update(bytes);
        }
        self.others.update(bytes);
    }

    pub fn finish(self) -> BodyDigests {
        let mut body = self.others.finish();
        body.digests.md5 = self.md5.map(Md5::finalize);
        body
    }

    /// Apart, so that the slowest runs beside the rest.
    pub(super) fn split(self) -> (Option<Md5>, Others) {
        (self.md5, self.others)
    }
}

/// Everything but MD5.
pub(super) struct Others {
    length: u64,
    sha256: Option<Sha256>,
    sha1: Option<Sha1>,
    crc32: Option<crc_fast::Digest>,
    crc32c: Option<crc_fast::Digest>,
    crc64nvme: Option<crc_fast::Digest>,
    /// Boxed: its buffers are large, and this state moves between threads.
    xxh3: Box<Xxh3Default>,
}

impl Others {
    fn new(plan: DigestPlan) -> Self {
        let crc = |wanted: bool, algorithm| wanted.then(|| crc_fast::Digest::new(algorithm));
        Self {
            length: 0,
            sha256: plan.sha256.then(Sha256::new),
            sha1: plan.sha1.then(Sha1::new),
            crc32: crc(plan.crc32, CrcAlgorithm::Crc32IsoHdlc),
            crc32c: crc(plan.crc32c, CrcAlgorithm::Crc32Iscsi),
            crc64nvme: crc(plan.crc64nvme, CrcAlgorithm::Crc64Nvme),
            xxh3: Box::new(Xxh3Default::new()),
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        self.xxh3.update(bytes);
        for crc in [&mut self.crc32, &mut self.crc32c, &mut self.crc64nvme].into_iter().flatten() {
            crc.update(bytes);
        }
        if let Some(sha1) = &mut self.sha1 {
            sha1.update(bytes);
        }
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(bytes);
        }
    }

    pub(super) fn finish(self) -> BodyDigests {
        let crc32 = |digest: crc_fast::Digest| (digest.finalize() as u32).to_be_bytes();
        let digests = Digests {
            length: self.length,
            md5: None,
            sha256: self.sha256.map(|digest| digest.finalize().into()),
            sha1: self.sha1.map(|digest| digest.finalize().into()),
            crc32: self.crc32.map(crc32),
            crc32c: self.crc32c.map(crc32),
            crc64nvme: self.crc64nvme.map(|digest| digest.finalize().to_be_bytes()),
        };
        BodyDigests { digests, xxh3: self.xxh3.digest() }
    }
}
